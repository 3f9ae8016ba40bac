"""Synthetic bitext: monolingual text and its translation by a model, in blocks that resume.

Back-translation keeps the person's sentence as the target and the model's as the source, and is
tagged as such by its origin. Sequence-level distillation keeps the person's sentence as the source
and learns the model's answer.

    OUT/SOURCE-TARGET.tsv.zst    the bitext      OUT/blocks/    finished blocks
    OUT/report.json              counts by reason    OUT/config.yaml    the resolved configuration
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nllb.config import claim_directory, write_config
from nllb.config.fingerprints import file_fingerprint
from nllb.config.schema import FilePath, PositiveInt, RunConfig, Section, Text, repeated
from nllb.errors import DataError
from nllb.io.progress import Progress
from nllb.io.text import read_json, read_lines, write_json, write_lines

Translate = Callable[[Sequence[str], str, str], Sequence[str | None]]
"""Translates lines from a language into another, None where one is too long for the model; the
command line knows how."""
Mode = Literal["backtranslation", "distillation"]


class MonolingualText(Section):
    """A file of sentences, and the language they are translated into."""

    path: FilePath
    """One sentence per line, compressed by suffix."""
    language: Text
    """Language code of the file."""
    into: Text
    """Language code to translate into."""


class BacktranslationConfig(RunConfig):
    """One run of back-translation, or of sequence-level distillation."""

    kind: Literal["backtranslation"] = "backtranslation"
    """The kind of run."""
    model: Text
    """Model that translates: a directory, a hub name or a fairseq checkpoint."""
    text: tuple[MonolingualText, ...]
    """The monolingual files."""
    mode: Mode = "backtranslation"
    """`backtranslation`: the translation is the source; `distillation`: it is the target."""
    beam_size: PositiveInt = 4
    """Beam size of the search."""
    sampling: bool = False
    """Sample translations instead of searching for the best; NLLB searched."""
    device: Text = "auto"
    """`auto` is the GPU where there is one; or `cpu`, `cuda`."""
    block_lines: PositiveInt = 500
    """Lines in one block, the unit of work and of resuming."""
    max_length_ratio: Annotated[float, Field(ge=1)] = 3.0
    """A translation longer or shorter by more than this factor, in characters, is skipped."""
    min_characters: PositiveInt = 1
    """Shorter lines and translations are skipped."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield values that contradict each other."""
        if not self.text:
            yield "text: expected at least one file"
        if self.sampling and self.beam_size != 1:
            yield f"sampling: true needs beam_size: 1, got {self.beam_size}"
        for name in repeated(self.pair(text) for text in self.text):
            yield f"text: two files produce {name}; merge them into one"

    def pair(self, text: MonolingualText) -> str:
        """Return `SOURCE-TARGET` of the bitext that a file makes."""
        if self.mode == "backtranslation":
            return f"{text.into}-{text.language}"
        return f"{text.language}-{text.into}"


def backtranslate(
    config: BacktranslationConfig,
    out_dir: Path,
    translate: Translate,
    *,
    shard: tuple[int, int] = (0, 1),
    quiet: bool = False,
) -> dict[str, dict[str, int]]:
    """Translate this shard's blocks, and put the files together once all blocks are there.

    Returns:
        Counts by reason for each finished pair.

    Raises:
        ConfigError: the folder has blocks of another text, model or configuration.
    """
    report: dict[str, dict[str, int]] = {}
    for text in config.text:
        claim_directory(_block_dir(config, text, out_dir), _made_by(config, text))
    write_config(config, out_dir / "config.yaml")
    for text in config.text:
        lines = list(read_lines(text.path))
        blocks = list(range(0, len(lines), config.block_lines))
        folder = _block_dir(config, text, out_dir)
        with Progress(config.pair(text), total=len(lines), unit="lines", quiet=quiet) as progress:
            for number, start in enumerate(blocks):
                part = lines[start : start + config.block_lines]
                path = folder / f"{number:06d}.tsv"
                if number % shard[1] != shard[0] or path.is_file():
                    progress.resume(len(part))
                    continue
                _write_block(config, text, part, path, translate)
                progress.advance(len(part))
        done = [folder / f"{number:06d}.tsv" for number in range(len(blocks))]
        if all(path.is_file() for path in done):
            report[config.pair(text)] = _join(done, out_dir / f"{config.pair(text)}.tsv.zst")
    if len(report) == len(config.text):
        write_json(out_dir / "report.json", report)
    return report


def _block_dir(config: BacktranslationConfig, text: MonolingualText, out_dir: Path) -> Path:
    return out_dir / "blocks" / config.pair(text)


def _made_by(config: BacktranslationConfig, text: MonolingualText) -> dict[str, object]:
    """Return what a block depends on."""
    names = ("model", "mode", "beam_size", "sampling", "block_lines", "max_length_ratio")
    chosen = {name: getattr(config, name) for name in (*names, "min_characters")}
    return {"text": file_fingerprint(text.path), **chosen}


def _write_block(
    config: BacktranslationConfig,
    text: MonolingualText,
    lines: Sequence[str],
    path: Path,
    translate: Translate,
) -> None:
    counts = {"written": 0, "empty": 0, "too_long": 0, "length": 0, "same": 0}
    clean = [" ".join(line.split()) for line in lines]
    wanted = [line for line in clean if len(line) >= config.min_characters]
    counts["empty"] = len(clean) - len(wanted)
    translated = translate(wanted, text.language, text.into)
    if len(translated) != len(wanted):
        raise DataError(f"{text.path}: {len(translated)} translations of {len(wanted)} lines")
    rows = []
    for line, answer in zip(wanted, translated, strict=True):
        if answer is None:
            counts["too_long"] += 1
            continue
        output = " ".join(answer.split())
        reason = _reason(config, line, output)
        counts[reason] += 1
        if reason == "written":
            pair = (output, line) if config.mode == "backtranslation" else (line, output)
            rows.append("\t".join(pair))
    # The counts first: a block is finished when its rows are there.
    write_json(path.with_suffix(".json"), counts)
    write_lines(path, rows)


def _reason(config: BacktranslationConfig, line: str, output: str) -> str:
    if len(output) < config.min_characters:
        return "empty"
    ratio = len(output) / len(line)
    if not 1 / config.max_length_ratio <= ratio <= config.max_length_ratio:
        return "length"
    return "same" if output == line else "written"


def _join(blocks: Sequence[Path], path: Path) -> dict[str, int]:
    total: dict[str, int] = {}

    def rows() -> Iterator[str]:
        for block in blocks:
            yield from read_lines(block)

    write_lines(path, rows())
    for block in blocks:
        for reason, count in read_json(block.with_suffix(".json")).items():
            total[reason] = total.get(reason, 0) + count
    return total

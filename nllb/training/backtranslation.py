"""Synthetic bitext: monolingual text and its translation by a model, in blocks that resume.

Back-translation keeps the person's sentence as the target and the model's as the source, and is
tagged as such by its origin. Sequence-level distillation keeps the person's sentence as the source
and learns the model's answer.

    OUT/SOURCE-TARGET.tsv.zst    the bitext      OUT/blocks/    finished blocks
    OUT/report.json              counts by reason    OUT/config.yaml    the resolved configuration
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nllb.config import range_faults, repeated, write_config
from nllb.errors import DataError
from nllb.io.progress import Progress
from nllb.io.shards import file_xxh3_128
from nllb.io.text import read_json, read_lines, write_json, write_lines
from nllb.training.resuming import claim

Translate = Callable[[Sequence[str], str, str], Sequence[str | None]]
"""Translates lines from a language into another, None where one is too long for the model; the
command line knows how."""
Mode = Literal["backtranslation", "distillation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MonolingualText:
    """A file of sentences and what they are translated into."""

    path: Path
    """One sentence a line, compressed by suffix."""
    language: str
    """Language code of the file."""
    into: str
    """Language code to translate into."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BacktranslationConfig:
    """One run."""

    kind: Literal["backtranslation"] = "backtranslation"
    """What sort of run this file is."""
    model: str
    """Model that translates: a directory, a hub name or a fairseq checkpoint."""
    text: tuple[MonolingualText, ...]
    """The monolingual files."""
    mode: Mode = "backtranslation"
    """`backtranslation`: the translation is the source; `distillation`: it is the target."""
    beam_size: int = 4
    """Hypotheses kept a step of the search."""
    sampling: bool = False
    """Draw translations instead of searching for the best; NLLB searched."""
    device: str = "auto"
    """`auto` is the GPU where there is one; or `cpu`, `cuda`."""
    block_lines: int = 500
    """Lines that are finished together; an interruption loses less than that."""
    max_length_ratio: float = 3.0
    """A translation longer or shorter by more than this factor, in characters, is left out."""
    min_characters: int = 1
    """Shorter lines and translations are left out."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        if not self.text:
            yield "text: at least one file is needed"
        at_least_one = ("beam_size", "block_lines", "max_length_ratio", "min_characters")
        yield from range_faults(self, *at_least_one, least=1)
        if self.sampling and self.beam_size != 1:
            yield "sampling: true goes with beam_size: 1"
        for name in repeated(self.pair(text) for text in self.text):
            yield f"text: two files make {name}; put them into one"

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
        claim(_block_dir(config, text, out_dir), _made_by(config, text))
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
    return {"text": file_xxh3_128(text.path), **chosen}


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

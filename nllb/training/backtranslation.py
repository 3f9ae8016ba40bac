"""Synthetic bitext: monolingual text with its machine translation, written in resumable blocks.

In back-translation the human sentence is the target and the model's translation is the source. In
sequence-level distillation the human sentence is the source.

    OUT/SOURCE-TARGET.tsv.zst    the bitext          OUT/blocks/        finished blocks
    OUT/report.json              counts by reason    OUT/config.yaml    resolved configuration
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nllb.config import claim_directory, write_config
from nllb.config.fingerprints import file_fingerprint
from nllb.errors import DataError
from nllb.io.progress import Progress
from nllb.io.text import read_lines, read_object, write_json, write_lines

from .backtranslation_config import BacktranslationConfig, MonolingualText
from .translating import Translate, Translators


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedText:
    """The work for one file of monolingual text.

    Attributes:
        pair: `SOURCE-TARGET` of the bitext.
        lines: number of lines of the file.
        path: the file.
    """

    pair: str
    lines: int
    path: str


def plan_backtranslation(config: BacktranslationConfig) -> list[PlannedText]:
    """Return what would be translated."""
    return [
        PlannedText(
            pair=config.pair(text),
            lines=sum(1 for _ in read_lines(text.path)),
            path=str(text.path),
        )
        for text in config.text
    ]


def backtranslate(
    config: BacktranslationConfig,
    out_dir: Path,
    translators: Translators,
    *,
    shard: tuple[int, int] = (0, 1),
    quiet: bool = False,
) -> dict[str, dict[str, int]]:
    """Translate this shard's blocks, and join the blocks when all are finished.

    Args:
        config: the configuration.
        out_dir: output folder.
        translators: inference engine; the model is loaded when the first block needs it.
        shard: (index, number of shards) of this process.
        quiet: whether to hide progress.

    Returns:
        Number of lines by outcome, for each finished pair.

    Raises:
        ConfigError: The folder has blocks of another text, model or configuration.
    """
    report: dict[str, dict[str, int]] = {}
    model_files = translators.fingerprint(config.model)
    for text in config.text:
        made_by = _made_by(config, text, model_files)
        claim_directory(_block_dir(config, text, out_dir), made_by, ignored=["model"])
    write_config(config, out_dir / "config.yaml")

    @cache
    def loaded() -> Translate:
        return translators.load(
            config.model,
            device=config.device,
            beam_size=config.beam_size,
            sampling=config.sampling,
        )

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
                _write_block(config, text, part, path, loaded())
                progress.advance(len(part))
        done = [folder / f"{number:06d}.tsv" for number in range(len(blocks))]
        if all(path.is_file() for path in done):
            report[config.pair(text)] = _join(done, out_dir / f"{config.pair(text)}.tsv.zst")
    if len(report) == len(config.text):
        write_json(out_dir / "report.json", report)
    return report


def _block_dir(config: BacktranslationConfig, text: MonolingualText, out_dir: Path) -> Path:
    return out_dir / "blocks" / config.pair(text)


def _made_by(
    config: BacktranslationConfig, text: MonolingualText, model_files: str
) -> dict[str, object]:
    """Return the values that a block depends on."""
    names = ("model", "mode", "beam_size", "sampling", "block_lines", "max_length_ratio")
    chosen = {name: getattr(config, name) for name in (*names, "min_characters")}
    return {"text": file_fingerprint(text.path), "model files": model_files, **chosen}


def _write_block(
    config: BacktranslationConfig,
    text: MonolingualText,
    lines: Sequence[str],
    path: Path,
    translate: Translate,
) -> None:
    counts = {"written": 0, "empty": 0, "too_long": 0, "length": 0, "same": 0}
    clean = [" ".join(line.split()) for line in lines]
    kept = [line for line in clean if len(line) >= config.min_characters]
    counts["empty"] = len(clean) - len(kept)
    translated = translate(kept, text.language, text.into)
    if len(translated) != len(kept):
        raise DataError(f"{text.path}: got {len(translated)} translations of {len(kept)} lines")
    rows = []
    for line, translation in zip(kept, translated, strict=True):
        if translation is None:
            counts["too_long"] += 1
            continue
        output = " ".join(translation.split())
        reason = _outcome(config, line, output)
        counts[reason] += 1
        if reason == "written":
            pair = (output, line) if config.mode == "backtranslation" else (line, output)
            rows.append("\t".join(pair))
    # The counts are written first: a block is finished when its rows exist.
    write_json(path.with_suffix(".json"), counts)
    write_lines(path, rows)


def _outcome(config: BacktranslationConfig, line: str, output: str) -> str:
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
        for reason, count in read_object(block.with_suffix(".json")).items():
            total[reason] = total.get(reason, 0) + count
    return total

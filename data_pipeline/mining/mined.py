"""The Parquet form of mined bitext: the project's bitext form, plus the columns of the input."""

from pathlib import Path
from typing import Any, Final

import polars

from data_pipeline.blocks import text_table, write_table
from data_pipeline.stages import Block

from .mining_config import MineConfig, MinedPairConfig

_SEPARATE: Final = ("text", "language", "file", "line")


def write_mined(
    path: Path,
    config: MineConfig,
    pair: MinedPairConfig,
    *,
    key: str,
    sides: tuple[polars.DataFrame, polars.DataFrame],
    margin: Any,
    facts: dict[str, Any],
) -> None:
    """Write the mined pairs of one language pair, with the place and scores of each sentence.

    Args:
        path: the output file.
        config: the configuration of the run.
        pair: the languages.
        key: hash of everything that the pairs depend on.
        sides: `text`, `file`, `line` and any other columns of both sides, one row per pair.
        margin: margins of the pairs.
        facts: further entries of the footer.
    """
    count = len(sides[0])
    block = Block(
        name=f"{config.name}/{pair.source.code}-{pair.target.code}",
        key=key,
        path=path,
        corpus=config.name,
        source=pair.source.code,
        target=pair.target.code,
        origin="mined",
        num_rows=count,
    )
    table = text_table(
        block,
        sides[0]["text"],
        sides[1]["text"],
        polars.Series(range(1, count + 1), dtype=polars.Int64),
        polars.Series(margin, dtype=polars.Float32),
    )
    for side, frame in zip(("source", "target"), sides, strict=True):
        for column in [*_SEPARATE[2:], *sorted(set(frame.columns) - set(_SEPARATE))]:
            table = table.append_column(f"{side}_{column}", frame[column].to_arrow())
    languages = {"source": pair.source.code, "target": pair.target.code}
    write_table(path, table, {**languages, "pairs": count, **facts})

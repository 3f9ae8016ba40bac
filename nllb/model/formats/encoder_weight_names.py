"""Names of a pretrained encoder's weights in other formats, from `encoder_weights.tsv`."""

import re
from functools import cache
from pathlib import Path
from typing import Literal

from nllb.io.text import read_table

EncoderNameFormat = Literal["bert", "e5"]
_LAYER = re.compile(r"layers\.(\d+)\.")
_E5_TABLES = ("emb.word", "emb.pos", "emb.type")


def encoder_weight_name(name: str, name_format: EncoderNameFormat) -> str:
    """Return the name that a format uses for one of our weights, such as `query.weight`."""
    module, _, leaf = name.rpartition(".")
    found = _LAYER.match(module)
    layer = found[1] if found else ""
    template = _LAYER.sub("layers.{layer}.", module)
    theirs = _modules(name_format)[template].format(layer=layer)
    if name_format == "bert":
        return f"{theirs}.{leaf}"
    return theirs if theirs in _E5_TABLES else f"{theirs}.{leaf[0]}"


@cache
def _modules(name_format: EncoderNameFormat) -> dict[str, str]:
    rows = read_table(Path(__file__).parent / "encoder_weights.tsv")
    return {row["ours"]: row[name_format] for row in rows}

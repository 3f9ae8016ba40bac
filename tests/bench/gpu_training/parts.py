"""What comes back from the GPU: weights in parts of limited size, and the counters.

The parts are written to a folder beside and moved over the earlier ones; `state.json` follows with
their hashes, so that a set of parts of different moments is recognised.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

PART_BYTES = 16_000_000
MAX_PARTS = 6
STATE = "state.json"


@dataclass(kw_only=True)
class Progress:
    """The counters of a run on the GPU, over all of its calls."""

    archive: str
    """Hash of the archive that was carried in."""
    steps: int = 0
    labels: int = 0
    seconds: float = 0.0
    """Time spent training."""
    rounds: int = 0
    """Rounds of pairs that have been drawn."""
    loss: float | None = None
    """Last negative log-likelihood per label."""


class PartsError(Exception):
    """The parts are incomplete, damaged, or of another run."""


def write_parts(folder: Path, weights: Mapping[str, Tensor], progress: Progress) -> None:
    """Replace what a folder contains by these weights and counters."""
    stream = io.BytesIO()
    torch.save(dict(weights), stream)
    blob = stream.getbuffer()
    parts = [blob[begin : begin + PART_BYTES] for begin in range(0, len(blob), PART_BYTES)]
    if len(parts) > MAX_PARTS:
        raise PartsError(
            f"the weights have {len(blob):,} bytes, but at most {MAX_PARTS} parts of "
            f"{PART_BYTES:,} bytes come back"
        )
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    hashes = {}
    for number, part in enumerate(parts):
        name = f"weights-{number}.bin"
        (beside / name).write_bytes(part)
        hashes[name] = hashlib.sha256(part).hexdigest()
    document = {**asdict(progress), "parts": hashes}
    (beside / STATE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*hashes, STATE]:
        os.replace(beside / name, folder / name)
    beside.rmdir()


def read_progress(folder: Path) -> Progress | None:
    """Return the counters in a folder; None if it has none.

    Raises:
        PartsError: they are damaged.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        del document["parts"]
        return Progress(**document)
    except (ValueError, KeyError, TypeError) as error:
        raise PartsError(f"{path} is damaged: {error}") from error


def read_parts(folder: Path) -> dict[str, Tensor]:
    """Return the weights in a folder.

    Raises:
        PartsError: a part is missing or differs from its hash.
    """
    hashes = json.loads((folder / STATE).read_text(encoding="utf-8"))["parts"]
    blob = bytearray()
    for number in range(len(hashes)):
        name = f"weights-{number}.bin"
        path = folder / name
        if not path.is_file():
            raise PartsError(f"{path} is missing; {STATE} lists {len(hashes)} parts")
        part = path.read_bytes()
        if hashlib.sha256(part).hexdigest() != hashes.get(name):
            raise PartsError(
                f"{path} is not the part that {STATE} lists: the copy is damaged, or the parts "
                f"were written at different times; fetch the folder again"
            )
        blob += part
    weights: dict[str, Tensor] = torch.load(io.BytesIO(blob), weights_only=True)
    return weights

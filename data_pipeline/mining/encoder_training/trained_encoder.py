"""The output of every training run: the encoder, its card, and the hashes of its training text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numpy import int32
from numpy.typing import NDArray
from torch import Tensor

from nllb.errors import CheckpointError, DataError
from nllb.io.text import write_json
from nllb.model.formats.torch_files import load_torch_file

from ..encoders.static_encoder import save_encoder
from ..mining_config import EncoderTrainingConfig
from .training_hashes import HASHES, write_hashes
from .training_text import TrainingText

MIN_HELD_OUT_PAIRS: Final = 60
"""Languages with fewer held-out pairs do not count in the choice of the best checkpoint."""
MAX_HELD_OUT_PAIRS: Final = 200
"""Held-out pairs of one language that are measured during training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedEncoder:
    """The result of a training run."""

    directory: Path
    """Folder of the encoder."""
    size_bytes: int
    """Size of the encoder's file."""
    held_out_error: float
    """Mean xsim error on the held-out pairs, in per cent."""
    step: int
    """Training step of the chosen checkpoint."""


def write_encoder(
    config: EncoderTrainingConfig,
    text: TrainingText,
    out: Path,
    *,
    table: Tensor,
    owners: NDArray[int32],
    error: float,
    step: int,
    bits: int,
    teacher: dict[str, Any] | None = None,
) -> TrainedEncoder:
    """Write the encoder, its card, and the hashes of every sentence that it was trained on.

    Args:
        config: the configuration of the run.
        text: the training text.
        out: the output folder.
        table: the trained rows.
        owners: features that have their own row.
        error: mean xsim error on the held-out pairs, in per cent.
        step: training step of the table.
        bits: bits per value in the file.
        teacher: card of the teacher whose rows the training started from.
    """
    card = {
        "name": config.name,
        "licence": config.licence,
        "sources": text.facts,
        "languages": sorted(text.languages),
        "held_out_error": round(error, 3),
        "step": step,
        "pairs": len(text.pairs),
        "sentences": len(text.sentences),
    }
    if teacher is not None:
        card["teacher"] = teacher
    path = save_encoder(out, table=table, owners=owners, card=card, bits=bits)
    write_json(out / "encoder.json", card)
    write_hashes(out / HASHES, text.sentences)
    return TrainedEncoder(
        directory=out, size_bytes=path.stat().st_size, held_out_error=error, step=step
    )


def read_state(path: Path, key: str, *names: str) -> dict[str, Any]:
    """Read the state of an interrupted training run.

    Raises:
        CheckpointError: if the file is damaged.
        DataError: if the state belongs to another run.
    """
    state = load_torch_file(path)
    if not isinstance(state, dict) or not {"key", *names} <= state.keys():
        raise CheckpointError(f"{path} is damaged: parts of the state are missing; remove it")
    if state["key"] != key:
        raise DataError(
            f"{path} belongs to another configuration or other text; remove it, or use another "
            "output folder"
        )
    return state

"""The place of the pretrained encoder that is included in the package."""

from pathlib import Path

from nllb.errors import CheckpointError

SHIPPED_ENCODER = Path(__file__).parent.parent / "_models" / "encoder"
"""The pretrained text encoder, which is not a translation model."""
OWN_ENCODER = "encoder"
"""Folder of a model directory that has an encoder other than the one that ships."""


def find_shipped_encoder() -> Path:
    """Return the directory of the encoder that ships.

    Raises:
        CheckpointError: this installation was made without it.
    """
    if not SHIPPED_ENCODER.is_dir():
        raise CheckpointError(
            f"the pretrained encoder ships with nllb, and this installation was made without it: "
            f"{SHIPPED_ENCODER} is missing; install the package whole, or name a directory that "
            f"'nllb convert e5' wrote"
        )
    return SHIPPED_ENCODER

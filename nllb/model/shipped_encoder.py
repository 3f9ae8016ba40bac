"""The location of the pretrained encoder that ships with the package."""

from pathlib import Path

from nllb.errors import CheckpointError

SHIPPED_ENCODER = Path(__file__).parent.parent / "_models" / "encoder"
"""The pretrained text encoder, which is not a translation model."""
OWN_ENCODER = "encoder"
"""Folder in a model directory with an encoder other than the shipped one."""


def find_shipped_encoder() -> Path:
    """Return the directory of the shipped encoder.

    Raises:
        CheckpointError: this installation does not include it.
    """
    if not SHIPPED_ENCODER.is_dir():
        raise CheckpointError(
            f"the pretrained encoder ships with nllb, but this installation does not include it: "
            f"{SHIPPED_ENCODER} is missing; reinstall the complete package, or choose a directory "
            f"that 'nllb convert e5' wrote"
        )
    return SHIPPED_ENCODER

"""`sentence_space.safetensors` of an encoder directory: the common directions of its vectors."""

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from nllb.errors import CheckpointError
from nllb.io.atomic import atomic_path
from nllb.model.sentence_space import SentenceSpace

from .safetensors_files import SafetensorsFile
from .weight_checks import check_finite
from .write_errors import library_write_errors

SENTENCE_SPACE_FILE: Final = "sentence_space.safetensors"
_MEAN, _DIRECTIONS = "mean", "directions"


def read_sentence_space(directory: Path, width: int) -> SentenceSpace | None:
    """Read the file of a directory whose encoder has this width; None where it is missing.

    Raises:
        CheckpointError: the file is damaged or belongs to an encoder of another width.
    """
    path = directory / SENTENCE_SPACE_FILE
    if not path.is_file():
        return None
    file = SafetensorsFile(path)
    shapes = {name: file.shape(name) for name in file.names()}
    is_fitting = (
        shapes.keys() == {_MEAN, _DIRECTIONS}
        and shapes[_MEAN] == (width,)
        and len(shapes[_DIRECTIONS]) == 2
        and shapes[_DIRECTIONS][1] == width
        and shapes[_DIRECTIONS][0] < width
        and all(file.dtype(name) == torch.float32 for name in shapes)
    )
    if not is_fitting:
        raise CheckpointError(
            f"{path} has {shapes}, not float32 tensors '{_MEAN}' of ({width},) and "
            f"'{_DIRECTIONS}' of (K, {width}); convert the encoder again"
        )
    mean_D, directions_KD = (
        check_finite(file.read(name).clone(), f"{name} of {path}") for name in (_MEAN, _DIRECTIONS)
    )
    return SentenceSpace(mean_D=mean_D, directions_KD=directions_KD)


def write_sentence_space(directory: Path, space: SentenceSpace) -> None:
    """Write the file."""
    tensors = {_MEAN: space.mean_D, _DIRECTIONS: space.directions_KD}
    with atomic_path(directory / SENTENCE_SPACE_FILE) as beside, library_write_errors():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)

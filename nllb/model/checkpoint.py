"""Opens a model by name or path, whatever its format, and loads it into a `Transformer`."""

from pathlib import Path

import torch

from nllb.errors import CheckpointError
from nllb.model.directory import ModelDirectory
from nllb.model.hugging_face import is_hugging_face, open_hugging_face
from nllb.model.transformer import SinusoidalPositions, Transformer
from nllb.model.weights import read_weight


def open_model(name_or_dir: str | Path, *, offline: bool | None = None) -> ModelDirectory:
    """Open a local directory, a fairseq checkpoint, or a model of the Hugging Face hub by its name.

    Raises:
        CheckpointError: there is no such model, it is of another kind, or it is incomplete or
        damaged.
    """
    name, path = str(name_or_dir), Path(name_or_dir).expanduser()
    if path.is_dir() and is_hugging_face(path):
        return open_hugging_face(path, name=name)
    raise CheckpointError(f"no model at {name}")


def load_model(
    directory: ModelDirectory,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Load the whole model for evaluation.

    Weights that need no conversion stay in the memory-mapped files.
    """
    with torch.device("meta"):
        model = Transformer(directory.config)
    state = {
        name: read_weight(directory.weights, name).to(device=device, dtype=dtype)
        for name in model.state_dict()
    }
    model.load_state_dict(state, assign=True)
    model.positions = SinusoidalPositions(directory.config).to(device)
    return model.eval()

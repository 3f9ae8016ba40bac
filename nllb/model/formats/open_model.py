"""Opens a model of any format by name or path, and loads it into a `Transformer`."""

from pathlib import Path

import torch

from nllb.errors import CheckpointError, did_you_mean
from nllb.model.hub import fetch, is_hub_name
from nllb.model.known_models import known_models
from nllb.model.shipped import find_shipped, shipped_models
from nllb.model.transformer import SinusoidalPositions, Transformer

from .encoder_of_model import frozen_states, open_encoder_of_model
from .fairseq import find_fairseq, open_fairseq
from .hugging_face import is_hugging_face, open_hugging_face
from .model_directory import ModelDirectory
from .unsupported import READABLE, describe_file, describe_names, reject_unsupported_directory
from .weights import read_weight


def open_model(name_or_dir: str | Path, *, offline: bool | None = None) -> ModelDirectory:
    """Open a directory, a fairseq checkpoint, a shipped model, or a Hugging Face hub model.

    The weights are not read yet. A hub model that is not in the cache is downloaded unless
    `offline` is true (None: unless `HF_HUB_OFFLINE` is set); its size and licence are printed to
    stderr first.

    Raises:
        CheckpointError: the model does not exist, is not supported, or is incomplete or damaged.
    """
    name, path = str(name_or_dir), Path(name_or_dir).expanduser()
    if is_hugging_face(path):
        return open_hugging_face(path, name=name)
    if files := find_fairseq(path):
        return open_fairseq(files, name=name)
    if shipped := find_shipped(name):
        return open_hugging_face(shipped, name=name)
    if path.exists():
        raise CheckpointError(_not_a_model(path))
    if is_hub_name(name):
        return open_hugging_face(fetch(name, offline=offline), name=name)
    names = [model.name for model in known_models()]
    short = {model.partition("/")[2]: model for model in names}
    near = f"; did you mean {short[name]}?" if name in short else ""
    near = near or did_you_mean(name, [*shipped_models(), *names])
    raise CheckpointError(
        f"cannot find the model {name!r}: there is no such directory or file, and it is not a hub "
        f"name of the form owner/model{near or ';'} run 'nllb models' for a list of models"
    )


def load_model(
    directory: ModelDirectory,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Load the whole model for evaluation.

    Weights that do not need a conversion stay in the memory-mapped files.
    """
    with torch.device("meta"):
        model = Transformer(directory.config)
    state = {
        name: read_weight(directory.weights, name).to(device=device, dtype=dtype)
        for name in model.state_dict()
    }
    model.load_state_dict(state, assign=True)
    model.positions = SinusoidalPositions(directory.config).to(device)
    if directory.config.pretrained_layers:
        encoder = open_encoder_of_model(directory.path, directory.config)
        model.source_states = frozen_states(encoder, device, directory.config)
    return model.eval()


def _not_a_model(path: Path) -> str:
    if path.is_file():
        return describe_file(path)
    reject_unsupported_directory(path)
    names = sorted(entry.name for entry in path.iterdir())
    if described := describe_names(names):
        return f"{path} is not a model directory of {READABLE}: {described}"
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"{path} is not a model directory: it has neither a config.json of {READABLE} nor exactly "
        f"one fairseq checkpoint; it contains {listed or 'no files'}"
    )

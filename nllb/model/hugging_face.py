"""Reads model directories in the Hugging Face layout of `m2m_100` and `nllb-moe`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.errors import CheckpointError, DataError
from nllb.model.config import ModelConfig
from nllb.model.directory import SETTINGS_FILE, ModelDirectory
from nllb.model.weight_names import Weight
from nllb.model.weights import (
    Place,
    SafetensorsFile,
    TensorFile,
    TorchFile,
    Weights,
    gather_weights,
)
from nllb.textio import read_json

if TYPE_CHECKING:
    from nllb.model.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
WEIGHT_FILES = ("int8.safetensors", "model.safetensors", "pytorch_model.bin")
"""Weight files, in the order in which they are looked for; each may be shards and their index.

int8 weights have a name of their own, so that transformers, which would take the integers for the
weights, finds none and says so.
"""
_COPIES = (
    *("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"),
    *(
        "model.encoder.embed_positions.weights",
        "model.decoder.embed_positions.weights",
        "final_logits_bias",
    ),
)
"""Tensors of other makers' files that the model has already: tied weights and fixed positions."""


def is_hugging_face(path: Path) -> bool:
    """Say whether a path is a directory of this layout."""
    return (path / CONFIG_FILE).is_file()


def open_hugging_face(path: Path, *, name: str) -> ModelDirectory:
    """Open a directory: its configuration and the names of its tensors are read, no tensor is.

    Raises:
        CheckpointError: it is of another architecture, incomplete or damaged.
    """
    config = ModelConfig.from_hugging_face(
        read_document(path / CONFIG_FILE), where=str(path / CONFIG_FILE)
    )
    settings = read_document(path / SETTINGS_FILE) if (path / SETTINGS_FILE).is_file() else {}
    return ModelDirectory(
        name=name,
        path=path,
        config=config,
        weights=_open_weights(path, config),
        settings=settings,
        format="Hugging Face",
        open_tokenizer=partial(_open_tokenizer, path, config),
    )


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model directory."""
    try:
        document = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, not an object")
    return document


def _open_tokenizer(path: Path, config: ModelConfig) -> "Tokenizer":
    from nllb.model.tokenizer import Tokenizer

    return Tokenizer.open(path, vocabulary_size=config.vocabulary_size)


def _open_weights(path: Path, config: ModelConfig) -> Weights:
    files = _open_files(path)
    homes: dict[str, TensorFile] = {name: file for file in files for name in file.names()}

    def find(weight: Weight) -> Place | None:
        name = weight.name_in(config.architecture)
        names = [name, *_COPIES[:3]] if weight.template == "embedding" else [name]
        return next((Place(file=homes[name], name=name) for name in names if name in homes), None)

    weights = gather_weights(config, find, where=path)
    used = {weights.stored_name(name) for name in weights}
    if surplus := sorted(set(homes) - used - set(_COPIES)):
        raise CheckpointError(
            f"{path} holds {len(surplus)} tensors that a {config.architecture} model of its "
            f"configuration does not have, among them {', '.join(surplus[:3])}"
        )
    return weights


def _open_files(path: Path) -> list[TensorFile]:
    for stem in WEIGHT_FILES:
        index = path / f"{stem}.index.json"
        if index.is_file():
            names = sorted(set(read_document(index).get("weight_map", {}).values()))
            if missing := [name for name in names if not (path / name).is_file()]:
                raise CheckpointError(
                    f"{path} lacks {len(missing)} of its {len(names)} weight files, among them "
                    f"{', '.join(missing[:3])}; fetch or write it again"
                )
            return [_open_file(path / name) for name in names]
        if (path / stem).is_file():
            return [_open_file(path / stem)]
    raise CheckpointError(
        f"{path} has no weights: looked for {', '.join(WEIGHT_FILES)} and indexes of them"
    )


def _open_file(path: Path) -> TensorFile:
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)

"""Reads and writes model directories in the Hugging Face layout of `m2m_100` and `nllb-moe`.

A directory is written under a hidden name next to the output and renamed when it is complete.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nllb import __version__
from nllb.config import format_size
from nllb.errors import CheckpointError, DataError, ResourceError
from nllb.io.atomic import atomic_binary
from nllb.io.paths import path_inside
from nllb.io.text import write_json
from nllb.languages import add_languages
from nllb.model.configuration import ModelConfig, read_document

from .generation_options import GENERATION_FILE, read_generation_options
from .model_directory import ModelDirectory
from .safetensors_files import SafetensorsFile
from .settings import SETTINGS_FILE, added_languages, read_settings
from .torch_files import TorchFile
from .unsupported import describe_names, reject_quantized, reject_unsupported_directory
from .weight_files import (
    MAX_SHARD_BYTES,
    StorageType,
    storage_bytes,
    write_weights,
)
from .weight_names import Weight
from .weights import TensorFile, TensorLocation, Weights, gather_weights, without_prefix

if TYPE_CHECKING:
    from nllb.model.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
SETTINGS_VERSION = 1
WORK_FILE = "unfinished.json"
WEIGHT_FILES = ("int8.safetensors", "model.safetensors", "pytorch_model.bin")
"""Weight files in the order of preference; each may consist of shards and an index.

int8 weights have a separate file name, so that transformers reports missing weights instead of
using the integers as weights.
"""
_COPIES = (
    *("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"),
    *(
        "model.encoder.embed_positions.weights",
        "model.decoder.embed_positions.weights",
        "final_logits_bias",
    ),
)
"""Redundant tensors in files of other programs: tied weights and fixed position embeddings."""


def is_hugging_face(path: Path) -> bool:
    """Return whether a path is a directory in this layout."""
    return (path / CONFIG_FILE).is_file()


def open_hugging_face(path: Path, *, name: str) -> ModelDirectory:
    """Open a directory: read its configuration and the names of its tensors, but no tensor.

    Raises:
        CheckpointError: its architecture is not supported, or it is incomplete or damaged.
    """
    reject_unsupported_directory(path)
    config = ModelConfig.from_hugging_face(
        read_document(path_inside(path, CONFIG_FILE)), where=str(path / CONFIG_FILE)
    )
    settings = read_settings(path)
    add_languages(added_languages(path))
    return ModelDirectory(
        name=name,
        path=path,
        config=config,
        weights=_open_weights(path, config),
        settings=settings,
        format="Hugging Face",
        generation=read_generation_options(path),
        open_tokenizer=partial(open_tokenizer, path, config),
    )


def open_tokenizer(path: Path, config: ModelConfig) -> "Tokenizer":
    """Open the tokenizer of a model directory.

    Raises:
        CheckpointError: it is missing, or does not match the model.
    """
    from nllb.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.open(path, vocabulary_size=config.vocabulary_size)
    if not config.pretrained_layers:
        return tokenizer
    from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer

    from .encoder_of_model import open_encoder_of_model

    encoder = open_encoder_of_model(path, config)
    return EncoderSourceTokenizer(tokenizer, encoder.tokenizer(), encoder.path)


def _open_weights(path: Path, config: ModelConfig) -> Weights:
    files = _open_files(path)
    stored = {name: file for file in files for name in file.names()}
    places = {
        name: TensorLocation(file=stored[stored_name], name=stored_name)
        for name, stored_name in without_prefix(stored).items()
    }
    reject_quantized(list(places), path)

    def find(weight: Weight) -> TensorLocation | None:
        name = weight.name_in(config.architecture)
        names = [name, *_COPIES[:3]] if weight.template == "embedding" else [name]
        return next((places[name] for name in names if name in places), None)

    weights = gather_weights(config, find, where=path)
    used = {weights.stored_name(name) for name in weights}
    if surplus := sorted(
        name for name, place in places.items() if place.name not in used and name not in _COPIES
    ):
        raise CheckpointError(
            f"{path} contains {len(surplus)} tensors that a {config.architecture} model with its "
            f"configuration does not have, including {', '.join(surplus[:3])}"
        )
    return weights


def _open_files(path: Path) -> list[TensorFile]:
    for stem in WEIGHT_FILES:
        if (path / f"{stem}.index.json").is_file():
            paths = shard_paths(path, f"{stem}.index.json")
            if missing := [file.name for file in paths if not file.is_file()]:
                raise CheckpointError(
                    f"{path} lacks {len(missing)} of its {len(paths)} weight files, including "
                    f"{', '.join(missing[:3])}; download or write the model again"
                )
            return [_open_file(file) for file in paths]
        if (path / stem).is_file():
            return [_open_file(path_inside(path, stem))]
    described = describe_names(entry.name for entry in path.iterdir())
    raise CheckpointError(
        f"{path} has no weights: none of {', '.join(WEIGHT_FILES)} and their index files exists"
        + (f"; {described}" if described else "")
    )


def shard_paths(path: Path, index: str) -> list[Path]:
    """Return the weight files that an index names, including files that do not exist.

    Raises:
        CheckpointError: the index is damaged, or names a file outside the directory.
    """
    where = path_inside(path, index)
    weight_map = read_document(where).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{where} is damaged: it has no weight_map from tensor names to files"
        )
    paths = {path_inside(path, name, where=where) for name in weight_map.values()}
    return sorted(paths)


def _open_file(path: Path) -> TensorFile:
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


def is_free(output: Path) -> bool:
    """Return whether a path does not exist or is an empty directory, so it can be written."""
    return not output.exists() or (output.is_dir() and not any(output.iterdir()))


def write_hugging_face(
    output: Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: "Tokenizer",
    *,
    settings: Mapping[str, Any],
    generation: Mapping[str, Any] = MappingProxyType({}),
    storage: StorageType = "float32",
    companions: Iterable[Path] = (),
    work: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    advance: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Write a directory that this package opens and, unless it is int8, transformers loads.

    Args:
        output: the directory, which must not exist or must be empty.
        config: the model configuration.
        weights: the tensors by this package's names: those of an opened model, or a
            `state_dict()`.
        tokenizer: the tokenizer of the model.
        settings: the content of `nllb.json` besides the version and the storage type.
        generation: search options to recommend, by their names in transformers.
        storage: the dtype of the matrices.
        companions: other files to copy into the directory.
        work: an identifier of this conversion; shards left by an interrupted call with the same
            identifier are reused.
        max_shard_bytes: maximum size of a weight file.
        advance: is called with the number of bytes written.

    Raises:
        CheckpointError: the output already exists, or the model and the tokenizer do not match.
        ResourceError: the disk has too little free space.
    """
    if not is_free(output):
        raise CheckpointError(
            f"{output} already exists and is not empty: choose another output directory"
        )
    if tokenizer.layout.size > config.vocabulary_size:
        raise CheckpointError(
            f"the tokenizer needs {tokenizer.layout.size:,} embedding rows, but the model has "
            f"{config.vocabulary_size:,}"
        )
    part = _prepare_partial(output, work)
    with _keeping_partial(part, is_resumable=work is not None):
        _require_space(part, storage_bytes(config, storage))
        write_weights(
            part, config, weights, storage=storage, max_shard_bytes=max_shard_bytes, advance=advance
        )
        write_json(
            part / CONFIG_FILE, config.to_hugging_face() | {"torch_dtype": _torch_dtype(storage)}
        )
        write_json(part / GENERATION_FILE, _generation_config(config) | dict(generation))
        tokenizer.save(part, max_positions=config.max_positions)
        for path in companions:
            _copy(path, part / path.name)
        made = {"version": SETTINGS_VERSION, "made_by": f"nllb {__version__}"}
        write_json(part / SETTINGS_FILE, {**made, **settings, "storage": _describe(storage)})
        (part / WORK_FILE).unlink(missing_ok=True)
    if output.exists():
        output.rmdir()
    part.rename(output)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as stream, atomic_binary(target) as copy:
        shutil.copyfileobj(stream, copy)


@contextmanager
def _keeping_partial(part: Path, *, is_resumable: bool) -> Iterator[None]:
    """After an error of writing, keep the shards if the same call can use them, else nothing."""
    try:
        yield
    except DataError as error:
        if not is_resumable or not any(part.glob("*.safetensors")):
            shutil.rmtree(part, ignore_errors=True)
            raise
        raise DataError(
            f"{error}; the finished parts are in {part}: the same command resumes from them, or "
            f"remove them"
        ) from error


def _prepare_partial(output: Path, work: str | None) -> Path:
    part = output.parent / f".{output.name}.part"
    mark = part / WORK_FILE
    if part.exists() and not (work and mark.is_file() and read_document(mark).get("work") == work):
        shutil.rmtree(part)
    part.mkdir(parents=True, exist_ok=True)
    for path in part.glob(".*"):  # a partly written file of a killed process
        path.unlink()
    write_json(mark, {"work": work})
    return part


def _require_space(part: Path, num_bytes: int) -> None:
    written = sum(path.stat().st_size for path in part.iterdir())
    free = shutil.disk_usage(part).free
    if num_bytes - written > free:
        raise ResourceError(
            f"the weights need {format_size(num_bytes - written)} on the disk of {part.parent}, "
            f"but only {format_size(free)} are free"
        )


def _torch_dtype(storage: StorageType) -> str:
    return "float32" if storage == "int8" else storage


def _describe(storage: StorageType) -> dict[str, str]:
    if storage != "int8":
        return {"type": storage}
    scheme = "matrices but routers: symmetric int8, one float32 scale a row under <name>.scale"
    return {"type": storage, "scheme": scheme, "others": "float32"}


def _generation_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "bos_token_id": config.bos_id,
        "decoder_start_token_id": config.decoder_start_id,
        "eos_token_id": config.eos_id,
        "max_length": 200,
        "pad_token_id": config.pad_id,
    }

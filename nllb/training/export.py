"""Turns checkpoints of a run into model directories in the Hugging Face layout."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from nllb.config import load_config
from nllb.errors import CheckpointError, DataError
from nllb.io.manifest import read_manifest
from nllb.io.progress import stage
from nllb.io.text import write_json
from nllb.languages import languages
from nllb.model.configuration import ModelConfig, read_document
from nllb.model.formats.hugging_face import CONFIG_FILE, write_hugging_face
from nllb.model.formats.weight_files import StorageType
from nllb.model.formats.weight_names import list_weights
from nllb.model.tokenizer import Tokenizer
from nllb.training.checkpoint import WEIGHT, read_state, read_tensors
from nllb.training.train_config import TrainConfig

START_DIR, MODEL_DIR, CONFIG_NAME = "start", "model", "config.yaml"


def write_start(out_dir: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Keep the shape and the tokenizer of a run, so that its checkpoints need nothing else."""
    folder = out_dir / START_DIR
    tokenizer.save(folder, max_positions=config.max_positions)
    write_json(folder / CONFIG_FILE, config.to_hugging_face())


def is_training_checkpoint(path: Path) -> bool:
    """Say whether a path is one checkpoint of a run, or the folder of a run."""
    return _resolve(path) is not None


def export_checkpoint(
    path: Path,
    output: Path,
    *,
    storage: StorageType = "float32",
    replace: bool = False,
    quiet: bool = False,
) -> Path:
    """Write a checkpoint (of a run's folder: the newest) as a model directory.

    Raises:
        CheckpointError: it is damaged, or the output is something else already.
    """
    checkpoint = _resolve(path)
    if checkpoint is None:
        raise CheckpointError(f"{path} is no checkpoint of a training run")
    run_dir = checkpoint.parent.parent
    start = run_dir / START_DIR
    shape = ModelConfig.from_hugging_face(read_document(start / CONFIG_FILE))
    tokenizer = Tokenizer.open(start, vocabulary_size=shape.vocabulary_size)
    config = load_config(TrainConfig, run_dir / CONFIG_NAME)
    state = read_state(checkpoint)
    listed = {language.code for language in languages()}
    settings = {
        "training": {
            "step": state.step,
            "tokens": state.tokens,
            "validation": state.best if state.step == state.best_step else None,
            "data": state.made_by.get("data"),
        },
        "added_languages": [code for code in tokenizer.languages if code not in listed],
        **_licences(config),
    }
    if replace and output.exists():
        shutil.rmtree(output)
    with stage(f"model of step {state.step:,} to {output}", quiet=quiet):
        write_hugging_face(
            output,
            shape,
            _Folded(checkpoint, shape, config.routing.final_output_masking),
            tokenizer,
            settings=settings,
            storage=storage,
        )
    return output


def fold_masking(name: str, tensor: Tensor, masking: float) -> Tensor:
    """Scale a weight so that a model without final output masking computes the same."""
    is_last = ".experts." in name and ".outer." in name
    return tensor * (1 - masking) if masking and is_last else tensor


class _Folded(Mapping[str, Tensor]):
    """The weights of a checkpoint, one read at a time."""

    def __init__(self, checkpoint: Path, shape: ModelConfig, masking: float) -> None:
        self._path, self._masking = checkpoint, masking
        self._shapes = {weight.name: weight.shape for weight in list_weights(shape)}

    def __getitem__(self, name: str) -> Tensor:
        wanted = {name: torch.empty(self._shapes[name], device="meta")}
        tensor = read_tensors(self._path, wanted, WEIGHT)[name]
        return fold_masking(name, tensor, self._masking)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _licences(config: TrainConfig) -> dict[str, object]:
    try:
        corpora = read_manifest(config.data).corpora
    except DataError:  # the data may have gone since; the model is whole without it
        return {}
    return {
        "data": [
            {"name": c.name, "origin": c.origin, "licence": c.licence, "pairs": c.num_pairs}
            for c in corpora
        ]
    }


def _resolve(path: Path) -> Path | None:
    if (path / "state.json").is_file() and (path / "manifest.json").is_file():
        return path
    found = sorted((path / "checkpoints").glob("step_????????"))
    return found[-1] if found else None

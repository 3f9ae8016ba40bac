"""Exports checkpoints of a run as model directories in the Hugging Face layout."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from nllb.config import load_config
from nllb.errors import CheckpointError, DataError
from nllb.io.manifest import read_manifest
from nllb.io.progress import stage
from nllb.io.text import write_json
from nllb.languages import languages
from nllb.model.configuration import ModelConfig, read_document
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.formats.encoder_directory import EncoderDirectory, write_tuned_encoder
from nllb.model.formats.encoder_of_model import encoder_hash
from nllb.model.formats.hugging_face import CONFIG_FILE, open_tokenizer, write_hugging_face
from nllb.model.formats.weight_files import StorageType
from nllb.model.formats.weight_names import list_weights
from nllb.model.tokenizer import Tokenizer
from nllb.training.train_config import TrainConfig

from .checkpoint import find_checkpoint, read_state
from .tensor_files import WEIGHT, TensorReader

START_DIR, MODEL_DIR, CONFIG_NAME = "start", "model", "config.yaml"
TUNED_ENCODER_DIR = "tuned_encoder"


def write_start(out_dir: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Store the model configuration and the tokenizer of a run, which its exports need."""
    folder = out_dir / START_DIR
    tokenizer.save(folder, max_positions=config.max_positions)
    write_json(folder / CONFIG_FILE, config.to_hugging_face())


def is_training_checkpoint(path: Path) -> bool:
    """Return whether a path is a checkpoint, or the output folder of a run with checkpoints."""
    return find_checkpoint(path) is not None


def export_checkpoint(
    path: Path,
    output: Path,
    *,
    storage: StorageType = "float32",
    replace: bool = False,
    quiet: bool = False,
) -> Path:
    """Write a checkpoint, or the newest one of a run's output folder, as a model directory.

    Raises:
        CheckpointError: The checkpoint is damaged, or the output folder has other content.
    """
    checkpoint = find_checkpoint(path)
    if checkpoint is None:
        raise CheckpointError(f"{path} is not a checkpoint of a training run")
    run_dir = checkpoint.parent.parent
    start = run_dir / START_DIR
    shape = ModelConfig.from_hugging_face(read_document(start / CONFIG_FILE))
    tokenizer = open_tokenizer(start, shape)
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
        **_data_licences(config),
    }
    if config.model.tune_encoder:
        tokenizer, shape = _with_tuned_encoder(checkpoint, tokenizer, shape, run_dir)
    if replace and output.exists():
        shutil.rmtree(output)
    with stage(f"model of step {state.step:,} to {output}", quiet=quiet):
        write_hugging_face(
            output,
            shape,
            _FoldedWeights(checkpoint, shape, config.routing.final_output_masking),
            tokenizer,
            settings=settings,
            storage=storage,
        )
    return output


def _with_tuned_encoder(
    checkpoint: Path, tokenizer: Tokenizer, shape: ModelConfig, run_dir: Path
) -> tuple[Tokenizer, ModelConfig]:
    """Write the encoder of a checkpoint, and return the tokenizer and the shape of its model."""
    assert isinstance(tokenizer, EncoderSourceTokenizer)
    reader, before = TensorReader(checkpoint), EncoderDirectory.open(tokenizer.encoder_path)
    folder = run_dir / TUNED_ENCODER_DIR
    if folder.exists():
        shutil.rmtree(folder)
    write_tuned_encoder(folder, before, lambda name: reader.read(f"{WEIGHT}/pretrained.{name}"))
    after = EncoderDirectory.open(folder)
    tuned = EncoderSourceTokenizer(tokenizer, after.tokenizer(), folder)
    return tuned, dataclasses.replace(shape, pretrained_encoder=encoder_hash(folder))


def fold_masking(name: str, tensor: Tensor, masking: float) -> Tensor:
    """Scale a weight so that the model needs no final output masking at inference time."""
    is_last = ".experts." in name and ".outer." in name
    return tensor * (1 - masking) if masking and is_last else tensor


class _FoldedWeights(Mapping[str, Tensor]):
    """The weights of a checkpoint, read one at a time."""

    def __init__(self, checkpoint: Path, shape: ModelConfig, masking: float) -> None:
        self._reader, self._masking = TensorReader(checkpoint), masking
        self._names = dict.fromkeys(weight.name for weight in list_weights(shape))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return fold_masking(name, self._reader.read(f"{WEIGHT}/{name}"), self._masking)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _data_licences(config: TrainConfig) -> dict[str, object]:
    try:
        corpora = read_manifest(config.data).corpora
    except DataError:  # the data may have been deleted since; the export works without it
        return {}
    return {
        "data": [
            {"name": c.name, "origin": c.origin, "licence": c.licence, "pairs": c.num_pairs}
            for c in corpora
        ]
    }

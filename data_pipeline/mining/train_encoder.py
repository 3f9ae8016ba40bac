"""Train a sentence encoder, from random values or from a teacher."""

from pathlib import Path

from data_pipeline.decontamination.evaluation_sets import evaluation_sentences
from data_pipeline.mining.contrastive import train_contrastive
from data_pipeline.mining.distill import distil
from data_pipeline.mining.mining_config import EncoderTrainingConfig
from data_pipeline.mining.trained_encoder import TrainedEncoder
from data_pipeline.mining.training_text import TrainingText, collect
from nllb.errors import DataError
from nllb.io.benchmarks import sentence_hash


def train_encoder(
    config: EncoderTrainingConfig, out: Path, *, quiet: bool = False
) -> TrainedEncoder:
    """Train an encoder and write it to `out`; a second call resumes.

    Raises:
        DataError: if the sources have no pairs that may be used for training.
    """
    text = read_training_text(config, quiet=quiet)
    train = train_contrastive if config.distillation is None else distil
    return train(config, text, out, quiet=quiet)


def read_training_text(config: EncoderTrainingConfig, *, quiet: bool = False) -> TrainingText:
    """Collect the training pairs without sentences of the evaluation sets."""
    excluded = frozenset(
        sentence_hash(sentence)
        for sentence, _ in evaluation_sentences(config.decontamination, config.data_dir)
        if sentence.strip()
    )
    text = collect(config, excluded, quiet=quiet)
    if not len(text.pairs):
        raise DataError(
            f"there are no pairs to train on under {config.data_dir}: "
            f"{', '.join(f'{name} {counts}' for name, counts in text.facts.items())}; check "
            "`sources`, `languages` and the evaluation sets"
        )
    return text

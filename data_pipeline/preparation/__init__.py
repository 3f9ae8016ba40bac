"""From clean bitext to what training reads: vocabulary, token shards, manifest."""

from data_pipeline.preparation.preparing import prepare
from data_pipeline.preparation.vocabulary import Vocabulary, train_vocabulary

__all__ = ["Vocabulary", "prepare", "train_vocabulary"]

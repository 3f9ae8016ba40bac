"""chrF++ on held-out pairs, of a model during training and of copying the source as a baseline."""

from collections.abc import Mapping, Sequence

from sacrebleu.metrics.chrf import CHRF

from nllb.io.manifest import Manifest
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer

from .batches.reader import held_out_text
from .checkpoints.export import fold_masking
from .train_config import TrainConfig
from .translating import Translators
from .validation import Scorer


def held_out_scorer(
    config: TrainConfig, manifest: Manifest, tokenizer: Tokenizer, translators: Translators
) -> Scorer:
    """Return a scorer that translates held-out pairs of each direction greedily.

    Pairs whose source is too long for the model are excluded, as they are from the loss.
    """
    texts = list(held_out_text(manifest, tokenizer, max_pairs=config.schedule.translations))
    masking = config.routing.final_output_masking

    def score(model: Transformer) -> Mapping[str, float]:
        weights = {
            name: fold_masking(name, weight.detach(), masking)
            for name, weight in model.state_dict().items()
        }
        translate = translators.from_weights(model.config, weights, tokenizer)
        scores = {}
        for direction, sources, references in texts:
            outputs = translate(sources, direction.source, direction.target)
            pairs = [
                (output, reference)
                for output, reference in zip(outputs, references, strict=True)
                if output is not None
            ]
            if pairs:
                scores[direction.name] = chrf(*zip(*pairs, strict=True))
        return scores

    return score


def copying_scores(
    config: TrainConfig, manifest: Manifest, tokenizer: Tokenizer
) -> dict[str, float]:
    """Return the chrF++ of each direction if every source is copied as its own translation."""
    return {
        direction.name: chrf(sources, references)
        for direction, sources, references in held_out_text(
            manifest, tokenizer, max_pairs=config.schedule.translations
        )
    }


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return corpus chrF++."""
    score: float = CHRF(word_order=2).corpus_score(list(hypotheses), [list(references)]).score
    return score

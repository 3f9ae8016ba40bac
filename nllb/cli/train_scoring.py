"""Scores translations in validations: training may not import translation, so the verb does."""

from collections.abc import Mapping

from sacrebleu.metrics.chrf import CHRF

from nllb.inference.engine import TorchEngine
from nllb.inference.generator import SearchOptions
from nllb.inference.model_generator import ModelGenerator
from nllb.io.manifest import Manifest
from nllb.languages import add_languages, parse_language
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer
from nllb.training.export import fold_masking
from nllb.training.reader import held_out_text
from nllb.training.train_config import TrainConfig
from nllb.training.validation import Scorer


def make_scorer(config: TrainConfig, manifest: Manifest, tokenizer: Tokenizer) -> Scorer:
    """Return what translates held-out pairs of each direction greedily and scores chrF++."""
    add_languages(tokenizer.languages)
    texts = list(held_out_text(manifest, tokenizer, max_pairs=config.schedule.translations))
    masking = config.routing.final_output_masking

    def score(model: Transformer) -> Mapping[str, float]:
        weights = {
            name: fold_masking(name, weight.detach(), masking)
            for name, weight in model.state_dict().items()
        }
        device = model.embedding.weight.device
        engine = TorchEngine(model.config, weights, device=device, dtype=weights[_EMBEDDING].dtype)
        generator = ModelGenerator(engine, tokenizer)
        scores = {}
        for direction, sources, references in texts:
            source, target = parse_language(direction.source), parse_language(direction.target)
            # Longer pairs are left out of the loss, too.
            pairs = [
                pair
                for pair in zip(sources, references, strict=True)
                if generator.fits(pair[0], source=source)
            ]
            if not pairs:
                continue
            found = generator.generate(
                [text for text, _ in pairs],
                source=source,
                target=target,
                search=SearchOptions(beam_size=1),
            )
            outputs = [hypotheses[0].text for hypotheses in found]
            wanted = [text for _, text in pairs]
            scores[direction.name] = CHRF(word_order=2).corpus_score(outputs, [wanted]).score
        return scores

    return score


_EMBEDDING = "embedding.weight"

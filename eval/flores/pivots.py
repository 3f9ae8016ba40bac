"""Chooses the directions that a model translates better through English than directly.

The pairs come from a folder of `CODE-CODE.tsv` files without English, such as Tatoeba's, that were
not used for training.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sacrebleu.metrics.chrf import CHRF

from nllb.inference.generator import SearchOptions
from nllb.inference.model_generator import ModelGenerator
from nllb.io.corpora import Corpus
from nllb.io.text import read_json, write_json, write_lines
from nllb.languages import parse_language
from nllb.model.coverage import PIVOT, PIVOTED
from nllb.model.formats.settings import SETTINGS_FILE

PIVOTS_FILE: Final = "pivots.tsv"
MIN_PAIRS: Final = 50
"""Directions with fewer pairs are not measured; they follow the majority."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PivotScore:
    """One direction without English, translated in both ways."""

    direction: str
    """SOURCE-TARGET."""
    pairs: int
    """Number of translated pairs."""
    direct: float
    """chrF++ of direct translation."""
    pivoted: float
    """chrF++ of translation through English."""


def compare_pivots(
    generator: ModelGenerator,
    corpus: Corpus,
    *,
    max_pairs: int,
    search: SearchOptions,
    report: Callable[[PivotScore], None] = lambda score: None,
) -> list[PivotScore]:
    """Translate the pairs of each direction between covered languages directly and in two steps."""
    codes = [code for code in corpus.languages() if code != PIVOT and _covers(generator, code)]
    scores = []
    for source in codes:
        for target in codes:
            pairs = list(_first_pairs(corpus, source, target, max_pairs))
            if source == target or len(pairs) < MIN_PAIRS:
                continue
            texts, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            name = f"{source}-{target}"
            both = []
            for pivots in ((), (name,)):
                found = generator.with_pivots(pivots).generate(
                    texts,
                    source=parse_language(source),
                    target=parse_language(target),
                    search=search,
                )
                outputs = [hypotheses[0].text for hypotheses in found]
                score = CHRF(word_order=2).corpus_score(outputs, [references]).score
                both.append(round(score, 2))
            scores.append(
                PivotScore(direction=name, pairs=len(pairs), direct=both[0], pivoted=both[1])
            )
            report(scores[-1])
    return scores


def write_pivots(model_dir: Path, scores: Sequence[PivotScore], covered: Sequence[str]) -> int:
    """Write the table beside a model, and its directions of two steps into its settings.

    A direction that was not measured follows the majority of the measured ones.

    Returns:
        The number of directions that are translated in two steps.
    """
    better = {score.direction: score.pivoted > score.direct for score in scores}
    by_default = sum(better.values()) * 2 > len(better)
    names = [
        f"{source}-{target}"
        for source in covered
        for target in covered
        if source != target and PIVOT not in (source, target)
    ]
    chosen = [name for name in names if better.get(name, by_default)]
    rows = [asdict(score) for score in scores]
    lines = ["\t".join(map(str, row.values())) for row in rows]
    source = "# SOURCE: nllb eval pivots; chrF++ of pairs without English"
    write_lines(model_dir / PIVOTS_FILE, [source, "\t".join(PivotScore.__slots__), *lines])
    settings = model_dir / SETTINGS_FILE
    write_json(settings, {**read_json(settings), PIVOTED: chosen})
    return len(chosen)


def _covers(generator: ModelGenerator, code: str) -> bool:
    return code in generator.tokenizer.languages and generator.supports(parse_language(code))


def _first_pairs(
    corpus: Corpus, source: str, target: str, max_pairs: int
) -> Iterator[tuple[str, str]]:
    for number, pair in enumerate(corpus.pairs(source, target)):
        if number >= max_pairs:
            return
        yield pair.source.text, pair.target.text

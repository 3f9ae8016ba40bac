"""What int8 and a shortlist cost, measured with a real, tiny model on lines it has never seen.

Three beam sizes are averaged: a model this small is often undecided, and what tips it one way with
one beam tips it the other way with another.
"""

import shutil
from statistics import mean

import pytest
import sacrebleu

from nllb.inference.shortlist import build_shortlist, write_shortlist
from nllb.languages import parse_language
from nllb.model.tokenizer import Tokenizer
from nllb.translation import SearchOptions, Translator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHORTLIST = 1000
BEAMS = (1, 2, 4)


@pytest.fixture(scope="module")
def score(tiny_model, tmp_path_factory):
    """Return a function that gives the mean chrF++ of 1,000 held-out lines."""
    directory = tmp_path_factory.mktemp("with-shortlist") / "model"
    shutil.copytree(tiny_model.directory, directory)
    target = parse_language("ita_Latn")
    tokenizer = Tokenizer.open(directory, vocabulary_size=10_000)
    ids, report = build_shortlist(tiny_model.target_text, tokenizer, target, size=SHORTLIST)
    write_shortlist(directory, target, ids, report)
    sources, references = zip(*tiny_model.held_out, strict=True)

    def score(*, dtype, shortlist):
        translator = Translator.load(directory, device="cpu", dtype=dtype, num_threads=1)
        assert translator.generator.has_shortlist(target)
        scores = []
        for beam in BEAMS:
            translations = translator.translate(
                list(sources),
                source="en",
                target="it",
                search=SearchOptions(beam_size=beam, shortlist=shortlist),
                retry=False,
            )
            texts = [translation.text for translation in translations]
            scores.append(sacrebleu.corpus_chrf(texts, [references], word_order=2).score)
        return mean(scores)

    return score


@pytest.fixture(scope="module")
def reference_score(score):
    return score(dtype="float32", shortlist=False)


def test_the_model_translates_lines_it_has_never_seen_better_than_chance(reference_score):
    assert reference_score > 25


def test_int8_costs_at_most_0_3(score, reference_score):
    assert score(dtype="int8", shortlist=False) >= reference_score - 0.3


def test_a_shortlist_costs_at_most_0_5(score, reference_score):
    assert score(dtype="float32", shortlist=True) >= reference_score - 0.5


def test_int8_and_a_shortlist_together_cost_at_most_0_8(score, reference_score):
    assert score(dtype="int8", shortlist=True) >= reference_score - 0.8


def test_confidence_tells_good_translations_from_bad_ones(tiny_model):
    translator = Translator.load(tiny_model.directory, device="cpu", num_threads=1)
    sources, references = zip(*tiny_model.held_out, strict=True)
    translations = translator.translate(list(sources), source="en", target="it")
    scored = sorted(
        (
            translation.confidence,
            sacrebleu.sentence_chrf(translation.text, [reference], word_order=2).score,
        )
        for translation, reference in zip(translations, references, strict=True)
    )
    fifth = len(scored) // 5
    lowest, highest = (
        mean(score for _, score in part) for part in (scored[:fifth], scored[-fifth:])
    )
    assert highest > lowest + 15

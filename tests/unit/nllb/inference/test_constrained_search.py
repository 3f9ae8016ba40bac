"""Outputs have all of their terms, on all engines, with shortlists and with experts."""

import numpy as np
import pytest

from nllb.inference.constrained_search import TermState
from nllb.inference.generator import SearchOptions
from nllb.inference.model_generator import ModelGenerator
from nllb.inference.term_tokens import find_word_pieces, term_alternatives
from nllb.languages import parse_language

ENGLISH, FRENCH = parse_language("eng_Latn"), parse_language("fra_Latn")
SEGMENTS = ["French and English", "Old Norse", "Zulu"]
TERMS = ((("Swahili",), ("Latin", "Greek")), (), (("Old Tamil", "Hindi"),))


@pytest.fixture(scope="module", params=["int8", "float32"])
def generator(request, random_model_dir) -> ModelGenerator:
    return ModelGenerator.load(random_model_dir, dtype=request.param, num_threads=1)


def generate(generator, terms, **options):
    return generator.generate(
        SEGMENTS, source=ENGLISH, target=FRENCH, search=SearchOptions(**options), terms=terms
    )


def words(hypotheses) -> list[str]:
    return f" {hypotheses[0].text.lower()} ".split()


@pytest.mark.parametrize("beam_size", [1, 2, 4])
def test_every_output_has_one_form_of_each_of_its_terms(generator, beam_size) -> None:
    found = generate(generator, TERMS, beam_size=beam_size)
    assert "swahili" in words(found[0])
    assert {"latin", "greek"} & set(words(found[0]))
    assert "hindi" in words(found[2]) or "old tamil" in " ".join(words(found[2]))
    assert [hypotheses[0].source for hypotheses in found] == SEGMENTS
    assert all(len(hypotheses) == 1 for hypotheses in found)


@pytest.mark.parametrize("options", [{"no_repeat_ngram": 2}, {"min_output_tokens": 9}])
def test_other_rules_hold_beside_terms(generator, options) -> None:
    found = generate(generator, TERMS, **options)
    assert "swahili" in words(found[0])
    assert all(len(each[0].token_ids) >= options.get("min_output_tokens", 0) for each in found)


def test_scores_of_terms_are_those_of_the_whole_vocabulary(generator) -> None:
    engine = generator.engine
    memory = engine.encode([[5, 6, 7, 2], [8, 9, 2]])
    decoding = engine.decode(memory, width=1, max_positions=8)
    decoding.advance(np.array([[2, 20], [2, 20]]), np.arange(2), np.arange(2))
    ids = np.array([2, 30, 31, 400])
    whole = decoding.logits().log_softmax(-1).numpy()[:, ids]
    assert decoding.log_probabilities(ids) == pytest.approx(whole, abs=1e-3)
    decoding.best(5)
    assert decoding.log_probabilities(ids) == pytest.approx(whole, abs=1e-3)


def test_segments_without_terms_get_the_same_output_as_ever(generator) -> None:
    with_terms, without = generate(generator, TERMS), generate(generator, None)
    assert with_terms[1][0].token_ids == without[1][0].token_ids
    assert generate(generator, ((), (), ())) == without


def test_terms_need_not_be_in_the_shortlist(generator) -> None:
    ids = np.unique([2, *generator.tokenizer.encode("French and English old Norse Zulu of the in")])
    limited = generator.with_shortlist(FRENCH, ids)
    found = generate(limited, TERMS)
    assert "swahili" in words(found[0])
    assert {"latin", "greek"} & set(words(found[0]))


def test_outputs_do_not_depend_on_the_batch(generator) -> None:
    together = generate(generator, TERMS)
    for number, segment in enumerate(SEGMENTS):
        [alone] = generator.generate(
            [segment],
            source=ENGLISH,
            target=FRENCH,
            search=SearchOptions(),
            terms=[TERMS[number]],
        )
        assert alone[0].token_ids == together[number][0].token_ids


def test_a_limit_that_is_too_short_for_the_terms_still_gives_an_output(generator) -> None:
    found = generate(generator, TERMS, max_output_tokens=2)
    assert all(hypotheses and len(hypotheses[0].token_ids) <= 2 for hypotheses in found)


def test_sampling_ignores_terms(generator) -> None:
    options = {"sampling": True, "beam_size": 1, "seed": 3}
    assert generate(generator, TERMS, **options) == generate(generator, None, **options)


def test_states_follow_alternatives_token_by_token() -> None:
    start = TermState(terms=(((5, 6), (5, 7, 8)), ((9,),)), missing=(0, 1))
    assert set(start.following) == {5, 9}
    begun = start.following[5]
    assert (begun.num_met, set(begun.following)) == (1, {6, 7, 9})
    longer = begun.following[7]
    assert longer.missing == (0, 1) and set(longer.following) == {8, 9}
    done = longer.following[8]
    assert done.missing == (1,) and done.completes and done.num_met == 3
    assert done.following[9].missing == ()
    assert begun.interrupted.num_met == 0


def test_no_term_is_followed_by_a_piece_that_continues_its_word(generator) -> None:
    inside = find_word_pieces(generator.tokenizer, 800)
    forms = term_alternatives(generator.tokenizer, ["Latin", "Greek", "Swahili"], FRENCH)
    ids = generate(generator, TERMS)[0][0].token_ids
    ends = [
        start + len(form)
        for form in forms
        for start in range(len(ids) - len(form))
        if ids[start : start + len(form)] == form
    ]
    assert not any(ids[end] in inside for end in ends)


def test_forms_may_touch_other_words_where_words_are_not_spaced(generator) -> None:
    chinese = parse_language("zho_Hans")
    spaced = term_alternatives(generator.tokenizer, ["latin"], FRENCH)
    assert len(spaced) == 2  # also with a capital
    assert set(spaced) <= set(term_alternatives(generator.tokenizer, ["latin"], chinese))

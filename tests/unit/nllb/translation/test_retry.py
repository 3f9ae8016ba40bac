import pytest

from nllb.errors import DataError
from nllb.inference.generator import SearchOptions
from nllb.inference.search import check_options
from nllb.languages import parse_language
from nllb.translation.quality import FLAGS
from nllb.translation.retry import (
    RETRY_STRATEGIES,
    RetryBudget,
    SegmentError,
    translate_segments,
)

ENGLISH, FRENCH = parse_language("eng_Latn"), parse_language("fra_Latn")
SENTENCE = "The old library by the river opens at nine, and everyone is welcome to come in."
GOOD = "La vieille bibliothèque ouvre à neuf heures, et chacun est le bienvenu pour entrer."
LOOP = "La la la la la la la la la la la la la la la la la la la la la la la."


def attempt_all(generator, segments=(SENTENCE,), *, search=None, **options):
    return translate_segments(
        generator,
        list(segments),
        source=ENGLISH,
        target=FRENCH,
        search=search or SearchOptions(),
        **options,
    )


def test_a_good_output_is_asked_for_once(stand_in):
    generator = stand_in(lambda segment, search: GOOD)
    [attempt] = attempt_all(generator)
    assert attempt.hypotheses[0].text == GOOD
    assert (attempt.trust.origin, attempt.trust.attempts) == ("first", 1)
    assert len(generator.calls) == 1


def test_a_loop_is_fixed_by_blocking_repetition(stand_in):
    generator = stand_in(lambda segment, search: GOOD if search.no_repeat_ngram else LOOP)
    [attempt] = attempt_all(generator)
    assert attempt.hypotheses[0].text == GOOD
    assert (attempt.trust.origin, attempt.trust.attempts) == ("repetition_block", 2)
    assert attempt.trust.flags == ()
    assert len(generator.calls) == 2


def test_an_off_target_output_is_fixed_by_a_larger_beam(stand_in, stand_in_detector):
    def translate(segment, search):
        return GOOD if search.beam_size == 8 else "Guten Tag, das ist Deutsch und nicht gefragt."

    detector = stand_in_detector(lambda text: ("deu_Latn" if "Tag" in text else "fra_Latn", 0.99))
    [attempt] = attempt_all(stand_in(translate), detector=detector)
    assert (attempt.hypotheses[0].text, attempt.trust.origin) == (GOOD, "larger_beam")
    assert attempt.trust.output_language == "fra_Latn"


def test_the_best_hypothesis_of_a_larger_beam_is_kept(stand_in, hypothesis):
    def answer(answers):
        for hypotheses in answers:
            if len(hypotheses) > 1:
                hypotheses[2] = hypothesis(SENTENCE, GOOD)
        return answers

    generator = stand_in(lambda segment, search: "La.", answer=answer)
    [attempt] = attempt_all(generator)
    assert [each.text for each in attempt.hypotheses] == [GOOD]


def test_a_truncated_output_is_translated_in_smaller_pieces(stand_in, hypothesis):
    def translate(segment, search):
        if len(segment) == len(SENTENCE):
            return hypothesis(segment, GOOD, finished=False)
        return "une moitié de cette longue phrase."

    generator = stand_in(translate)
    [attempt] = attempt_all(generator)
    assert attempt.trust.origin == "smaller_pieces"
    assert not attempt.trust.truncated
    pieces, *_ = generator.calls[-1]
    assert len(pieces) == 2 and " ".join(pieces) == SENTENCE
    assert attempt.hypotheses[0].source == SENTENCE
    assert attempt.hypotheses[0].text == " ".join(["une moitié de cette longue phrase."] * 2)


def test_an_attempt_that_lost_a_piece_is_not_kept(stand_in, hypothesis):
    def translate(segment, search):
        if len(segment) == len(SENTENCE):
            return hypothesis(segment, GOOD, finished=False)
        return "" if segment.startswith("and") else "une moitié"

    [attempt] = attempt_all(stand_in(translate))
    assert attempt.hypotheses[0].text == GOOD
    assert attempt.trust.flags == ("truncated",)


@pytest.mark.parametrize("shortlisted", [True, False])
def test_a_copy_is_tried_with_the_full_vocabulary_where_there_is_a_shortlist(stand_in, shortlisted):
    generator = stand_in(
        lambda segment, search: segment if search.shortlist else GOOD, shortlisted=shortlisted
    )
    [attempt] = attempt_all(generator)
    assert attempt.hypotheses[0].text == GOOD
    assert attempt.trust.origin == ("full_vocabulary" if shortlisted else "larger_beam")


def test_what_no_strategy_fixes_stays_flagged_and_the_least_bad_is_kept(stand_in):
    def translate(segment, search):
        return "La." if search.no_repeat_ngram else LOOP

    generator = stand_in(translate)
    [attempt] = attempt_all(generator)
    assert attempt.trust.flags == ("length",)
    assert attempt.trust.origin == "repetition_block"
    assert attempt.trust.attempts == 4


def test_without_retries_the_first_output_stands(stand_in):
    generator = stand_in(lambda segment, search: LOOP)
    [attempt] = attempt_all(generator, retry=False)
    assert "loop" in attempt.trust.flags and len(generator.calls) == 1


def test_only_flagged_segments_are_tried_again(stand_in):
    def translate(segment, search):
        return LOOP if segment == SENTENCE and not search.no_repeat_ngram else GOOD

    generator = stand_in(translate)
    other = SENTENCE.replace("nine", "ten")
    attempts = attempt_all(generator, [other, SENTENCE])
    assert [attempt.trust.origin for attempt in attempts] == ["first", "repetition_block"]
    assert generator.calls[1][0] == (SENTENCE,)


def test_retries_never_sample_beams_nor_lose_the_asked_number_of_outputs(stand_in):
    generator = stand_in(lambda segment, search: "La.")
    [attempt] = attempt_all(
        generator, search=SearchOptions(beam_size=1, sampling=True, num_hypotheses=3)
    )
    assert len(attempt.hypotheses) == 3
    for *_, search in generator.calls:
        assert not (search.sampling and search.beam_size > 1)


def test_an_empty_output_gets_other_chances_and_then_fails_loudly(stand_in):
    fixed = stand_in(lambda segment, search: GOOD if search.min_output_tokens else " ")
    assert attempt_all(fixed)[0].hypotheses[0].text == GOOD
    with pytest.raises(SegmentError, match="empty output for the segment 'The old library"):
        attempt_all(stand_in(lambda segment, search: ""))


def swapped(answers):
    return [answers[1], answers[0], *answers[2:]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (swapped, "segment 1 of 3.*output of another segment, 'Two"),
        (lambda answers: answers[:-1], "segment 3 of 3, 'Three.', got no output"),
        (lambda answers: answers[1:], "segment 1 of 3.*another segment"),
        (lambda answers: [answers[0], [], answers[2]], "segment 2 of 3.*no output"),
        (lambda answers: [*answers, answers[0]], "4 outputs for 3 segments"),
    ],
)
def test_dropped_swapped_and_surplus_outputs_fail_loudly(stand_in, answer, message):
    generator = stand_in(lambda segment, search: f"[{segment}]", answer=answer)
    with pytest.raises(DataError, match=message):
        attempt_all(generator, ["One.", "Two.", "Three."])


def test_every_strategy_fixes_something_and_flags_without_a_fix_are_known():
    fixed = frozenset().union(*(strategy.for_flags for strategy in RETRY_STRATEGIES))
    assert all(strategy.for_flags for strategy in RETRY_STRATEGIES)
    assert set(FLAGS) - fixed == {
        "literals_missing",
        "numbers_missing",
        "term_missing",
        "markup",
        "meaning",
        "uncertain_source",
    }


def test_a_strategy_that_fixes_nothing_is_stopped_in_its_direction(stand_in):
    generator = stand_in(lambda segment, search: LOOP)
    budget = RetryBudget(limit=10)
    segments = [f"{SENTENCE} {number}." for number in range(35)]
    attempts = attempt_all(generator, segments, retry=budget)
    assert all("loop" in attempt.trust.flags for attempt in attempts)
    assert [attempt.trust.attempts > 1 for attempt in attempts].count(True) == 10
    stopped = [origin for _, _, origin in budget.stopped]
    assert stopped == ["repetition_block", "larger_beam", "smaller_pieces"]
    assert budget.num_skipped == 3 * 25
    calls = len(generator.calls)
    attempt_all(generator, segments[:5], retry=budget)
    assert len(generator.calls) == calls + 1
    attempt_all(generator, segments[:5], retry=RetryBudget(limit=10))
    assert len(generator.calls) > calls + 2


def test_a_strategy_that_fixes_segments_goes_on(stand_in):
    generator = stand_in(lambda segment, search: GOOD if search.no_repeat_ngram else LOOP)
    budget = RetryBudget(limit=4)
    attempts = attempt_all(generator, [f"{SENTENCE} {n}." for n in range(30)], retry=budget)
    assert {attempt.trust.origin for attempt in attempts} == {"repetition_block"}
    assert budget.stopped == () and budget.num_skipped == 0


def test_without_a_limit_every_segment_is_retried_and_empty_outputs_always_are(stand_in):
    generator = stand_in(lambda segment, search: LOOP)
    segments = [f"{SENTENCE} {number}." for number in range(30)]
    attempts = attempt_all(generator, segments, retry=RetryBudget(limit=0))
    assert {attempt.trust.attempts for attempt in attempts} == {4}

    def translate(segment, search):
        return "" if "empty" in segment and not search.beam_size > 4 else LOOP

    attempts = attempt_all(
        stand_in(translate), [*segments, "empty here"], retry=RetryBudget(limit=5)
    )
    assert attempts[-1].hypotheses[0].text == LOOP
    with pytest.raises(ValueError, match="retry limit is -1"):
        RetryBudget(limit=-1)


@pytest.mark.parametrize(("requested", "retried"), [(1, 4), (4, 8), (200, 256), (256, 256)])
def test_the_larger_beam_stays_within_the_bound(requested, retried):
    [larger] = [one for one in RETRY_STRATEGIES if one.origin == "larger_beam"]
    options = larger.search(SearchOptions(beam_size=requested))
    assert options.beam_size == options.num_hypotheses == retried
    check_options(options, num_positions=100)

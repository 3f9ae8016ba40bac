"""Dynamic batching: what is joined, what is fair, what is shared and what is given up."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from nllb.inference.generator import Hypothesis, SearchOptions
from nllb.languages import parse_language
from nllb.languages.detection import Detection
from nllb.serving.output_checks import (
    MAX_KNOWN,
    BatchChecks,
    KnowingDetector,
    KnowingMeaningCheck,
    KnownChecks,
    OutputCheck,
)
from nllb.serving.segment_queue import (
    MAX_PASSED_OVER,
    QueueClosed,
    RequestCancelled,
    SegmentQueue,
)
from nllb.translation.meaning import Meaning, MeaningCheck
from nllb.translation.retry import DETECTED_LABELS
from tests.serving_stand_in import ShiftGenerator, WordDetector, shifted

ENGLISH, GERMAN, FRENCH = map(parse_language, ("en", "de", "fr"))
SEARCH = SearchOptions()


class Gate:
    """Holds a batch back until the test opens it."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, segments: Sequence[str]) -> None:
        self.entered.set()
        assert self.open.wait(20)


@pytest.fixture
def start() -> Callable[..., tuple[ShiftGenerator, SegmentQueue, Gate]]:
    queues = []

    def make(**options: object) -> tuple[ShiftGenerator, SegmentQueue, Gate]:
        gate = Gate()
        generator = ShiftGenerator(before_batch=gate)
        queue = SegmentQueue(generator, **options)
        queues.append((gate, queue))
        return generator, queue, gate

    yield make
    for gate, queue in queues:
        gate.open.set()
        queue.close()


def ask(
    queue: SegmentQueue, *segments: str, target=GERMAN, ticket=None, search=SEARCH
) -> list[str]:
    ticket = ticket or queue.ticket()
    answers = ticket.generate(segments, source=ENGLISH, target=target, search=search)
    return [answer[0].text for answer in answers]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        threading.Event().wait(0.001)
    pytest.fail("the condition did not come true")


def wait_for(queue: SegmentQueue, count: int) -> None:
    """Wait until so many segments are in the queue or in a batch."""
    wait_until(lambda: queue.num_waiting == count)


def test_what_arrives_during_a_batch_is_the_next_batch(start) -> None:
    generator, queue, gate = start()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, queue, "zero")
        assert gate.entered.wait(20)
        others = [pool.submit(ask, queue, f"text {number}") for number in range(5)]
        others.append(pool.submit(ask, queue, "text 0", target=FRENCH))
        wait_for(queue, 7)
        gate.open.set()
        assert first.result() == [shifted("zero", "deu_Latn")]
        outputs = [each.result()[0] for each in others]
    assert outputs[:5] == [shifted(f"text {number}", "deu_Latn") for number in range(5)]
    assert outputs[5] == shifted("text 0", "fra_Latn")
    assert sorted(map(len, generator.batches)) == [1, 1, 5]


def test_options_and_directions_are_never_mixed(start) -> None:
    _, queue, gate = start()
    gate.open.set()
    greedy = SearchOptions(beam_size=1)
    with ThreadPoolExecutor(8) as pool:
        runs = [
            pool.submit(ask, queue, f"t{i}", target=target, search=search)
            for i in range(20)
            for target in (GERMAN, FRENCH)
            for search in (SEARCH, greedy)
        ]
        for number, run in enumerate(runs):
            code = ("deu_Latn", "fra_Latn")[number // 2 % 2]
            assert run.result() == [shifted(f"t{number // 4}", code)]


def test_a_short_request_waits_for_a_small_batch_only(start) -> None:
    generator, queue, gate = start(max_batch_segments=16, max_bulk_segments=4)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, queue, "a short one")
        assert gate.entered.wait(20)
        document = [f"sentence {number}" for number in range(60)]
        bulk = pool.submit(ask, queue, *document)
        wait_for(queue, 61)
        short = pool.submit(ask, queue, "another short one")
        wait_for(queue, 62)
        gate.open.set()
        for run in (first, short, bulk):
            run.result()
    position = next(i for i, batch in enumerate(generator.batches) if "another short one" in batch)
    assert position == 1 and generator.batches[1] == ("another short one",)
    assert max(sum("sentence" in each for each in batch) for batch in generator.batches[:8]) <= 4
    assert bulk.result() == [shifted(segment, "deu_Latn") for segment in document]


def test_documents_of_another_direction_are_not_starved_by_short_requests(start) -> None:
    generator, queue, gate = start(max_batch_segments=2)
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(ask, queue, "first")
        assert gate.entered.wait(20)
        bulk = pool.submit(ask, queue, *[f"s{i}" for i in range(12)], target=FRENCH)
        shorts = [pool.submit(ask, queue, f"short {number}") for number in range(20)]
        wait_for(queue, 33)
        gate.open.set()
        for run in (first, bulk, *shorts):
            run.result()
    first_of_document = next(i for i, b in enumerate(generator.batches) if b[0].startswith("s1"))
    assert first_of_document <= 3


def test_every_second_batch_serves_documents_while_short_requests_wait(start) -> None:
    generator, queue, gate = start(max_batch_segments=8, max_bulk_segments=4)
    with ThreadPoolExecutor(60) as pool:
        first = pool.submit(ask, queue, "first")
        assert gate.entered.wait(20)
        bulk = pool.submit(ask, queue, *[f"long {i}" for i in range(40)])
        shorts = [pool.submit(ask, queue, f"short {number}") for number in range(40)]
        wait_for(queue, 81)
        gate.open.set()
        for run in (first, bulk, *shorts):
            run.result()
    longs = [sum("long" in each for each in batch) for batch in generator.batches[1:7]]
    assert longs == [0, 4, 0, 4, 0, 4]
    assert [len(batch) for batch in generator.batches[1:7]] == [8] * 6


def test_a_document_alone_fills_whole_batches(start) -> None:
    generator, queue, gate = start(max_batch_segments=16, max_bulk_segments=4)
    gate.open.set()
    ask(queue, *[f"s{i}" for i in range(64)])
    assert [len(batch) for batch in generator.batches] == [16] * 4


def test_equal_segments_in_flight_are_computed_once(start) -> None:
    generator, queue, gate = start()
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(ask, queue, "the same", f"own {number}") for number in range(6)]
        wait_for(queue, 7)
        gate.open.set()
        assert {run.result()[0] for run in runs} == {shifted("the same", "deu_Latn")}
    computed = [segment for batch in generator.batches for segment in batch]
    assert computed.count("the same") == 1 and len(computed) == 7


def test_finished_segments_are_remembered_up_to_a_number(start) -> None:
    generator, queue, gate = start(cached_segments=2)
    gate.open.set()
    for segment in ("a", "b", "a", "c", "a", "b"):
        assert ask(queue, segment) == [shifted(segment, "deu_Latn")]
    assert [batch[0] for batch in generator.batches] == ["a", "b", "c", "b"]


def test_a_cancelled_request_ends_and_its_segments_are_dropped(start) -> None:
    generator, queue, gate = start()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, queue, "first")
        assert gate.entered.wait(20)
        ticket = queue.ticket()
        gone = pool.submit(ask, queue, "shared", "only mine", ticket=ticket)
        wait_for(queue, 3)
        stays = pool.submit(ask, queue, "shared")
        wait_until(lambda: any(w.num_waiting == 2 for w in list(queue._in_flight.values())))
        ticket.cancel()
        with pytest.raises(RequestCancelled):
            gone.result()
        gate.open.set()
        first.result()
        assert stays.result() == [shifted("shared", "deu_Latn")]
    assert "only mine" not in [segment for batch in generator.batches for segment in batch]
    assert queue.num_waiting == 0 and not queue._rotation
    with pytest.raises(RequestCancelled):
        ask(queue, "later", ticket=ticket)


def test_one_bad_segment_fails_alone(start) -> None:
    generator, queue, gate = start()
    gate.open.set()

    def refuse(segments: Sequence[str]) -> None:
        if "bad" in segments:
            raise ValueError("bad segment")

    generator.before_batch = gate
    gate.open.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, queue, "first")
        assert gate.entered.wait(20)
        runs = [pool.submit(ask, queue, segment) for segment in ("good", "bad", "fine")]
        wait_for(queue, 4)
        generator.before_batch = refuse
        gate.open.set()
        first.result()
        assert runs[0].result() == [shifted("good", "deu_Latn")]
        with pytest.raises(ValueError, match="bad segment"):
            runs[1].result()
        assert runs[2].result() == [shifted("fine", "deu_Latn")]
    assert queue.num_waiting == 0


def test_closing_fails_what_waits(start) -> None:
    _, queue, gate = start()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, queue, "first")
        assert gate.entered.wait(20)
        waiting = pool.submit(ask, queue, "waiting")
        wait_for(queue, 2)
        closing = pool.submit(queue.close)
        with pytest.raises(QueueClosed):
            waiting.result()
        gate.open.set()
        assert first.result() == [shifted("first", "deu_Latn")]
        closing.result()
    with pytest.raises(QueueClosed):
        ask(queue, "late")


def test_many_threads_get_their_own_answers() -> None:
    generator = ShiftGenerator()
    queue = SegmentQueue(generator, num_workers=3, cached_segments=50)

    def run(number: int) -> bool:
        segments = [f"text {(number * 7 + i) % 40}" for i in range(number % 12)]
        target = (GERMAN, FRENCH)[number % 2]
        return ask(queue, *segments, target=target) == [shifted(s, target.code) for s in segments]

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(run, range(600)))
    assert queue.num_waiting == 0 and not queue._rotation
    queue.close()


def test_answers_are_the_generators(start) -> None:
    _, queue, gate = start()
    gate.open.set()
    [[*answers]] = queue.ticket().generate(
        ["x"], source=ENGLISH, target=GERMAN, search=SearchOptions(num_hypotheses=3)
    )
    assert len(answers) == 3 and all(isinstance(each, Hypothesis) for each in answers)


def test_rare_groups_gather_and_have_their_turn(start) -> None:
    generator, queue, gate = start(max_batch_segments=2)
    rare = SearchOptions(beam_size=8)
    with ThreadPoolExecutor(20) as pool:
        running = [pool.submit(ask, queue, "first")]
        assert gate.entered.wait(20)
        running.append(pool.submit(ask, queue, "rare 0", search=rare))
        wait_until(lambda: queue.num_waiting == 2)
        for number in range(10):
            running.append(pool.submit(ask, queue, f"usual {number}"))
        running.append(pool.submit(ask, queue, "rare 1", search=rare))
        wait_until(lambda: queue.num_waiting == 13)
        gate.open.set()
        for each in running:
            each.result(20)
    kinds = ["rare" in batch[0] for batch in generator.batches]
    # Larger groups go first, but not forever, and what is rare is computed together.
    assert kinds.count(True) == 1 and kinds.index(True) <= 1 + MAX_PASSED_OVER
    assert all(len(batch) == 2 for batch in generator.batches[1:])


class CountingMeaning(MeaningCheck):
    """Counts its calls."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def judge(self, sources, outputs, *, source, target) -> list[Meaning]:
        self.sizes.append(len(sources))
        return [Meaning(verdict="kept", similarity=0.5) for _ in sources]


def test_outputs_of_a_batch_are_checked_together(start) -> None:
    meaning = CountingMeaning()
    checks = BatchChecks(WordDetector(), meaning, num_threads=2)
    _, queue, gate = start(checks=checks, cached_segments=9)
    knowns = [KnownChecks() for _ in range(8)]
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(ask, queue, "first")
        assert gate.entered.wait(20)
        running = [
            pool.submit(ask, queue, f"Cat {number}.", ticket=queue.ticket(known))
            for number, known in enumerate(knowns)
        ]
        wait_until(lambda: queue.num_waiting == 9)
        gate.open.set()
        outputs = [each.result(20)[0] for each in running]
        first.result(20)
    # Two shares of four; the first request asked for no checks.
    assert meaning.sizes == [4, 4]
    direction = (ENGLISH.code, GERMAN.code)
    for number, (known, output) in enumerate(zip(knowns, outputs, strict=True)):
        assert known.meaning(f"Cat {number}.", output, direction).similarity == 0.5
        assert known.detection(output).language == "eng_Latn"
        assert known.meaning(f"Cat {number}.", output, ("eng_Latn", "fra_Latn")) is None
    # Remembered segments keep their checks.
    known = KnownChecks()
    ask(queue, "Cat 1.", ticket=queue.ticket(known))
    assert known.meaning("Cat 1.", outputs[1], direction) and meaning.sizes == [4, 4]


def test_what_is_not_known_is_checked_by_the_request() -> None:
    meaning, known = CountingMeaning(), KnownChecks()
    check = BatchChecks(WordDetector(), meaning)
    [found] = check(["Cat."], ["Katze."], source=ENGLISH, target=GERMAN)
    known.add(found)
    asked = KnowingMeaningCheck(meaning, known)
    verdicts = asked.judge(["Cat.", "Dog."], ["Katze.", "x"], source=ENGLISH, target=GERMAN)
    assert verdicts == [Meaning(verdict="kept", similarity=0.5)] * 2 and meaning.sizes == [1, 1]
    detector = KnowingDetector(WordDetector(), known)
    found = detector.detect_batch(["Guten Tag", "Katze."], top=DETECTED_LABELS)
    assert [each.language for each in found] == ["deu_Latn", "eng_Latn"]
    assert len(detector.detect_batch(["Katze."], top=2)[0].alternatives) == 1


def test_a_check_that_fails_harms_no_answer(start) -> None:
    class Broken(CountingMeaning):
        def judge(self, sources, outputs, *, source, target) -> list[Meaning]:
            raise RuntimeError("broken")

    _, queue, gate = start(checks=BatchChecks(None, Broken()))
    gate.open.set()
    known = KnownChecks()
    answer = ask(queue, "Cat.", ticket=queue.ticket(known))
    assert answer == [shifted("Cat.", GERMAN.code)]
    assert known.meaning("Cat.", answer[0], (ENGLISH.code, GERMAN.code)) is None


def test_known_checks_are_bounded() -> None:
    known = KnownChecks()
    for number in range(MAX_KNOWN + 5):
        known.add(
            OutputCheck(
                segment=str(number),
                output=f"o{number}",
                direction=("a", "b"),
                detection=Detection(language="deu_Latn", probability=1.0),
                meaning=Meaning(verdict="kept", similarity=0.5),
            )
        )
    assert known.detection("o4") is None and known.detection("o5") is not None
    assert known.meaning("4", "o4", ("a", "b")) is None

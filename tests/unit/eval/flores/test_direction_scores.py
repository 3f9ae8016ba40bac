"""Scoring a folder: resume, changed files, gaps, flags, groups."""

import os
import random

import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from eval.flores.comparison import compare
from eval.flores.direction_scores import score_outputs, score_target
from eval.flores.directions import Direction, outputs_in, parse_directions
from eval.flores.outputs import copy_sources, translate_all, translate_outputs
from eval.flores.results import load_evaluation
from eval.flores.target_files import load_target
from eval.metrics.hypothesis_checks import LanguageCount
from eval.metrics.registry import MetricChoice
from nllb.errors import ConfigError, DataError, LanguageError
from nllb.io.benchmarks import load_aligned
from nllb.translation.retry import SegmentError

CODES = ("eng_Latn", "fra_Latn", "dyu_Latn", "zho_Hans")
PATTERNS = {
    "eng_Latn": "The cat number {a} sat on the mat, and the dog {b} barked.",
    "fra_Latn": "Le chat {a} etait assis sur le tapis, le chien {b} aboyait.",
    "dyu_Latn": "Jakuma {a} sigilen tun be debe kan ani wulu {b} tun be ka wo.",
    "zho_Hans": "第{a}只猫坐在垫子上，第{b}条狗在叫。",
}
SENTENCES = {
    code: [pattern.format(a=number, b=7 * number) for number in range(30)]
    for code, pattern in PATTERNS.items()
}
CHOICE = MetricChoice(names=("chrf++", "bleu"))


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for code, lines in SENTENCES.items():
        (folder / code).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_aligned(folder, name="cats")


@pytest.fixture
def outputs(tmp_path, perturb):
    return write_outputs(tmp_path / "first", perturb, share=0.5)


def write_outputs(folder, perturb, share, seed=1):
    folder.mkdir()
    for target in CODES:
        for source in CODES:
            if source != target:
                lines = perturb(SENTENCES[target], share=share, seed=seed + len(source))
                (folder / f"{source}-{target}.txt").write_text(
                    "\n".join(lines) + "\n", encoding="utf-8"
                )
    return folder


def run(outputs, benchmark, out, words=("all",), **options):
    evaluation = score_outputs(
        outputs_in(outputs),
        benchmark=benchmark,
        out=out,
        choice=options.pop("choice", CHOICE),
        system=outputs.name,
        outputs=outputs,
        wanted=parse_directions(words, sources=CODES, targets=CODES),
        quiet=True,
        **options,
    )
    assert len(evaluation.rows) == evaluation.num_directions  # and they are read, before a next run
    return evaluation


def test_scores_equal_sacrebleu_and_groups_are_their_means(benchmark, outputs, tmp_path):
    evaluation = run(outputs, benchmark, tmp_path / "out")
    assert len(evaluation.rows) == 12
    for row in evaluation.rows[:4]:
        lines = (outputs / row.file).read_text(encoding="utf-8").split("\n")[:-1]
        expected = CHRF(word_order=2).corpus_score(lines, [SENTENCES[row.direction.target]]).score
        score = row.scores["chrf++"]
        assert score.score == pytest.approx(expected, abs=1e-10)
        assert score.low < score.score < score.high
    groups = {(group.group, group.metric): group for group in evaluation.groups}
    into = [row.scores["chrf++"].score for row in evaluation.rows if row.direction.kind == "eng-xx"]
    group = groups["eng-xx", "chrf++"]
    assert (group.count, group.missing) == (3, 0)
    assert group.mean == pytest.approx(np.mean(into))
    assert group.low < group.mean < group.high
    assert groups["all.very_low", "chrf++"].count == 6  # into and from Dyula
    assert evaluation.signature("bleu", "zho_Hans").split("|")[3] == "tok:zh"
    assert evaluation.signature("bleu", "fra_Latn").split("|")[3] == "tok:13a"


def test_what_is_read_back_is_what_was_written(benchmark, outputs, tmp_path):
    evaluation = run(outputs, benchmark, tmp_path / "out")
    again = load_evaluation(tmp_path / "out")
    assert (again, again.rows) == (evaluation, evaluation.rows)
    table = (tmp_path / "out" / "scores.tsv").read_text(encoding="utf-8").splitlines()
    assert table[0].split("\t")[4] == "chrf++"
    assert len(table) == 13


def test_stored_integers_are_those_of_a_fresh_measurement(benchmark, outputs, tmp_path):
    run(outputs, benchmark, tmp_path / "out")
    stored = load_target(tmp_path / "out", "fra_Latn")
    metric = CHOICE.metric("chrf++", "fra_Latn")
    reference = metric.index(SENTENCES["fra_Latn"])
    for number, row in enumerate(stored.rows):
        lines = (outputs / row.file).read_text(encoding="utf-8").split("\n")[:-1]
        assert (stored.statistics(metric, number) == metric.statistics(lines, reference)).all()


def test_only_changed_files_are_measured_again(benchmark, outputs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    before = run(outputs, benchmark, out)
    import eval.flores.direction_scores as module

    scored, measured = [], []
    monkeypatch.setattr(
        module, "score_target", lambda work: scored.append(work.target) or score_target(work)
    )
    original = module._measure
    monkeypatch.setattr(
        module, "_measure", lambda *a, **k: measured.append(str(a[1])) or original(*a, **k)
    )
    assert run(outputs, benchmark, out).rows == before.rows
    assert (scored, measured) == ([], [])
    path = outputs / "eng_Latn-fra_Latn.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("chat", "chien"), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    after = run(outputs, benchmark, out)
    assert (scored, measured) == (["fra_Latn"], ["eng_Latn-fra_Latn"])
    changed = [a.direction for a, b in zip(after.rows, before.rows, strict=True) if a != b]
    assert changed == [Direction(source="eng_Latn", target="fra_Latn")]
    fresh = run(outputs, benchmark, tmp_path / "fresh")
    assert fresh.groups == after.groups  # what is kept and what is new give the same intervals


def test_whatever_changes_the_groups_are_those_of_a_fresh_run(benchmark, outputs, tmp_path):
    """Sums are kept and added to: after any history they must be the ones of no history."""
    out = tmp_path / "out"
    paths = sorted(outputs.glob("*.txt"))
    generator = random.Random(4)
    run(outputs, benchmark, out)
    for turn in range(12):
        path = generator.choice(paths)
        if turn % 4 == 3:
            path.write_text("too short\n", encoding="utf-8")  # fails, and is mended later
        elif turn % 4 == 1 and path.exists():
            path.unlink()
        else:
            lines = SENTENCES[path.stem.partition("-")[2]].copy()
            generator.shuffle(lines)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if turn == 5:
            (out / "index.npz").unlink()
        elif turn == 7:
            (out / "index.npz").write_bytes(b"broken")
        elif turn == 9:
            (out / "targets" / "eng_Latn.npz").unlink(missing_ok=True)
        after, fresh = run(outputs, benchmark, out), run(outputs, benchmark, tmp_path / str(turn))
        for name in ("groups", "flags", "failed", "missing", "rows", "notes", "reference_sha256"):
            assert getattr(after, name) == getattr(fresh, name), (turn, name)
        tables = [(folder / "scores.tsv").read_bytes() for folder in (out, tmp_path / str(turn))]
        assert tables[0] == tables[1]


def test_a_target_file_that_was_cut_short_is_made_again(benchmark, outputs, tmp_path):
    out = tmp_path / "out"
    before = run(outputs, benchmark, out)
    path = out / "targets" / "fra_Latn.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert run(outputs, benchmark, out).rows == before.rows


def test_changed_reference_or_metrics_make_old_results_stale(benchmark, outputs, tmp_path):
    out = tmp_path / "out"
    before = run(outputs, benchmark, out)
    other = run(outputs, benchmark, out, choice=MetricChoice(names=("chrf",)))
    assert other.metrics == ("chrf",)
    path = benchmark.path("fra_Latn")
    path.write_text(path.read_text(encoding="utf-8").replace("chat", "lion"), encoding="utf-8")
    after = run(outputs, benchmark, out)
    assert after.reference_sha256["fra_Latn"] != before.reference_sha256["fra_Latn"]
    assert after.rows != before.rows


def test_missing_and_faulty_files_are_named_and_in_no_mean(benchmark, outputs, tmp_path):
    (outputs / "eng_Latn-fra_Latn.txt").unlink()
    (outputs / "eng_Latn-zho_Hans.txt").write_text("一\n", encoding="utf-8")
    evaluation = run(outputs, benchmark, tmp_path / "out")
    assert evaluation.missing == ("eng_Latn-fra_Latn",)
    assert "1 lines, 29 fewer" in evaluation.failed["eng_Latn-zho_Hans"]
    group = next(g for g in evaluation.groups if g.group == "eng-xx" and g.metric == "chrf++")
    assert (group.count, group.missing) == (1, 2)
    assert len(evaluation.rows) == 10


def test_a_file_that_becomes_faulty_loses_its_old_score(benchmark, outputs, tmp_path):
    words = ("eng_Latn-fra_Latn", "eng_Latn-zho_Hans")
    run(outputs, benchmark, tmp_path / "out", words)
    (outputs / "eng_Latn-fra_Latn.txt").write_text("un\n", encoding="utf-8")
    evaluation = run(outputs, benchmark, tmp_path / "out", words)
    assert [str(row.direction) for row in evaluation.rows] == ["eng_Latn-zho_Hans"]
    assert list(evaluation.failed) == ["eng_Latn-fra_Latn"]
    assert [row.direction for row in load_evaluation(tmp_path / "out").rows] == [
        row.direction for row in evaluation.rows
    ]


def test_nothing_to_score_is_an_error(benchmark, outputs, tmp_path):
    for path in outputs.glob("*.txt"):
        path.write_text("x\n", encoding="utf-8")
    with pytest.raises(DataError, match="no direction could be scored"):
        run(outputs, benchmark, tmp_path / "out", ("eng_Latn-fra_Latn",))


def test_problems_of_files_and_unicode_forms_become_notes(benchmark, outputs, tmp_path):
    path = outputs / "fra_Latn-dyu_Latn.txt"
    copied = SENTENCES["fra_Latn"][:3] + SENTENCES["dyu_Latn"][3:]
    path.write_text("\n".join(copied) + "\n", encoding="utf-8")
    decomposed = [line.replace("e", "e\u0301") for line in SENTENCES["fra_Latn"]]
    benchmark.path("fra_Latn").write_text("\n".join(decomposed) + "\n", encoding="utf-8")
    composed = [line.replace("e", "\u00e9") for line in SENTENCES["fra_Latn"]]
    (outputs / "eng_Latn-fra_Latn.txt").write_text("\n".join(composed) + "\n", encoding="utf-8")
    copied[:3] = decomposed[:3]
    path.write_text("\n".join(copied) + "\n", encoding="utf-8")
    evaluation = run(outputs, benchmark, tmp_path / "out")
    rows = {str(row.direction): row for row in evaluation.rows}
    found = {finding.code: finding for finding in rows["fra_Latn-dyu_Latn"].findings}
    assert found["copy_of_source"].lines == (1, 2, 3)
    score = rows["eng_Latn-fra_Latn"].scores["chrf++"]
    assert score.nfc_score == pytest.approx(100)
    assert score.score < 90
    assert any("raw and NFC score differ" in note for note in evaluation.notes)


def test_two_processes_give_the_same_numbers(benchmark, outputs, tmp_path, monkeypatch):
    import eval.flores.direction_scores as module

    alone = run(outputs, benchmark, tmp_path / "alone", workers=1)
    monkeypatch.setattr(module, "_FEW_DIRECTIONS", 0)
    together = run(outputs, benchmark, tmp_path / "together", workers=2)
    assert together.rows == alone.rows
    assert together.groups == alone.groups


def test_translation_resumes_and_keeps_one_line_a_sentence(benchmark, tmp_path):
    calls = []

    def translate(sentences, source, target):
        calls.append((source, target))
        return [f"{sentence}\nand more" for sentence in sentences]

    wanted = parse_directions(["eng_Latn-*"], sources=CODES, targets=CODES)
    folder = tmp_path / "outputs"
    made = {"model": "one", "search": "beam 1"}
    options = {"benchmark": benchmark, "translate": translate, "quiet": True}
    assert translate_outputs(folder, wanted, made_by=made, **options) == {}
    assert len(calls) == 3
    (folder / "eng_Latn-fra_Latn.txt").unlink()
    assert translate_outputs(folder, wanted, made_by={**made, "model": "moved"}, **options) == {}
    assert calls[3:] == [("eng_Latn", "fra_Latn")]
    with pytest.raises(ConfigError, match=r"search was beam 1, now beam 4\. Its finished"):
        translate_outputs(folder, wanted, made_by={**made, "search": "beam 4"}, **options)
    assert len((folder / "eng_Latn-fra_Latn.txt").read_text(encoding="utf-8").split("\n")) == 31
    with pytest.raises(DataError, match="returned 1 lines for 30"):
        translate_outputs(
            tmp_path / "short", wanted, benchmark=benchmark, translate=lambda *_: ["x"], quiet=True
        )


def test_a_killed_translation_goes_on_after_the_last_window(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.flores.outputs.WINDOW_LINES", 8)
    wanted = parse_directions(["eng_Latn-fra_Latn"], sources=CODES, targets=CODES)
    asked = []

    def killed(sentences, source, target):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(list(sentences))
        return list(sentences)

    folder = tmp_path / "outputs"
    with pytest.raises(KeyboardInterrupt):
        translate_outputs(folder, wanted, benchmark=benchmark, translate=killed, quiet=True)
    assert not (folder / "eng_Latn-fra_Latn.txt").exists()

    def goes_on(sentences, source, target):
        asked.append(list(sentences))
        return list(sentences)

    translate_outputs(folder, wanted, benchmark=benchmark, translate=goes_on, quiet=True)
    assert [line for lines in asked for line in lines] == SENTENCES["eng_Latn"]
    assert (folder / "eng_Latn-fra_Latn.txt").read_text().splitlines() == SENTENCES["eng_Latn"]


def test_languages_that_the_model_lacks_are_named_and_the_others_translated(benchmark, tmp_path):
    def translate(sentences, source, target):
        if target == "dyu_Latn":
            raise LanguageError("the model has no token for dyu_Latn")
        return list(sentences)

    wanted = parse_directions(["eng_Latn-*"], sources=CODES, targets=CODES)
    folder = tmp_path / "outputs"
    unmade = translate_outputs(folder, wanted, benchmark=benchmark, translate=translate, quiet=True)
    assert unmade == {"eng_Latn-dyu_Latn": "the model has no token for dyu_Latn"}
    evaluation = score_outputs(
        outputs_in(folder), benchmark=benchmark, out=tmp_path / "out", choice=CHOICE,
        system="s", outputs=folder, wanted=wanted, unmade=unmade, quiet=True,
    )  # fmt: skip
    assert evaluation.failed == unmade
    assert evaluation.missing == ()
    assert len(evaluation.rows) == 2


def test_a_sentence_without_an_output_is_an_empty_line_and_only_it():
    def window(lines):
        if "three" in lines:
            raise SegmentError("nothing", segment="three")
        return [line.upper() for line in lines]

    assert translate_all(["one", "two", "three", "four"], window) == ["ONE", "TWO", "", "FOUR"]


def test_copied_sources_are_a_system_of_their_own(benchmark, outputs, tmp_path):
    wanted = parse_directions(["all"], sources=CODES, targets=CODES)
    folder = tmp_path / "copying"
    evaluation = score_outputs(
        copy_sources(folder, wanted, benchmark=benchmark), benchmark=benchmark,
        out=tmp_path / "c", choice=CHOICE, system="copying", outputs=folder, wanted=wanted,
        quiet=True,
    )  # fmt: skip
    [row] = [row for row in evaluation.rows if str(row.direction) == "eng_Latn-fra_Latn"]
    expected = CHRF(word_order=2).corpus_score(SENTENCES["eng_Latn"], [SENTENCES["fra_Latn"]])
    assert row.scores["chrf++"].score == pytest.approx(expected.score)
    assert [(finding.code, finding.count) for finding in row.findings] == [("copy_of_source", 30)]
    assert (
        "is better than copying"
        in compare(evaluation, run(outputs, benchmark, tmp_path / "o")).verdict
    )
    with pytest.raises(ConfigError, match="created with other settings"):
        translate_outputs(
            folder, wanted, benchmark=benchmark, translate=lambda *_: [],
            made_by={"model files": "0"}, quiet=True,
        )  # fmt: skip


def test_flags_and_languages_are_counted_by_direction_and_group(benchmark, outputs, tmp_path):
    path = outputs / "eng_Latn-fra_Latn.txt"
    lines = [*SENTENCES["eng_Latn"][:4], "", "na na na na na na na na na na na na na na na na"]
    lines += path.read_text(encoding="utf-8").split("\n")[6:30]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def detect(texts):
        return ["eng_Latn" if "cat" in text else "und" if "na na" in text else "fra_Latn"
                for text in texts]  # fmt: skip

    out = tmp_path / "out"
    evaluation = run(outputs, benchmark, out, ("eng_Latn-*",), detect=detect)
    row = next(row for row in evaluation.rows if row.direction.target == "fra_Latn")
    assert {finding.code: finding.count for finding in row.findings} == {
        "empty": 1, "copy_of_source": 4, "looping": 1, "off_target": 4
    }  # fmt: skip
    assert row.language == LanguageCount(judged=29, right=24, unsure=1)
    assert row.reference_share == 1.0
    whole = next(part for part in evaluation.flags if part.group == "eng-xx")
    assert whole.lines == 90
    assert whole.flags["looping"] == 1
    assert whole.right < whole.judged
    head, *body = (out / "scores.tsv").read_text(encoding="utf-8").splitlines()
    table = {cells["target"]: cells for cells in (
        dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in body)}  # fmt: skip
    cells = table["fra_Latn"]
    assert (cells["empty"], cells["looping"], cells["judged"], cells["in_target"]) == (
        "1", "1", "29", "24"
    )  # fmt: skip
    assert load_evaluation(out) == evaluation


class Labels:
    """A detector with an identity."""

    def __init__(self, identity):
        self.identity = identity

    def __call__(self, texts):
        return ["und"] * len(texts)


def test_results_of_another_detector_are_computed_again(benchmark, outputs, tmp_path, monkeypatch):
    import eval.flores.direction_scores as module

    out = tmp_path / "out"
    run(outputs, benchmark, out, ("eng_Latn-*",), detect=Labels("first"))
    scored = []
    monkeypatch.setattr(
        module, "score_target", lambda work: scored.append(work.target) or score_target(work)
    )
    run(outputs, benchmark, out, ("eng_Latn-*",), detect=Labels("first"))
    assert scored == []
    run(outputs, benchmark, out, ("eng_Latn-*",), detect=Labels("second"))
    assert len(scored) == 3


def test_references_as_outputs_are_not_flagged(benchmark, tmp_path):
    """What the detector misses in the references says nothing against a translation."""
    folder = tmp_path / "perfect"
    folder.mkdir()
    for target in ("fra_Latn", "dyu_Latn"):
        lines = benchmark.sentences(target) if target in benchmark.files else None
        if lines is not None:
            (folder / f"eng_Latn-{target}.txt").write_text("\n".join(lines) + "\n")
    calls = []

    def detect(texts):
        calls.append(len(texts))
        return ["dyu_Latn" if number % 3 == 0 else "fra_Latn" for number in range(len(texts))]

    evaluation = run(folder, benchmark, tmp_path / "out", ("eng_Latn-*",), detect=detect)
    assert calls and not any(row.findings for row in evaluation.rows)


def test_the_first_lines_only_are_a_set_of_their_own(benchmark, tmp_path):
    few = benchmark.first(10)
    assert few.title == "cats[:10]"
    assert len(few.sentences("fra_Latn")) == 10
    assert few.sha256("fra_Latn") != benchmark.sha256("fra_Latn")
    wanted = parse_directions(["eng_Latn-fra_Latn"], sources=CODES, targets=CODES)
    copies = copy_sources(tmp_path / "copying", wanted, benchmark=few)
    evaluation = score_outputs(
        copies, benchmark=few, out=tmp_path / "c", choice=CHOICE, system="c",
        outputs=tmp_path / "copying", wanted=wanted, quiet=True,
    )  # fmt: skip
    assert evaluation.num_sentences == 10
    assert "only the first 10 sentences" in evaluation.notes[0]


def test_comparison_says_what_changed(benchmark, outputs, perturb, tmp_path):
    better = write_outputs(tmp_path / "second", perturb, share=0.1)
    first = run(outputs, benchmark, tmp_path / "a")
    second = run(better, benchmark, tmp_path / "b", ("eng_Latn-*", "*-eng_Latn"))
    comparison = compare(first, second)
    assert comparison.only_first == tuple(
        str(row.direction) for row in first.rows if row.direction.kind == "non-eng"
    )
    assert comparison.only_second == ()
    changes = [one for one in comparison.directions if one.metric == "chrf++"]
    assert len(changes) == 6
    assert all(one.significant and one.low < one.delta < one.high for one in changes)
    assert comparison.verdict.startswith("second is better than first over 6 directions (+")
    assert "significantly better in 6 and worse in 0" in comparison.verdict
    assert comparison.verdict.endswith("people would almost always notice.")
    back = compare(second, first)
    assert "second is better" not in back.verdict
    assert "first is worse than second" in back.verdict
    parts = {(part.part, part.metric): part for part in comparison.parts}
    assert parts["into languages in Hans script", "chrf++"].count == 1


def test_comparison_of_equal_systems_says_so(benchmark, outputs, tmp_path):
    first = run(outputs, benchmark, tmp_path / "a")
    comparison = compare(first, first)
    assert "do not differ measurably" in comparison.verdict
    assert "hardly notice" in comparison.verdict


def test_more_resamples_reach_smaller_p_values(benchmark, outputs, perturb, tmp_path):
    """One clear change among twelve directions: 100 resamples cannot show it, 1,000 can."""
    first = run(outputs, benchmark, tmp_path / "a")
    path = outputs / "eng_Latn-fra_Latn.txt"
    path.write_text("\n".join(SENTENCES["fra_Latn"]) + "\n", encoding="utf-8")
    second = run(outputs, benchmark, tmp_path / "b")
    few, many = (compare(first, second, resamples=number) for number in (100, 1000))
    assert [change.direction.target for change in many.directions if change.significant] == [
        "fra_Latn", "fra_Latn"
    ]  # fmt: skip
    assert not any(change.significant for change in few.directions)
    assert few.notes[0] == (
        "chrF++: 1 of 12 directions have the smallest p-value that 100 resamples can give "
        "(0.0099), which is too large among so many directions: compare with --resamples 240 or "
        "more"
    )
    assert many.notes == ()
    with pytest.raises(ConfigError, match="give 100 or more"):
        compare(first, second, resamples=10)


def test_other_data_or_signatures_are_not_compared(benchmark, outputs, tmp_path):
    first = run(outputs, benchmark, tmp_path / "a")
    with pytest.raises(DataError, match="no metric in common"):
        compare(
            first, run(outputs, benchmark, tmp_path / "b", choice=MetricChoice(names=("chrf",)))
        )
    path = benchmark.path("fra_Latn")
    path.write_text(path.read_text(encoding="utf-8").replace("chat", "lion"), encoding="utf-8")
    with pytest.raises(DataError, match=r"references of fra_Latn \(1 languages\)"):
        compare(first, run(outputs, benchmark, tmp_path / "c"))


def test_foreign_and_edited_folders_are_refused(benchmark, outputs, tmp_path):
    with pytest.raises(DataError, match=r"has no evaluation\.json"):
        load_evaluation(tmp_path)
    run(outputs, benchmark, tmp_path / "out")
    path = tmp_path / "out" / "evaluation.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("nllb-evaluation/3", "nllb-evaluation/9"), encoding="utf-8")
    with pytest.raises(DataError, match="reads 'nllb-evaluation/3'"):
        load_evaluation(tmp_path / "out")
    path.write_text(text.replace('"missing"', '"lost"'), encoding="utf-8")
    with pytest.raises(DataError, match="missing or unknown: lost, missing"):
        load_evaluation(tmp_path / "out")

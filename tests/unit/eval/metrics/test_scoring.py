"""Scoring of files: several references, blocks, forms of text, comparison of two files."""

import bz2
import json
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from eval.metrics import resampling, scoring
from eval.metrics.file_comparison import compare_files
from eval.metrics.registry import MetricChoice
from eval.metrics.scoring import score_file
from eval.metrics.significance import bootstrap_weights, coin_flips
from nllb.errors import DataError

ALL = MetricChoice(names=("chrf++", "chrf", "bleu", "ter"))
WORDS = "the ferry to the island leaves every hour from a small red house by the old river".split()


def lines(count, seed, odd=True):
    draw = random.Random(seed)
    found = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) + "." for _ in range(count)]
    if odd:
        found[3], found[4] = "Größe\u0301 — “ÉTÉ”, 3,5 km!", "e\u0301te\u0301 and été"
    return found


def write(path, text):
    path.write_text("".join(line + "\n" for line in text), encoding="utf-8")
    return path


def oracles(hypothesis, references, lowercase=False):
    metrics = {
        "chrf++": CHRF(word_order=2, lowercase=lowercase),
        "chrf": CHRF(lowercase=lowercase),
        "bleu": BLEU(lowercase=lowercase),
        "ter": TER(),
    }
    return {
        name: (metric.corpus_score(hypothesis, references).score, metric.get_signature().format())
        for name, metric in metrics.items()
    }


@pytest.mark.parametrize("num_references", [1, 2, 3])
@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_and_signatures_equal_sacrebleu(tmp_path, num_references, lowercase):
    texts = [lines(60, seed) for seed in range(num_references)]
    texts[-1][7] = ""  # sacrebleu counts an empty reference as one, too
    mixed = random.Random(9)
    hypothesis = [
        " ".join(w if mixed.random() < 0.7 else w.upper() for w in mixed.choice(row).split())
        for row in zip(*texts, strict=True)
    ]
    files = [write(tmp_path / f"r{n}", text) for n, text in enumerate(texts)]
    choice = MetricChoice(names=ALL.names, lowercase=lowercase)
    scores, _ = score_file(
        write(tmp_path / "h", hypothesis), files, target="eng_Latn", choice=choice, resamples=20
    )
    expected = oracles(hypothesis, texts, lowercase)
    for one in scores:
        score, signature = expected[one.metric]
        assert one.score == pytest.approx(score, abs=1e-9), one.metric
        assert one.signature == signature
        assert f"nrefs:{num_references}|" in one.signature


def test_no_reference_is_replaced_and_empty_lines_are_named(tmp_path):
    full = lines(10, 1, odd=False)
    empty = [*full[:1], "", *full[2:]]
    files = [write(tmp_path / "empty", empty), write(tmp_path / "full", full)]
    hypothesis = write(tmp_path / "h", full)
    [one], _ = score_file(
        hypothesis, files, target="eng_Latn", choice=MetricChoice(names=("bleu",)), resamples=20
    )
    assert one.score == 100.0 and one.signature.startswith("nrefs:2|")
    assert "1 of 10 lines of the reference" in one.warnings[0]
    assert "(line 2)" in one.warnings[0]


def test_a_perfect_score_is_100(tmp_path):
    text = lines(200, 5)
    path = write(tmp_path / "same", text)
    scores, _ = score_file(path, [path], target="eng_Latn", choice=ALL, resamples=20)
    assert [one.score for one in scores] == [100.0, 100.0, 100.0, 0.0]


def test_blocks_give_the_same_scores_as_the_whole(tmp_path, monkeypatch):
    hypothesis = write(tmp_path / "h", lines(500, 1))
    references = [write(tmp_path / "r", lines(500, 2))]
    options = {"target": "eng_Latn", "choice": ALL, "resamples": 300}
    whole, findings = score_file(hypothesis, references, **options)
    monkeypatch.setattr(resampling, "BLOCK", 64)
    monkeypatch.setattr(scoring.AlignedFiles.blocks, "__defaults__", (64,))
    parts, found = score_file(hypothesis, references, **options)
    assert [(one.score, one.nfc_score) for one in parts] == [
        (one.score, one.nfc_score) for one in whole
    ]
    assert found == findings
    for one, other in zip(parts, whole, strict=True):
        assert one.hypothesis_sha256 == other.hypothesis_sha256
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.25)


def test_blockwise_resamples_draw_as_many_as_there_are(monkeypatch):
    monkeypatch.setattr(resampling, "BLOCK", 10)
    sums = resampling.ResampledSums(95, resamples=2000)
    for begin in range(0, 95, 10):
        ones = np.ones((min(10, 95 - begin), 1))
        sums.add({"count": ones, "first": ones * (begin == 0)})
    assert (sums._sums["count"] == 95).all()
    first = sums._sums["first"][:, 0]
    # Draws among the first 10 of 95: binomial with mean 10 and variance 95 x 10/95 x 85/95.
    assert first.mean() == pytest.approx(10, abs=0.25)
    assert first.var() == pytest.approx(95 * 10 / 95 * 85 / 95, rel=0.1)


def test_small_files_share_the_resamples_of_evaluations():
    sums = resampling.ResampledSums(7, resamples=50)
    sums.add({"first": np.eye(7)})
    assert (sums._sums["first"] == bootstrap_weights(7, 50)).all()
    swapped = resampling.SwappedSums(trials=50, whole=7)
    swapped.add({"x": np.zeros((7, 7))}, {"x": np.eye(7)})
    assert (swapped._moved["x"] == coin_flips(7, 50, 12345)).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(bz2.compress(b"one\ntwo\n"), "bzip2, which is not supported; decompress it"),
     ("one\ntwo\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
     ("one\ntwo\n".encode("utf-16-le"), "NUL bytes: it is UTF-16 or not text"),
     (b"one\rtwo\r", "carriage returns only"),
     (b"\x1f\x8b\x08\x00", "compressed with gzip; name it .gz")],
)  # fmt: skip
@pytest.mark.parametrize("side", ["hypothesis", "reference"])
def test_forms_that_are_not_read_are_named(tmp_path, content, reason, side):
    good = write(tmp_path / "good", ["one", "two"])
    (tmp_path / "bad").write_bytes(content)
    bad = tmp_path / "bad"
    files = (bad, [good]) if side == "hypothesis" else (good, [bad])
    with pytest.raises(DataError, match=f"bad .*{reason}"):
        score_file(*files, target="eng_Latn", choice=MetricChoice())


def test_lines_with_carriage_returns_are_fine(tmp_path):
    good = write(tmp_path / "good", lines(20, 1))
    (tmp_path / "crlf").write_bytes(good.read_bytes().replace(b"\n", b"\r\n"))
    [one], findings = score_file(
        tmp_path / "crlf", [good], target="eng_Latn", choice=MetricChoice(), resamples=20
    )
    assert one.score == 100.0 and {finding.code for finding in findings} <= {"mixed_unicode"}


def test_references_are_not_in_another_language(tmp_path):
    """A detector that misses some of the references must not blame a perfect translation."""
    text = [f"{'This line is clear enough' if n % 4 else 'Une ligne assez claire'} {n}."
            for n in range(80)]  # fmt: skip
    path = write(tmp_path / "same", text)

    def detect(texts):
        return ["fra_Latn" if "ligne" in one else "eng_Latn" for one in texts]

    options = {"target": "eng_Latn", "choice": MetricChoice(), "detect": detect, "resamples": 20}
    _, findings = score_file(path, [path], **options)
    assert not findings
    wrong = write(tmp_path / "wrong", [f"Une ligne assez claire {n}." for n in range(80)])
    _, [one] = score_file(wrong, [path], **options)
    assert one.code == "off_target" and one.count == 80
    assert "of the references, 25.0% are not recognised" in one.note


def test_two_files_are_compared_on_every_metric(tmp_path):
    reference = lines(120, 1, odd=False)
    draw = random.Random(3)

    def worse(share):
        return [" ".join(w if draw.random() > share else "x" for w in line.split())
                for line in reference]  # fmt: skip

    files = [write(tmp_path / name, worse(share)) for name, share in (("a", 0.5), ("b", 0.2))]
    target = [write(tmp_path / "r", reference)]
    changes, reasons = compare_files(*files, target, target="eng_Latn", choice=ALL, resamples=200)
    assert not reasons and [one.metric for one in changes] == list(ALL.names)
    for one in changes:
        assert one.verdict == "significantly better"
        assert (one.delta < 0) == (one.metric == "ter")
        assert one.low < one.delta < one.high and one.p_bootstrap == 1 / 201
        assert "(two-sided)" in one.as_text()
    same, _ = compare_files(
        files[0], files[0], target, target="eng_Latn", choice=ALL, resamples=200
    )
    assert {(one.p_bootstrap, one.p_randomisation) for one in same} == {(1.0, 1.0)}
    assert {one.verdict for one in same} == {"no significant difference"}


def test_comparison_in_blocks_agrees_with_the_whole(tmp_path, monkeypatch):
    reference = lines(300, 1)
    close = [line.replace("river", "lake") if n % 9 == 0 else line
             for n, line in enumerate(reference)]  # fmt: skip
    files = [write(tmp_path / "a", lines(300, 2)), write(tmp_path / "b", close)]
    target = [write(tmp_path / "r", reference)]
    options = {"target": "eng_Latn", "choice": MetricChoice(), "resamples": 300}
    [whole], _ = compare_files(*files, target, **options)
    monkeypatch.setattr(resampling, "BLOCK", 50)
    monkeypatch.setattr(scoring.AlignedFiles.blocks, "__defaults__", (50,))
    [parts], _ = compare_files(*files, target, **options)
    assert (parts.first, parts.second, parts.delta) == (whole.first, whole.second, whole.delta)
    assert parts.high - parts.low == pytest.approx(whole.high - whole.low, rel=0.3)


def test_command_line(tmp_path, capsys):
    from nllb.cli import main

    text = lines(30, 1)
    names = [str(write(tmp_path / name, text)) for name in ("h", "r1", "r2")]
    words = ["eval", "score", "--hypothesis", names[0], "--reference", names[1], "--reference",
             names[2], "-t", "en", "--metrics", "chrf++,ter", "--lowercase", "--json"]  # fmt: skip
    assert main(words) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["signature"][:16] for one in found] == ["nrefs:2|case:lc|"] * 2
    assert main(["eval", "compare", names[0], names[1], "--reference", names[2], "-t", "en"]) == 0
    assert "no significant difference" in capsys.readouterr().out
    assert main(["eval", "compare", names[0], names[1]]) == 2
    assert "add --reference F and --target L" in capsys.readouterr().err
    assert main(["eval", "compare", str(tmp_path), str(tmp_path), "--metrics", "bleu"]) == 2
    assert "apply to two files" in capsys.readouterr().err

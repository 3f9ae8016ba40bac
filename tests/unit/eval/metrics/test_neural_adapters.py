"""The adapters of COMET and MetricX, with fakes of their packages."""

import json
import os
import subprocess
import sys

import pytest

from eval.flores.comparison import compare
from eval.flores.flores_run import evaluate_hypotheses, find_hypotheses, open_benchmark
from eval.metrics.neural import ADAPTERS, metric_command, neural_score
from eval.metrics.neural_metric import NeuralChoice, NeuralMetric
from eval.metrics.registry import MetricChoice
from nllb.errors import ResourceError

COMET = """
print("a package that talks")
class _Model:
    def predict(self, items, batch_size, gpus, progress_bar):
        print("predicting")
        return {"scores": [len(one["mt"]) / 10 for one in items], "system_score": 0.0}
def load_from_checkpoint(path):
    assert path.endswith("wmt22-comet-da/model.ckpt"), path
    return _Model()
"""
METRICX = """
class MT5ForRegression:
    @classmethod
    def from_pretrained(cls, path):
        return cls()
    def eval(self):
        pass
    def __call__(self, input_ids, attention_mask):
        assert input_ids.shape == attention_mask.shape
        class _Output:
            predictions = [input_ids.shape[1] / 10]
        return _Output()
"""
TRANSFORMERS = """
class AutoTokenizer:
    @classmethod
    def from_pretrained(cls, path):
        return cls()
    def __call__(self, text, max_length, truncation):
        assert text.startswith("source: ") and " candidate: " in text and " reference: " in text
        return {"input_ids": list(range(len(text.split()))) + [1]}
"""
TORCH = """
from contextlib import nullcontext
class _Tensor:
    def __init__(self, shape): self.shape = shape
class cuda:
    @staticmethod
    def is_available(): return False
def tensor(rows): return _Tensor((len(rows), len(rows[0])))
def ones(*shape): return _Tensor(shape)
no_grad = nullcontext
"""
ITEMS = [("a b", "c d e", "f"), ("g", "h", "i j")]


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Put fakes of the packages in front of the installed ones, for child processes only."""
    folder = tmp_path / "fakes"
    (folder / "metricx24").mkdir(parents=True)
    (folder / "metricx24" / "__init__.py").touch()
    (folder / "metricx24" / "models.py").write_text(METRICX)
    (folder / "comet.py").write_text(COMET)
    (folder / "transformers.py").write_text(TRANSFORMERS)
    (folder / "torch.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return tmp_path


def test_comet(fakes):
    model = fakes / "wmt22-comet-da" / "model.ckpt"
    found = neural_score(
        metric_command("comet"), ITEMS, source="eng_Latn", target="fra_Latn", model=model
    )
    assert found.scores == (0.5, 0.1) and found.mean == pytest.approx(0.3)
    assert found.low <= found.mean <= found.high
    assert (found.name, found.supported, found.higher_is_better) == ("wmt22-comet-da", True, True)
    other = neural_score(
        metric_command("comet"), ITEMS, source="eng_Latn", target="dyu_Latn", model=model
    )
    assert not other.supported


def test_metricx(fakes):
    found = neural_score(
        metric_command("metricx"), ITEMS, source="eng_Latn", target="yor_Latn",
        model=fakes / "metricx-24-hybrid",
    )  # fmt: skip
    assert found.scores == (0.9, 0.7) and not found.higher_is_better and found.supported


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_missing_model_or_package_is_named(tmp_path, name):
    options = {"source": "eng_Latn", "target": "fra_Latn"}
    with pytest.raises(ResourceError, match="--neural-model"):
        neural_score(metric_command(name), ITEMS, **options)
    if name == "comet":
        with pytest.raises(ResourceError, match="No module named 'comet'"):
            neural_score(metric_command(name), ITEMS, model=tmp_path / "m.ckpt", **options)


def test_adapters_import_nothing_of_ours():
    for path in ADAPTERS.values():
        head = json.dumps({"model": "/m/xcomet", "source": "eng_Latn", "target": "fra_Latn"})
        done = subprocess.run(
            [sys.executable, "-I", str(path)], input=head + "\n", capture_output=True, text=True,
            check=True, env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        assert json.loads(done.stdout)["supported"] is True


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')"])
def test_nan_is_named(value):
    program = (
        "import sys, json; sys.stdin.readline(); "
        "print(json.dumps(dict(name='n', version='1', licence='MIT', supported=True))); "
        f"[print(json.dumps(dict(score={value} if n else 1.0))) for n, _ in enumerate(sys.stdin)]"
    )
    with pytest.raises(ResourceError, match=r"NaN or infinity for 1 of 2 sentences \(line 2\)"):
        neural_score([sys.executable, "-c", program], ITEMS, source="eng_Latn", target="fra_Latn")


def test_an_evaluation_with_a_neural_metric_is_scored_compared_and_reported(tmp_path):
    (tmp_path / "set").mkdir()
    for code in ("eng_Latn", "fra_Latn"):
        lines = [f"{code} sentence number {n}" for n in range(30)]
        (tmp_path / "set" / code).write_text("\n".join(lines) + "\n")
    (tmp_path / "plugin.py").write_text(
        "import sys, json; sys.stdin.readline()\n"
        "print(json.dumps(dict(name='n', version='1', licence='MIT', supported=True)))\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps(dict(score=len(json.loads(line)['mt']) / 100 - 1)))\n"
    )
    choice = MetricChoice(
        neural=NeuralChoice(name="fake", command=(sys.executable, str(tmp_path / "plugin.py")))
    )
    benchmark = open_benchmark(tmp_path / "set")
    evaluations = []
    for system, text in (("old", "un"), ("new", "une ligne")):
        (tmp_path / system).mkdir()
        path = tmp_path / system / "eng_Latn-fra_Latn.txt"
        path.write_text("".join(f"{text} {n}\n" for n in range(30)))
        made = find_hypotheses(tmp_path / system, benchmark, None)
        evaluations.append(
            evaluate_hypotheses(
                made, benchmark=benchmark, out=tmp_path / f"{system}-out", choice=choice
            )
        )
    [row] = evaluations[0].rows
    assert row.scores["neural:fake"].score == pytest.approx(
        sum(len(f"un {n}") for n in range(30)) / 3000 - 1
    )
    assert row.scores["neural:fake"].low < row.scores["neural:fake"].high < 0
    comparison = compare(*evaluations, resamples=100)
    change = next(c for c in comparison.directions if c.metric == "neural:fake")
    assert change.delta == pytest.approx(0.07) and change.p_bootstrap < 0.05
    from eval.report import write_report

    written = write_report(
        [one.directory for one in evaluations], tmp_path / "r.html", resamples=100
    )
    assert "fake" in written.page.read_text()


def test_statistics_keep_six_decimals():
    metric = NeuralMetric("neural:x")
    scores = [0.123456, -1.5, 24.999999]
    statistics = metric.from_scores(scores)
    assert metric.score(statistics).tolist() == scores
    packed = metric.pack(statistics)
    assert (metric.unpack(packed, metric.reference_columns(statistics)) == statistics).all()

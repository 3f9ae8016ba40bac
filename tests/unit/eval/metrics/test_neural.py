"""Plug-ins in a process of their own: protocol, errors, cache, discovery without import."""

import subprocess
import sys
from pathlib import Path

import pytest

from eval.metrics.neural import installed_metrics, metric_command, neural_score
from nllb.errors import ConfigError, ResourceError

PLUGIN = """
import json, sys
head = json.loads(sys.stdin.readline())
supported = head["target"] != "dyu_Latn"
print(json.dumps({"name": "lengths", "version": "2", "licence": "MIT", "supported": supported}))
with open(sys.argv[1], "a") as log:
    for line in sys.stdin:
        item = json.loads(line)
        log.write("x")
        print(json.dumps({"score": len(item["mt"]) / max(len(item["ref"]), 1)}))
"""
ITEMS = [("a", "bb", "cccc"), ("d", "eee", "fff"), ("g", "ü\ud83d", "hh")]


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    return [sys.executable, str(tmp_path / "plugin.py"), str(tmp_path / "log")]


def test_scores_come_in_order(plugin):
    found = neural_score(plugin, ITEMS * 2000, source="eng_Latn", target="fra_Latn")
    assert found.scores[:2] == (0.5, 1.0)
    assert len(found.scores) == 6000
    assert (found.name, found.licence, found.supported) == ("lengths", "MIT", True)
    assert found.mean == pytest.approx(sum(found.scores) / 6000)
    assert not neural_score(plugin, ITEMS, source="eng_Latn", target="dyu_Latn").supported


def test_known_sentences_are_not_scored_again(plugin, tmp_path):
    options = {"source": "eng_Latn", "target": "fra_Latn", "cache_dir": tmp_path / "cache"}
    first = neural_score(plugin, ITEMS[:2], **options)
    again = neural_score(plugin, ITEMS, **options)
    assert again.scores[:2] == first.scores
    assert (tmp_path / "log").read_text(encoding="utf-8") == "xxx"
    neural_score(plugin, ITEMS, model=Path("/other/weights"), **options)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "x" * 6


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('no weights')", "ended with code 1: no weights"),
        ("print('hello')", "did not answer in JSON lines"),
        ("print('{}')", "did not state its 'name'"),
        ("pass", "did not answer with JSON objects"),
        ('print(\'{"name":1,"version":1,"licence":1,"supported":1}\')', "answered 0 of 3"),
    ],
)
def test_errors_of_a_plugin_are_reported(program, message):
    with pytest.raises(ResourceError, match=message):
        neural_score([sys.executable, "-c", program], ITEMS, source="eng_Latn", target="fra_Latn")
    with pytest.raises(ResourceError, match="cannot start"):
        neural_score(["/no/such/program", "x"], ITEMS, source="eng_Latn", target="fra_Latn")


def test_names_and_commands(tmp_path):
    assert metric_command("python -m something") == ["python", "-m", "something"]
    with pytest.raises(ConfigError, match=r"no neural metric 'comett'; did you mean comet\?"):
        metric_command("comett")
    adapter = metric_command("comet", python=tmp_path / "python")
    assert adapter[0] == str(tmp_path / "python") and adapter[1].endswith("comet_adapter.py")
    assert isinstance(installed_metrics(), dict)


def test_discovery_imports_and_connects_to_nothing(tmp_path):
    package = tmp_path / "fake_metric-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-metric\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[nllb.metrics]\nfake = fake_metric_module\n")
    (tmp_path / "fake_metric_module.py").write_text("raise SystemExit('imported')")
    program = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('a connection was tried')\n"
        "socket.socket.connect = refuse\n"
        "sys.modules['torch'] = None\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from eval.metrics.neural import installed_metrics, metric_command\n"
        "assert installed_metrics()['fake'] == 'fake_metric_module'\n"
        "assert metric_command('fake')[1:] == ['-m', 'fake_metric_module']\n"
        "assert 'fake_metric_module' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[4])

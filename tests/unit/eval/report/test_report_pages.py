"""The parts of a report that need no browser: marks, charts, conditions, files for programs."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from eval.flores.direction_scores import score_outputs
from eval.flores.directions import outputs_in, parse_directions
from eval.flores.target_files import target_path
from eval.metrics.registry import MetricChoice
from eval.report import charts, exports, write_report
from eval.report.building import build_page
from eval.report.examples import difference, language_tag
from eval.report.gates import judge, write_junit
from eval.report.sources import read_sources
from nllb.errors import ConfigError, DataError
from nllb.io.benchmarks import load_aligned

CODES = ("eng_Latn", "fra_Latn", "dyu_Latn")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, perturb):
    root = tmp_path_factory.mktemp("systems")
    (root / "set").mkdir()
    for code in CODES:
        lines = [f"{code} number {n} is a sentence of <b>ten</b> words or so." for n in range(25)]
        (root / "set" / code).write_text("\n".join(lines) + "\n", encoding="utf-8")
    benchmark = load_aligned(root / "set", name="flores200")
    for name, share in (("before", 0.1), ("after", 0.5)):
        outputs = root / f"{name}-outputs"
        outputs.mkdir()
        for target in CODES:
            for source in CODES:
                if source != target:
                    lines = perturb(benchmark.sentences(target), share=share)
                    path = outputs / f"{source}-{target}.txt"
                    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if name == "after":
            (outputs / "fra_Latn-dyu_Latn.txt").unlink()
        score_outputs(
            outputs_in(outputs), benchmark=benchmark, out=root / name, choice=MetricChoice(),
            system=name, outputs=outputs, quiet=True,
            wanted=parse_directions(["all"], sources=CODES, targets=CODES),
        )  # fmt: skip
    return root / "before", root / "after"


def test_marks_show_what_each_side_has_alone():
    assert difference("the cat sat", "the cat sat") == "the cat sat"
    assert difference("the old cat", "the cat") == "the <del>old </del>cat"
    assert difference("ab", "ab <c>") == "ab<ins> &lt;c&gt;</ins>"
    marked = str(difference("kitten sat", "sitting sat"))
    assert marked.endswith(" sat")
    assert "<del>" in marked
    assert "<ins>" in marked


def test_marks_never_tear_a_mark_from_its_letter():
    marked = str(difference("हिन्दी", "हिन्दु"))
    assert "<del>ी" not in marked
    assert "<ins>ु" not in marked


def test_language_tags_for_browsers():
    assert language_tag("eng_Latn") == "en-Latn"
    assert language_tag("dyu_Latn") == "dyu-Latn"
    assert language_tag("xxx_Yyyy") == "xxx-Yyyy"


def test_charts_escape_labels_and_carry_text():
    numbers = (1.0, 2.0, 3.0, 4.0, 5.0)
    spread = charts.Spread(label="<low>", tone="series-1", numbers=numbers, count=9)
    svg = charts.strips([spread], title="Scores", unit="chrF++")
    assert "&lt;low&gt;" in svg
    assert "median 3.0" in svg
    assert 'role="img"' in svg
    one = charts.Spread(label="one", tone="series-1", numbers=(7.0,) * 5, count=1)
    assert "NaN" not in charts.strips([one], title="x", unit="y")  # a scale of no width
    point = charts.Point(x=1, y=2, label="a & b")
    assert "a &amp; b" in charts.scatter([point, point], title="t", x_title="x", y_title="y")
    empty = charts.Bar(label="none", counts=(0, 0))
    assert "0 %" in charts.stacked([empty], legend=("a", "b"), tones=("s", "t"), title="t")
    arrow = charts.Arrow(label="x", start=2.0, end=3.0, low=2.5, high=3.5)
    assert "2.00 to 3.00" in charts.arrows([arrow], title="t", unit="u", ends=(1, 5))


def test_conditions_are_judged_by_the_numbers(folders):
    sources = read_sources(folders)
    gates = judge(
        [
            "eng-xx chrf++ drop > 0.5 and significant",
            "en-xx.v_low  chrF++ drop > 90",
            "all chrf++ < 5",
            "all chrf++ < 99.5",
            "missing > 0",
            "missing > 1",
            "faults > 100000",
        ],
        sources,
    )
    assert [gate.failed for gate in gates] == [True, False, False, True, True, False, False]
    assert "95 %" in gates[0].message


def test_conditions_that_cannot_be_read_are_all_named(folders):
    sources = read_sources(folders[1:])
    with pytest.raises(ConfigError) as caught:
        judge(["all chrf++ >> 3", "al chrf++ < 3", "all bleu < 3", "all chrf++ drop > 1"], sources)
    text = str(caught.value)
    assert "cannot read the condition 'all chrf++ >> 3'" in text
    assert "unknown group 'al'; did you mean all" in text
    assert "metric 'bleu' was not computed" in text
    assert "requires two systems" in text


def test_junit_file_names_failures(folders, tmp_path):
    gates = judge(["missing > 0", "flags > 100000"], read_sources(folders))
    write_junit(tmp_path / "gates.xml", gates)
    suite = ElementTree.parse(tmp_path / "gates.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert suite.find("testcase/failure").get("message") == "missing: 1"


def test_model_index_has_groups_and_directions_with_signatures(folders, tmp_path):
    sources = read_sources(folders)
    exports.write_model_index(tmp_path / "index.yaml", sources)
    (model,) = yaml.safe_load((tmp_path / "index.yaml").read_text(encoding="utf-8"))["model-index"]
    assert model["name"] == "after"
    by_config = {result["dataset"]["config"]: result for result in model["results"]}
    metric = by_config["eng_Latn-fra_Latn"]["metrics"][0]
    assert metric["type"] == "chrf"
    assert metric["args"]["word_order"] == 2
    assert "nw:2" in metric["args"]["signature"]
    assert by_config["eng-xx"]["dataset"]["type"] == "facebook/flores"


def test_parquet_has_a_row_for_each_score(folders, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'nllb[data]'")
    exports.write_parquet(tmp_path / "scores.parquet", read_sources(folders))
    rows = parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    assert len(rows) == 11
    row = next(r for r in rows if (r["system"], r["source"], r["target"]) == ("after", *CODES[:2]))
    assert (row["kind"], row["metric"]) == ("eng-xx", "chrf++")


def test_summary_names_what_is_missing(folders, tmp_path):
    sources = read_sources(folders)
    exports.write_markdown(tmp_path / "summary.md", sources, judge(["missing > 0"], sources))
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "after: **missing: 1**" in text
    assert "| from English | all | 2 |" in text
    assert "FAILED: `missing > 0`" in text


def test_page_of_one_system_and_of_texts_that_are_gone(folders, tmp_path):
    sources = read_sources(folders[1:])
    html = build_page(sources).render()
    assert "after reaches" in html
    assert "Largest losses" not in html
    assert "fra_Latn-dyu_Latn" in html  # named as missing
    assert "&lt;b&gt;ten" in html
    moved = Path(sources.latest.outputs)
    moved.rename(tmp_path / "moved")
    try:
        assert "no longer available" in build_page(sources).render()
    finally:
        (tmp_path / "moved").rename(moved)


def test_systems_of_one_name_are_told_apart(folders):
    sources = read_sources([folders[0], folders[0]])
    assert sources.names == ("before (1)", "before (2)")


def test_folder_without_results_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no result: expected evaluation\.json"):
        read_sources([tmp_path])
    with pytest.raises(DataError, match="has no result"):
        write_report([tmp_path], tmp_path / "r.html")


def test_a_drop_of_an_error_rate_is_a_rise(folders, tmp_path):
    """TER counts errors: the system with more of them has dropped."""
    benchmark = load_aligned(folders[0].parent / "set", name="flores200")
    directories = []
    for folder in folders:
        outputs = folder.parent / f"{folder.name}-outputs"
        out = tmp_path / folder.name
        score_outputs(
            outputs_in(outputs), benchmark=benchmark, out=out, choice=MetricChoice(names=("ter",)),
            system=folder.name, outputs=outputs, quiet=True,
            wanted=parse_directions(["eng_Latn-*"], sources=CODES, targets=CODES),
        )  # fmt: skip
        directories.append(out)
    sources = read_sources(directories)
    assert "after is worse than before" in sources.comparison.verdict
    [gate] = judge(["all ter drop > 5 and significant"], sources)
    assert gate.failed and "TER +" in gate.message
    [gate] = judge(["all ter drop > 5"], read_sources(directories[::-1]))
    assert not gate.failed
    assert 'class="number worse"' in build_page(sources).render()


def test_groups_of_bleu_have_a_signature(folders, tmp_path):
    benchmark = load_aligned(folders[0].parent / "set", name="flores200")
    outputs = folders[0].parent / "before-outputs"
    out = tmp_path / "bleu"
    score_outputs(
        outputs_in(outputs), benchmark=benchmark, out=out, choice=MetricChoice(names=("bleu",)),
        system="<script>", outputs=outputs, quiet=True,
        wanted=parse_directions(["eng_Latn-*"], sources=CODES, targets=CODES),
    )  # fmt: skip
    exports.write_model_index(tmp_path / "index.yaml", read_sources([out]))
    (model,) = yaml.safe_load((tmp_path / "index.yaml").read_text(encoding="utf-8"))["model-index"]
    assert model["name"] == "&lt;script&gt;"
    for result in model["results"]:
        assert "tok:13a" in result["metrics"][0]["args"]["signature"]


@pytest.fixture
def forged(folders, tmp_path):
    """Results of someone else, and a file of this machine that they would like to see."""
    folder = Path(shutil.copytree(folders[0], tmp_path / "results"))
    secrets = tmp_path / "home"
    secrets.mkdir()
    lines = [f"secret {number}" for number in range(25)]
    for name in ("passwords.txt", "eng_Latn-fra_Latn.txt", "fra_Latn", "eng_Latn"):
        (secrets / name).write_text("\n".join(lines) + "\n")
    return folder, secrets


def change_results(folder, *, rows=None, **values):
    path = folder / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    for target in CODES if rows else ():
        path = folder / "targets" / f"{target}.npz"
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        changed = [row | rows for row in json.loads(found["rows"].tobytes())]
        found["rows"] = np.frombuffer(json.dumps(changed).encode(), np.uint8)
        np.savez(path, **found)


@pytest.mark.parametrize("where", ["outputs", "benchmark_dir"])
def test_a_report_shows_no_lines_of_files_that_were_not_scored(forged, where):
    folder, secrets = forged
    change_results(folder, **{where: str(secrets)})
    page = build_page(read_sources([folder])).render()
    assert "secret" not in page
    assert "no longer available" in page


@pytest.mark.parametrize("name", ["../home/passwords.txt", "/etc/passwd", ".."])
def test_names_of_files_in_results_stay_names(forged, name):
    folder, _ = forged
    change_results(folder, rows={"file": name})
    with pytest.raises(DataError, match="lists 6 directions"):
        build_page(read_sources([folder]))


def test_targets_in_results_are_codes(forged):
    folder, _ = forged
    hashes = {"../../home/passwords": "0" * 64}
    change_results(folder, reference_sha256=hashes)
    with pytest.raises(DataError, match="lists 6 directions"):
        build_page(read_sources([folder]))
    with pytest.raises(DataError, match="which is not a language code"):
        target_path(folder, "../../home/passwords")


@pytest.mark.parametrize(
    "values", [{"metrics": []}, {"groups": [3]}, {"signatures": {}}, {"num_sentences": "many"}]
)
def test_results_of_another_form_are_refused(forged, values):
    folder, _ = forged
    change_results(folder, **values)
    with pytest.raises(DataError, match=r"evaluation\.json is damaged"):
        read_sources([folder])

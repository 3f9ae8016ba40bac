"""The card of a model, from the files of its training and of its evaluation."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from eval.model_card.card import BEGIN, END
from nllb.cli import main
from nllb.config import write_config
from nllb.io.manifest import read_manifest
from nllb.io.text import read_table, write_json
from nllb.training.train_config import TrainConfig

LINES = {
    "eng_Latn": ["The museum opens at nine.", "Tickets are sold at the door.", "Dogs wait."],
    "fra_Latn": ["Le musée ouvre à neuf heures.", "Les billets sont vendus ici.", "Un chien."],
    "deu_Latn": ["Das Museum öffnet um neun.", "Karten gibt es an der Tür.", "Hunde warten."],
}
PAIRS = ["eng_Latn-fra_Latn", "fra_Latn-eng_Latn", "fra_Latn-deu_Latn"]


@pytest.fixture
def run_dir(token_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "metrics").mkdir(parents=True)
    write_config(TrainConfig(data=token_data), folder / "config.yaml")
    for step, tokens in ((100, 9), (120, 98765)):
        state = {"step": step, "tokens": tokens, "seconds": 5400.0}
        path = folder / "checkpoints" / f"step_{step:08}" / "state.json"
        write_json(path, {**state, "made_by": {"data": "0f1e2d3c"}})
    records = [
        {"step": step, "loss": 4 - step / 100, "chrf": step / 4} for step in range(5, 125, 5)
    ]
    (folder / "metrics" / "valid.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


@pytest.fixture
def scores(tmp_path: Path, capsys) -> dict[str, Path]:
    """Return evaluations of a system that translates all but the last line, and of copying."""
    (tmp_path / "set").mkdir()
    for code, lines in LINES.items():
        (tmp_path / "set" / code).write_text("\n".join(lines) + "\n")
    (tmp_path / "given").mkdir()
    for pair in PAIRS:
        lines = [*LINES[pair.partition("-")[2]][:2], ""]
        (tmp_path / "given" / f"{pair}.txt").write_text("\n".join(lines) + "\n")
    found = {name: tmp_path / name for name in ("own", "copying")}
    common = ["--flores", str(tmp_path / "set"), "--directions", *PAIRS, "--quiet"]
    made = {"own": ["--outputs", str(tmp_path / "given")], "copying": ["--copying"]}
    for name, folder in found.items():
        assert main(["eval", "flores", str(folder), *made[name], *common]) == 0
    capsys.readouterr()
    return found


def test_all_that_is_known_of_a_model_is_on_its_card(
    random_model_dir, run_dir, scores, token_data, tmp_path, capsys
) -> None:
    model = Path(shutil.copytree(random_model_dir, tmp_path / "model"))
    prose = "# Mine\n\nWhat people wrote."
    (model / "README.md").write_text(f"{prose}\n\n{BEGIN}\nold\n{END}\n\nAnd after it.\n")
    words = ["card", str(model), "--run", str(run_dir), "--scores", str(scores["own"])]
    words += [
        "--beside",
        f"copying={scores['copying']}",
        "--licence",
        "CC0",
        "--summary",
        "a trial",
    ]
    words += ["--command", "nllb train mine out", "--hardware", "two old cores"]
    assert main(words) == 0
    card = (model / "README.md").read_text()
    metadata = ModelCard(card)
    assert metadata.text.startswith(prose)
    assert (metadata.data.license, metadata.data.pipeline_tag) == ("cc0-1.0", "translation")
    configs = {one.dataset_config: one.metric_value for one in metadata.data.eval_results}
    assert set(configs) == {"all", "eng-xx", "xx-eng", "non-eng"} and configs["all"] > 0
    assert card.endswith("And after it.\n") and "\nold\n" not in card
    for corpus in read_manifest(token_data).corpora:
        assert f"| {corpus.name} | {corpus.origin} | " in card and f"{corpus.num_pairs:,} |" in card
    for said in (
        *("120 steps, 98,765 target tokens, 1.5 hours on two old cores", "    nllb train mine out"),
        *("Shards `0f1e2d3c`", "| 120 | 2.800 | 30.0 |", "were not available"),
        *("| never trained on | 1 |", "Of 9 output lines 3 are empty, 0 equal the source"),
    ):
        assert said in card, said
    assert card.count("\n| ") < 60  # the curve is thinned out
    settings = json.loads((model / "nllb.json").read_text())
    assert (settings["licence"], settings["summary"]) == ("CC0", "a trial")
    assert settings["evaluation"]["sentences"] == 3
    rows = list(read_table(model / "scores.tsv"))
    assert [f"{row['source']}-{row['target']}" for row in rows] == sorted(PAIRS)
    assert all(float(row["chrf++"]) > float(row["copying.chrf++"]) for row in rows)
    assert rows[0]["pairs"] != "0" == rows[1]["pairs"] and rows[0]["empty"] == "1"
    assert main([*words, "--quiet"]) == 0
    assert (model / "README.md").read_text() == card
    settings["training"] = {"step": 100}  # the best checkpoint need not be the newest
    write_json(model / "nllb.json", settings)
    assert main([*words, "--quiet"]) == 0
    card = (model / "README.md").read_text()
    assert "100 steps, 9 target tokens" in card and "| 2.800 |" not in card
    capsys.readouterr()
    assert main(["models", str(model)]) == 0
    assert "licence of the weights: CC0" in capsys.readouterr().out


def test_what_cannot_be_a_card(random_model_dir, run_dir, scores, tmp_path, capsys) -> None:
    model = Path(shutil.copytree(random_model_dir, tmp_path / "model"))
    begin = ["card", str(model), "--run", str(run_dir)]
    other = tmp_path / "other"
    common = ["--flores", str(tmp_path / "set"), "--directions", PAIRS[0], "--quiet"]
    assert main(["eval", "flores", str(other), "--copying", "--lines", "2", *common]) == 0
    for words, message in (
        (["card", str(tmp_path / "none"), "--run", str(run_dir)], "is not a directory"),
        (["card", str(model), "--run", str(tmp_path)], "contains no checkpoint"),
        ([*begin, "--beside", "copying=x"], "--beside requires --scores"),
        ([*begin, "--scores", str(scores["own"]), "--beside", "x"], "not of the form NAME=DIR"),
        ([*begin, "--scores", str(scores["own"]), "--beside", f"x={other}"], "only the same lines"),
    ):
        assert main(words) in {1, 2}
        assert message in capsys.readouterr().err
    (model / "README.md").write_text(f"# Mine\n{BEGIN}\n")
    assert main(begin) == 1
    assert "without" in capsys.readouterr().err

"""The model that ships: its size, its card, and that the card's figures come out of its files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nllb.io.text import read_json, read_table
from nllb.model.formats.conversion import convert
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.shipped import DEFAULT_MODEL, SHIPPED_DIR

MODEL_DIR = SHIPPED_DIR / DEFAULT_MODEL
MOST_BYTES = 40_000_000
MOST_BELOW = 0.5
pytestmark = pytest.mark.slow


def scores() -> list[dict[str, str]]:
    return list(read_table(MODEL_DIR / "scores.tsv"))


def six_directions() -> list[dict[str, str]]:
    """Return the two most trained directions of each kind: from, into and without English."""
    rows = sorted(scores(), key=lambda row: (-int(row["pairs"]), row["source"], row["target"]))
    kinds = {
        "from": [row for row in rows if row["source"] == "eng_Latn"],
        "into": [row for row in rows if row["target"] == "eng_Latn"],
        "without": [row for row in rows if "eng_Latn" not in (row["source"], row["target"])],
    }
    return [row for kind in kinds.values() for row in kind[:2]]


def test_it_is_small_and_whole() -> None:
    files = [path for path in MODEL_DIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {"README.md", "LICENSE", "nllb.json", "scores.tsv"} <= {path.name for path in files}
    model = open_model(DEFAULT_MODEL)
    assert model.config.num_experts > 1
    for name in model.weights:
        if len(model.weights.shape(name)) == 2 and "router" not in name:
            assert model.weights.dtype(name) == torch.int8, name


def test_the_card_says_what_it_is_made_of() -> None:
    card = (MODEL_DIR / "README.md").read_text(encoding="utf-8")
    settings = read_json(MODEL_DIR / "nllb.json")
    assert settings["licence"] == "CC BY-SA 4.0"
    for corpus in settings["data"]:
        assert f"| {corpus['name']} | {corpus['origin']} | {corpus['licence']} |" in card
    assert {corpus["name"] for corpus in settings["data"]} <= {
        *("seed", "tico19", "udhr", "tatoeba", "mined")
    }
    for part in ("## Data", "## Training", "## Figures", "Toxicity", "share alike", "not for"):
        assert part.lower() in card.lower(), part
    assert "/tmp" not in card + json.dumps(settings)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(6))
def test_figures_of_the_card_come_out_of_the_files(
    number: int, data_dir: Path, tmp_path: Path
) -> None:
    """At most half a point below: what the processor computes differs in the last bits."""
    row = six_directions()[number]
    settings = read_json(MODEL_DIR / "nllb.json")["evaluation"]
    beam = re.match(r"beam (\d+), (no )?retry, weights (\w+)", settings["search"])
    assert beam is not None
    words = ["eval", "flores", str(tmp_path), "--model", DEFAULT_MODEL, "--beam", beam[1]]
    words += ["--directions", f"{row['source']}-{row['target']}", "--dtype", beam[3]]
    words += ["--flores", str(data_dir / "flores200_dataset"), "--metrics", "chrf++"]
    words += ["--no-retry"] if beam[2] else []
    words += ["--lines", str(settings["sentences"]), "--quiet", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "nllb", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])
    assert found["direction"] == f"{row['source']}-{row['target']}"
    assert found["scores"]["chrf++"]["score"] > float(row["chrf++"]) - MOST_BELOW


def test_transformers_computes_the_same_from_its_float16(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    convert(open_model(DEFAULT_MODEL), tmp_path / "half", storage="float16", quiet=True)
    model = open_model(tmp_path / "half")
    tokenizer = model.tokenizer()
    source = torch.tensor([tokenizer.encode_source("The library opens at nine.", "eng_Latn")])
    target = torch.tensor([[*tokenizer.decoder_start("fra_Latn"), *source[0, 1:6].tolist()]])
    theirs = AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "half", torch_dtype=torch.float32
    ).eval()
    with torch.no_grad():
        ours = load_model(model)(source, target)
        expected = theirs(input_ids=source, decoder_input_ids=target).logits
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-3)


def test_it_is_what_translates_where_nothing_is_named(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "nllb", "translate", "--source", "en", "--target", "fr"],
        input="Good morning.\n",
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "model: mini (ships with nllb" in done.stderr
    assert done.stdout.strip() not in {"", "Good morning."}

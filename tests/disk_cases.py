"""Verbs that write files, with small inputs, for tests of full and of read-only disks."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch

from data_pipeline.mining.encoders.static_encoder import save_encoder
from tests.untrusted_samples import WORDS

LINES = 400
LANGUAGES = ("eng_Latn", "fra_Latn")


@dataclass(frozen=True)
class Case:
    """A verb with its arguments."""

    words: Callable[[Path], list[str]]
    """The arguments, given the folder of inputs; `OUT` stands for the output."""
    output: str = "output"
    """Name of the output."""
    limits: tuple[int, ...] = (2000,)
    """Sizes in bytes beyond which no file can grow; the verb fails at different places."""


def flores_words(folder: Path) -> list[str]:
    """Return the arguments of `nllb eval flores` after its output."""
    words = ["--outputs", str(folder / "outputs"), "--flores", str(folder / "set")]
    return [*words, "--workers", "1", "--quiet"]


def _translate(inputs: Path) -> list[str]:
    model = ["--model", str(inputs / "model"), "--dtype", "float32", "--threads", "1"]
    languages = ["-s", "en", "-t", "fr", "--no-retry", "--beam", "1", "-q"]
    return ["translate", str(inputs / "few.txt"), *model, *languages, "-o", "OUT"]


def _prune(inputs: Path) -> list[str]:
    languages = ["--source", "en", "--target", "fr", "--keep", "0.5", "--quiet"]
    return ["prune", str(inputs / "model"), "OUT", "--text", str(inputs / "few.txt"), *languages]


def _finetune(inputs: Path) -> list[str]:
    text = ["--text", str(inputs / "pairs" / "eng_Latn-fra_Latn.tsv")]
    run = ["schedule.steps=2", "schedule.checkpoint_every=1", "schedule.validate_every=2"]
    reader = ["reader.max_tokens=160", "reader.max_length=80", "parallel.runner=plain"]
    words = ["finetune", "--model", str(inputs / "model"), *text, "OUT", "--quiet"]
    return [*words, *run, *reader, "self_replay_lines=0", "device=cpu"]


def _of_config(*verb: str) -> Callable[[Path], list[str]]:
    """Return the words of a verb that is given a configuration of its own name."""
    name = "-".join(verb)
    return lambda inputs: [*verb, str(inputs / f"{name}.yaml"), "OUT", "--quiet"]


CASES = {
    "detect": Case(lambda i: ["detect", str(i / "text.txt"), "-o", "OUT"]),
    "translate": Case(_translate),
    "convert": Case(lambda i: ["convert", str(i / "model"), "OUT", "--quiet"]),
    "prune": Case(_prune),
    "experts": Case(
        lambda i: [
            *("experts", str(i / "model"), "OUT", "--text", str(i / "set"), "--lines", "5"),
            "--quiet",
        ]
    ),
    "lid train": Case(_of_config("lid", "train"), limits=(2000, 8000, 60_000)),
    "lid eval": Case(
        lambda i: ["lid", "eval", "default", "OUT", "--text", str(i / "set"), "--quiet"]
    ),
    "data ingest": Case(
        lambda i: ["data", "ingest", str(i / "data.yaml"), "OUT", "--quiet"],
    ),
    "data mine": Case(_of_config("data", "mine"), limits=(2000, 10_000)),
    "train": Case(_of_config("train")),
    "finetune": Case(_finetune, limits=(2000, 30_000)),
    "backtranslate": Case(_of_config("backtranslate"), limits=(400,)),
    "run": Case(_of_config("run"), limits=(200, 2000)),
    "slurm submit": Case(
        lambda i: ["slurm", "submit", "local", "--run-dir", "OUT", "--", "nllb", "languages"]
    ),
    "eval flores": Case(lambda i: ["eval", "flores", "OUT", *flores_words(i)]),
    "eval report": Case(
        lambda i: ["eval", "report", str(i / "scores"), "OUT", "--quiet"], output="report.html"
    ),
    "eval xsts sheet": Case(
        lambda i: ["eval", "xsts", "sheet", str(i / "items.csv"), "OUT", "--raters", "a", "b", "c"]
    ),
    "eval xsts score": Case(lambda i: ["eval", "xsts", "score", str(i / "ratings.csv"), "OUT"]),
    "serve keys add": Case(lambda i: ["serve", "keys", "add", "--keys", "OUT"], output="keys.db"),
}


def words_of(name: str, inputs: Path, output: Path) -> list[str]:
    """Return the command line of a case."""
    return [str(output) if word == "OUT" else word for word in CASES[name].words(inputs)]


def make_inputs(folder: Path, *, model: Path, shards: Path) -> None:
    """Write the inputs of all cases; `scores`, the output of `eval flores`, is left out."""
    shutil.copytree(model, folder / "model")
    shutil.copytree(shards, folder / "shards")
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=8)) + f" {number}." for number in range(LINES)]
    _write(folder / "text.txt", lines)
    _write(folder / "few.txt", lines[:20])
    for code in LANGUAGES:
        _write(folder / "set" / code, lines)
    _write(folder / "outputs" / "eng_Latn-fra_Latn.txt", lines)
    _write(folder / "raw" / "eng_Latn-fra_Latn.tsv", [f"{line}\t{line}" for line in lines])
    _write(folder / "pairs" / "eng_Latn-fra_Latn.tsv", [f"{line}\t{line}" for line in lines[:60]])
    words = {"eng_Latn": WORDS, "fra_Latn": "la maison est petite et le chien dort ici".split()}
    for code, own in words.items():
        rows = [" ".join(draw.choices(own, k=12)) + f" {number}." for number in range(80)]
        _write(folder / "lid" / code, rows)
    table = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    owners = numpy.arange(100, dtype=numpy.int32)
    save_encoder(folder / "encoder", table=table, owners=owners, card={"name": "random"})
    header = "item_id,system,src_lang,tgt_lang,src_text,tgt_text"
    items = [f"i{n},s,eng_Latn,fra_Latn,{line},{line}" for n, line in enumerate(lines)]
    _write(folder / "items.csv", [header, *items])
    ratings = [f"{item},r{r},{1 + n % 5}" for n, item in enumerate(items) for r in range(3)]
    _write(folder / "ratings.csv", [f"{header},rater_id,score", *ratings])
    for name, text in _CONFIGS.items():
        (folder / f"{name}.yaml").write_text(text.format(folder=folder))


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


_CONFIGS = {
    "data": """kind: data
data_dir: {folder}
corpora:
  - name: own
    format: tsv
    path: raw/{{source}}-{{target}}.tsv
    licence: MIT
    languages: [eng_Latn, fra_Latn]
decontamination: []
""",
    "train": """kind: train
data: {folder}/shards
model: {{architecture: moe-tiny, model_dim: 32, heads: 2, ffn_dim: 64}}
reader: {{max_tokens: 160, batches_per_step: 1, max_length: 80}}
schedule: {{steps: 4, checkpoint_every: 2, validate_every: 4, log_every: 1}}
parallel: {{runner: plain}}
device: cpu
""",
    "data-mine": """kind: mine
data_dir: {folder}
encoder: {folder}/encoder
text:
  - {{language: eng_Latn, path: text.txt}}
  - {{language: fra_Latn, path: few.txt}}
pairs:
  - {{source: fra_Latn, target: eng_Latn}}
neighbours: 2
threshold: 1.0
block_sentences: 200
""",
    "backtranslate": """kind: backtranslation
model: {folder}/model
text:
  - {{path: {folder}/few.txt, language: fra_Latn, into: eng_Latn}}
block_lines: 10
device: cpu
""",
    "lid-train": """kind: lid
data_dir: {folder}
sources: [{{path: lid, layout: lines, licence: MIT}}]
evaluation: []
sampling: {{lines: 100, max_lines: 100}}
ngrams: {{max_ngrams: 200, size_bytes: 4096}}
fasttext: {{dim: 8, epochs: 4, buckets: 3000, kept_ngrams: 1000, quantised_epochs: 2}}
licence: MIT
""",
    "run": """kind: pipeline
steps:
  - name: first
    command: nllb languages
""",
}

"""A model on a pretrained encoder: it trains, resumes to the bit, and translates as torch does."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from nllb.cli import main
from nllb.config import load_config
from nllb.errors import CheckpointError, ConfigError
from nllb.inference.generator import SearchOptions
from nllb.inference.line_translator import LineTranslator
from nllb.inference.model_generator import ModelGenerator
from nllb.languages import parse_language
from nllb.model.formats.conversion import convert
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.formats.open_model import load_model, open_model
from nllb.training.finetune_config import (
    FinetuneConfig,
    FinetuneReader,
    FinetuneSchedule,
    NewLanguage,
    TextPairs,
)
from nllb.training.finetuning.finetune import finetune
from nllb.training.train_config import ParallelSection, TrainConfig
from nllb.training.trainer import train
from nllb.translation import Translator

CONFIG = """
kind: train
data: {data}
model:
  architecture: moe-tiny
  encoder: {encoder}
  model_dim: 64
  decoder_layers: 2
  sparse_step: 1
  heads: 4
  ffn_dim: 32
  dropout: 0.1
routing: {{mode: dropless}}
reader: {{max_tokens: 160, batches_per_step: 1, max_length: 80, join: 0.2}}
optimizer:
  {{kind: muon, learning_rate: 0.02, warm_up_steps: 5, decay: constant, cool_down_steps: 10,
    clip_norm: 1.0, weight_decay: 0.01}}
softmax_negatives: 64
schedule: {{steps: 40, checkpoint_every: 10, validate_every: 40, log_every: 5, keep_last: 9}}
parallel: {{runner: plain}}
device: cpu
"""


@pytest.fixture(scope="module")
def configured(token_data: Path, encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(CONFIG.format(data=token_data, encoder=encoder_dir))

    def load(*overrides: str) -> TrainConfig:
        return load_config(TrainConfig, path, overrides)

    return load


@pytest.fixture(scope="module")
def run(configured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(configured(), folder, translators=LineTranslator, quiet=True)
    return folder


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for path in sorted((folder / "checkpoints" / f"step_{step:08d}").glob("*.safetensors")):
        found |= load_file(path)
    return found


def test_it_learns(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics/train.jsonl").read_text().splitlines()]
    losses = [line["negative_log_likelihood"] for line in lines]
    assert losses[-1] < losses[0] - 0.5
    assert [line["learning_rate"] for line in lines[1:6]] == [0.02] * 5
    assert lines[-1]["learning_rate"] < 0.003


def test_the_language_token_is_input_but_no_label(configured, token_data: Path) -> None:
    from nllb.io.manifest import read_manifest
    from nllb.training.batches.reader import BatchReader
    from nllb.training.build_model import open_tokenizer

    config, manifest = configured(), read_manifest(token_data)
    tokenizer = open_tokenizer(config, manifest)
    reader = BatchReader(manifest, config.reader, encoder=tokenizer)
    languages = {tokenizer.language_id(code) for code in tokenizer.languages}
    for batch in reader.step(0):
        assert {int(first) for first in batch.target_in[:, 0]} <= languages
        assert not languages & set(batch.labels.flatten().tolist())
        assert (batch.source[:, 0] == tokenizer.encoder.config.bos_id).all()
        ends = (batch.labels != 1).sum(1) - 1
        assert (batch.labels[torch.arange(len(ends)), ends] == 2).all()
        assert torch.equal(
            batch.labels[:, :-1][batch.target_in[:, 1:] != 1],
            batch.target_in[:, 1:][batch.target_in[:, 1:] != 1],
        )


@pytest.mark.slow
def test_a_resumed_run_is_the_same_to_the_bit(configured, run: Path, tmp_path: Path) -> None:
    for steps in (17, 40):  # the first call ends within a chunk, at no checkpoint of the other run
        config = configured(f"schedule.steps={steps}", "optimizer.cool_down_steps=0")
        train(config, tmp_path / "again", translators=LineTranslator, quiet=True)
    whole = configured("optimizer.cool_down_steps=0")
    train(whole, tmp_path / "whole", translators=LineTranslator, quiet=True)
    ours, theirs = weights(tmp_path / "again", 40), weights(tmp_path / "whole", 40)
    assert ours.keys() == theirs.keys() and any("exp_avg_sq" in name for name in ours)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.slow
def test_an_extended_run_goes_on_before_the_cool_down(configured, tmp_path: Path) -> None:
    short = configured("schedule.keep_last=1", "schedule.steps=25")
    train(short, tmp_path / "extended", translators=LineTranslator, quiet=True)
    assert sorted(p.name for p in (tmp_path / "extended/checkpoints").iterdir()) == [
        *("step_00000015", "step_00000025")
    ]
    train(configured(), tmp_path / "extended", translators=LineTranslator, quiet=True)
    train(configured(), tmp_path / "whole", translators=LineTranslator, quiet=True)
    ours, theirs = weights(tmp_path / "extended", 40), weights(tmp_path / "whole", 40)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.slow
def test_the_encoder_can_be_tuned_from_a_trained_model(
    configured, run: Path, encoder_dir: Path, tmp_path: Path
) -> None:
    overrides = [
        *(f"model.initial={run / 'model'}", "model.encoder=null", "model.tune_encoder=true"),
        *("optimizer.cool_down_steps=0", "optimizer.warm_up_steps=0", "schedule.validate_every=0"),
    ]
    for folder, stops in (("whole", [6]), ("again", [3, 6])):
        for steps in stops:
            config = configured(*overrides, f"schedule.steps={steps}")
            train(config, tmp_path / folder, translators=LineTranslator, quiet=True)
    ours, theirs = weights(tmp_path / "again", 6), weights(tmp_path / "whole", 6)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    tuned = EncoderDirectory.open(tmp_path / "whole/model/encoder")
    before = EncoderDirectory.open(encoder_dir)
    change = (tuned.read("layers.1.inner.weight") - before.read("layers.1.inner.weight")).abs()
    assert 1e-4 < change.max() < 0.1
    assert torch.equal(tuned.read("embedding.weight"), before.read("embedding.weight"))
    opened = open_model(tmp_path / "whole/model")
    assert opened.config.pretrained_encoder != open_model(run / "model").config.pretrained_encoder
    assert ModelGenerator.load(opened.path, device="cpu").tokenizer.languages


@pytest.mark.parametrize("memory", ["mix", "last"])
def test_the_engines_agree_with_torch(configured, memory: str, tmp_path: Path) -> None:
    config = configured(f"model.memory={memory}", "schedule.steps=30")
    train(config, tmp_path / "run", translators=LineTranslator, quiet=True)
    opened = open_model(tmp_path / "run/model")
    model, tokenizer = load_model(opened), opened.tokenizer()
    source, target = parse_language("eng_Latn"), parse_language("fra_Latn")
    texts = ["the house is small", "dog", "an old man lives in it by river"]
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer.encode_source(text, source.code)])
            start = torch.tensor([tokenizer.decoder_start(target.code)])
            expected = model(ids, start)[0, -1]
            for dtype, tolerance in (("float32", 1e-3), ("int8", 0.15)):
                generator = ModelGenerator.load(opened.path, device="cpu", dtype=dtype)
                memory_ = generator.engine.encode([ids[0].tolist()])
                decoding = generator.engine.decode(memory_, width=1, max_positions=4)
                decoding.advance(start.numpy(), *([torch.zeros(1, dtype=int).numpy()] * 2))
                found = decoding.logits()[0]
                assert (found - expected).abs().max() < tolerance * expected.abs().max()
    search = SearchOptions(beam_size=2, max_output_tokens=12)
    together = generator.generate(texts, source=source, target=target, search=search)
    alone = [generator.generate([t], source=source, target=target, search=search)[0] for t in texts]
    assert [hyp[0].text for hyp in together] == [hyp[0].text for hyp in alone]


def test_a_converted_model_keeps_its_encoder(run: Path, tmp_path: Path) -> None:
    convert(open_model(run / "model"), tmp_path / "int8", storage="int8", quiet=True)
    opened = open_model(tmp_path / "int8")
    assert opened.weights.is_quantized and opened.config.pretrained_layers == 3
    generator = ModelGenerator.load(opened.path, device="cpu")
    found = generator.generate(
        ["the house", ""],
        source=parse_language("eng_Latn"),
        target=parse_language("deu_Latn"),
        search=SearchOptions(beam_size=1, max_output_tokens=8),
    )
    assert len(found) == 2


def test_directions_can_go_through_english(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    (tmp_path / "tatoeba").mkdir()
    lines = "".join(f"the house {n}\tdas haus {n}\n" for n in range(60))
    (tmp_path / "tatoeba/fra_Latn-deu_Latn.tsv").write_text(lines)
    words = [str(tmp_path / "model"), f"pairs:{tmp_path / 'tatoeba'}", "--max-pairs", "50"]
    assert main(["eval", "pivots", *words, "--quiet"]) == 0
    rows = (tmp_path / "model/pivots.tsv").read_text().splitlines()[2:]
    assert [row.split("\t")[:2] for row in rows] == [
        *(["deu_Latn-fra_Latn", "50"], ["fra_Latn-deu_Latn", "50"])
    ]
    settings = json.loads((tmp_path / "model/nllb.json").read_text())
    settings["pivot_directions"] = ["fra_Latn-deu_Latn"]
    (tmp_path / "model/nllb.json").write_text(json.dumps(settings))
    translator = Translator.load(tmp_path / "model", device="cpu")
    search = SearchOptions(beam_size=1, max_output_tokens=2)
    names = [("fra_Latn", "deu_Latn"), ("fra_Latn", "eng_Latn"), ("eng_Latn", "deu_Latn")]
    pivoted, into, direct = (
        translator.translate("the house", *pair, search=search, retry=False) for pair in names
    )
    trust = pivoted.segments[0].trust
    assert trust.pivot_text == into.text and pivoted.segments[0].source_text == "the house"
    assert direct.segments[0].trust.pivot_text is None


@pytest.mark.slow
def test_a_language_is_added_by_fine_tuning(run: Path, tmp_path: Path) -> None:
    words = ["Welsh", "Irish", "Zulu", "Xhosa", "Malay", "Dutch"]
    rows = [f"{a} {b}\t{b} {a}\n" for a in words for b in words] * 2
    path = tmp_path / "eng_Latn-xyz_Latn.tsv"
    path.write_text("".join(rows))
    config = FinetuneConfig(
        model=str(run / "model"),
        text=(TextPairs(path=path, source="eng_Latn", target="xyz_Latn"),),
        add=(NewLanguage(code="xyz_Latn", like="deu_Latn"),),
        self_replay_lines=4,
        reader=FinetuneReader(max_tokens=200, max_length=60),
        schedule=FinetuneSchedule(steps=6, checkpoint_every=6, validate_every=6, translations=4),
        parallel=ParallelSection(runner="plain"),
        device="cpu",
    )
    _, report = finetune(config, tmp_path / "out", translators=LineTranslator, quiet=True)
    assert report is not None and report.added_languages == ("xyz_Latn",)
    tokenizer = open_model(tmp_path / "out/model").tokenizer()
    assert "xyz_Latn" in tokenizer.languages
    assert tokenizer.decoder_start("xyz_Latn") == [tokenizer.language_id("xyz_Latn")]
    assert ModelGenerator.load(tmp_path / "out/model", device="cpu").tokenizer.encoder is not None


@pytest.mark.slow
def test_fine_tuning_on_the_command_line(run: Path, tmp_path: Path, capsys) -> None:
    """A dry run writes nothing; a result with a problem is reported, and strict makes it fail."""
    words = ["Welsh", "Irish", "Zulu", "Xhosa", "Malay", "Dutch"]
    path = tmp_path / "eng_Latn-deu_Latn.tsv"
    path.write_text("".join(f"{a} {b}\t{b} {a}\n" for a in words for b in words))
    out = tmp_path / "out"
    command = ["finetune", "--model", str(run / "model"), "--text", str(path), str(out), "--quiet"]
    command += ["schedule.steps=2", "schedule.translations=4", "reader.max_tokens=200"]
    command += ["reader.max_length=60"]
    command += ["self_replay_lines=0", "parallel.runner=plain", "device=cpu"]
    assert main([*command, "--dry-run"]) == 0
    assert not out.exists()
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "nllb: warning: no better than copying the source: eng_Latn-deu_Latn" in said
    assert main([*command, "--strict"]) == 1


def test_another_encoder_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["pretrained_encoder"] = "0123456789abcdef"
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="was trained on the pretrained encoder 0123"):
        ModelGenerator.load(tmp_path / "model", device="cpu")


def test_the_width_must_be_that_of_the_encoder(configured, tmp_path: Path) -> None:
    config = configured("model.model_dim=32")
    with pytest.raises(ConfigError, match=r"model\.model_dim=64"):
        train(config, tmp_path / "run", quiet=True)

"""Fine-tuning: the extended vocabulary, data, replay, and runs from start to report."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from nllb.cli import main
from nllb.config.loading import config_of
from nllb.errors import ConfigError, DataError
from nllb.io.manifest import read_manifest
from nllb.model.formats.open_model import load_model, open_model
from nllb.training.finetune_config import FinetuneConfig, NewLanguage
from nllb.training.finetuning.finetune import finetune, plan_finetuning
from nllb.training.finetuning.interpolation import choose_share
from nllb.training.finetuning.text_shards import (
    pairs_from_filename,
    read_pairs,
    split_pairs,
    write_text_shards,
)
from nllb.training.finetuning.vocabulary_extension import (
    extend_embedding,
    extend_vocabulary,
    missing_characters,
)
from nllb.training.translating import Translate

NEW = NewLanguage(code="xyz_Latn", like="ita_Latn")
CHARACTERS = ["\u0263", "\U0001f701"]


def test_old_text_keeps_its_ids_and_new_characters_get_theirs(random_model_dir: Path) -> None:
    old = open_model(random_model_dir).tokenizer()
    extension = extend_vocabulary(old, [NEW], CHARACTERS)
    new = extension.tokenizer
    assert new.vocabulary_size == old.vocabulary_size + 3
    for text in ("English: English.", "Italian and Ligurian"):
        assert new.encode(text) == old.encode(text)
    assert missing_characters(old, ["a\u0263b \U0001f701"] * 2, min_lines=2) == CHARACTERS
    assert missing_characters(old, ["a\u0263b", "x"], min_lines=2) == []
    text = "a\u0263b \U0001f701 \u0263"
    assert new.unknown_characters(text) == () and new.decode(new.encode(text)) == text
    assert "\u2047" in old.decode(old.encode(text))
    assert set(new.languages) == {*old.languages, "xyz_Latn"}
    assert new.language_id("ita_Latn") == old.language_id("ita_Latn") + 2
    assert new.data_tag_id("<MINED_DATA>") == old.data_tag_id("<MINED_DATA>") + 2


def test_embedding_rows_move_and_start_from_their_origins(random_model_dir: Path) -> None:
    old = open_model(random_model_dir).tokenizer()
    extension = extend_vocabulary(old, [NEW], CHARACTERS)
    embedding = torch.randn(old.vocabulary_size, 4)
    extended = extend_embedding(embedding, extension)
    assert extended.shape == (extension.tokenizer.vocabulary_size, 4)
    new = extension.tokenizer
    assert torch.equal(extended[:50], embedding[:50])
    for code in old.languages:
        assert torch.equal(extended[new.language_id(code)], embedding[old.language_id(code)])
    like = embedding[old.language_id("ita_Latn")]
    assert torch.equal(extended[new.language_id("xyz_Latn")], like)
    row = new.encode("x\u0263")[-1]
    torch.testing.assert_close(extended[row], embedding[4 : old.layout.num_pieces + 1].mean(0))


def test_languages_that_cannot_be_added_are_refused(random_model_dir: Path) -> None:
    tokenizer = open_model(random_model_dir).tokenizer()
    with pytest.raises(ConfigError, match="already has ita_Latn"):
        extend_vocabulary(tokenizer, [NewLanguage(code="ita_Latn", like="fra_Latn")], [])
    with pytest.raises(ConfigError, match="which the model lacks"):
        extend_vocabulary(tokenizer, [NewLanguage(code="xyz_Latn", like="qqq_Latn")], [])


def write_pairs(folder: Path, name: str, count: int, extra: str = "") -> Path:
    words = ["Italian", "English", "French", "Ligurian", "German", "Welsh", "Irish", "Zulu"]
    rows = [" ".join(words[(number // step) % 8] for step in (1, 8, 64)) for number in range(count)]
    path = folder / name
    path.write_text("".join(f"{row}\t{extra}{row.lower()}\n" for row in rows), encoding="utf-8")
    return path


def test_text_becomes_shards_with_a_share_for_replay(
    random_model_dir: Path, tmp_path: Path
) -> None:
    tokenizer = open_model(random_model_dir).tokenizer()
    new = pairs_from_filename(write_pairs(tmp_path, "eng_Latn-ita_Latn.tsv", 200))
    old = pairs_from_filename(write_pairs(tmp_path, "eng_Latn-fra_Latn.tsv", 500), is_replay=True)
    write_text_shards(
        [new, old], tokenizer, tmp_path / "data", replay_share=0.25, held_out_fraction=0.1
    )
    manifest = read_manifest(tmp_path / "data")
    manifest.verify()
    weights = {direction.name: direction.weight for direction in manifest.directions}
    replayed = weights["eng_Latn-fra_Latn"] + weights["fra_Latn-eng_Latn"]
    assert replayed == pytest.approx(0.25) and sum(weights.values()) == pytest.approx(1)
    held = [part.num_pairs for part in manifest.parts if part.split == "valid"]
    assert 40 < sum(held) < 100
    assert sum(part.num_pairs for part in manifest.parts) == 700
    shard = manifest.open(manifest.parts[0].files[0])
    lines = dict(read_pairs(new))
    assert lines[tokenizer.decode(shard.source(0).tolist())]


def test_bad_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"call it SOURCE-TARGET.tsv"):
        pairs_from_filename(tmp_path / "text.tsv")
    path = tmp_path / "eng_Latn-ita_Latn.tsv"
    path.write_text("one\tuno\ntwo\n")
    with pytest.raises(DataError, match=r"tsv:2: expected `source TAB target`, got 'two'"):
        list(read_pairs(pairs_from_filename(path)))


@pytest.mark.slow
def test_a_language_is_added_from_the_command_line(
    random_model_dir: Path, tmp_path: Path, capsys
) -> None:
    new = write_pairs(tmp_path, "eng_Latn-xyz_Latn.tsv", 120, extra="\u0263 ")
    old = write_pairs(tmp_path, "eng_Latn-fra_Latn.tsv", 120)
    out = tmp_path / "out"
    command = ["finetune", "--model", str(random_model_dir), "--add", "xyz_Latn"]
    command += ["--like", "ita_Latn", "--text", str(new), "--replay", str(old), str(out)]
    command += ["schedule.steps=30", "schedule.validate_every=15", "schedule.checkpoint_every=15"]
    command += ["schedule.translations=3", "optimizer.learning_rate=0.01", "device=cpu"]
    command += ["held_out_fraction=0.1", "reader.max_tokens=512", "reader.max_length=128"]
    assert main([*command, "--quiet", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["added_languages"] == ["xyz_Latn"] and report["added_characters"] == ["\u0263"]
    roles = {name: row["role"] for name, row in report["directions"].items()}
    assert roles == {
        **dict.fromkeys(("eng_Latn-xyz_Latn", "xyz_Latn-eng_Latn"), "new"),
        **dict.fromkeys(("eng_Latn-fra_Latn", "fra_Latn-eng_Latn"), "old"),
    }
    assert all(row["copying"] is not None for row in report["directions"].values())
    assert not (out / "replay").exists()  # old bitext is given
    # The training loss of the new direction fell from that of the random model.
    lines = (out / "run" / "metrics" / "valid.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss_by_direction"]["eng_Latn-xyz_Latn"] for line in lines]
    assert losses[-1] < losses[0]
    tuned = open_model(report["model"])
    assert "xyz_Latn" in tuned.tokenizer().languages
    assert load_model(tuned).embedding.weight.shape[0] == tuned.config.vocabulary_size
    text = tmp_path / "text.txt"
    text.write_text("English\n")
    translate = ["translate", str(text), "--source", "eng_Latn", "--target", "xyz_Latn", "--quiet"]
    assert main([*translate, "--model", report["model"]]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    config = tmp_path / "back.yaml"
    config.write_text(
        f"kind: backtranslation\nmodel: {report['model']}\ndevice: cpu\nbeam_size: 1\n"
        f"text: [{{path: {text}, language: eng_Latn, into: xyz_Latn}}]\n"
    )
    assert main(["backtranslate", str(config), str(tmp_path / "back"), "--quiet"]) == 0
    assert "xyz_Latn-eng_Latn" in capsys.readouterr().out
    assert main([*command, "--quiet"]) == 0  # everything is there: only the table is printed
    assert "eng_Latn-xyz_Latn" in capsys.readouterr().out


def test_usage_errors_are_named(random_model_dir: Path, tmp_path: Path, capsys) -> None:
    new = write_pairs(tmp_path, "eng_Latn-ita_Latn.tsv", 10)
    command = ["finetune", "--model", str(random_model_dir), "--text", str(new), str(tmp_path)]
    assert main([*command, "--add", "xyz_Latn", "--like", "ita_Latn"]) == 2
    assert "no text is in xyz_Latn" in capsys.readouterr().err
    assert main([*command, "--add", "xyz_Latn"]) == 2
    assert "--add CODE needs --like CODE" in capsys.readouterr().err
    assert main(["finetune", "add-language-tiny", str(tmp_path / "out"), "--text", str(new)]) == 2
    assert "only with --model: --text;" in capsys.readouterr().err


def test_a_folder_belongs_to_one_text_and_model(
    random_model_dir: Path, tmp_path: Path, capsys
) -> None:
    text, other = (
        write_pairs(tmp_path, f"eng_Latn-{to}.tsv", 40) for to in ("ita_Latn", "fra_Latn")
    )
    out = tmp_path / "out"
    command = ["finetune", "--model", str(random_model_dir), str(out), "--dry-run", "--quiet"]
    command += ["held_out_fraction=0.1"]
    unknown = write_pairs(tmp_path, "eng_Latn-xyz_Latn.tsv", 40)
    assert main([*command, "--text", str(unknown)]) == 2
    assert "has no language xyz_Latn" in capsys.readouterr().err
    # Nothing was made of it, so that the folder is still free.
    assert main([*command, "--text", str(text), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["added_characters"] == [] and planned["memory_bytes"] > planned["state_bytes"]
    assert planned["steps"] == 1000 and planned["seconds_here"] > 0
    assert not out.exists()
    values = {"model": str(random_model_dir), "text": [pairs_from_filename(text)]}
    plan_finetuning(config_of(FinetuneConfig, values, command[-1:]), out, quiet=True)
    config = (out / "finetune.yaml").read_text()
    assert main([*command, "--text", str(other)]) == 2
    assert "text was" in capsys.readouterr().err
    assert (out / "finetune.yaml").read_text() == config


@pytest.fixture
def finetune_config(random_model_dir: Path, tmp_path: Path) -> FinetuneConfig:
    path = write_pairs(tmp_path, "eng_Latn-xyz_Latn.tsv", 60)
    values = {
        "model": str(random_model_dir),
        "text": [{"path": str(path), "source": "eng_Latn", "target": "xyz_Latn"}],
        "add": [{"code": "xyz_Latn", "like": "ita_Latn"}],
        "self_replay_languages": ["fra_Latn", "deu_Latn"],
        "reader": {"max_tokens": 128, "max_length": 128},
        "schedule": {"steps": 4, "checkpoint_every": 4, "validate_every": 4, "translations": 3},
        "parallel": {"runner": "plain"},
        "precision": "float32",
        "device": "cpu",
    }
    return config_of(FinetuneConfig, values, [])


class Backwards:
    """Stands in for an inference engine: every translation is the source backwards."""

    def load(self, model: str, **_: object) -> Translate:
        return lambda lines, source, target: [line[::-1] for line in lines]

    def fingerprint(self, model: str) -> str:
        return model

    def from_weights(self, *_: object) -> Translate:
        return self.load("")


def test_without_old_text_the_model_makes_its_own_replay(
    finetune_config: FinetuneConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result, report = finetune(finetune_config, out, translators=Backwards(), quiet=True)
    assert report is not None and result.state.step == 4
    files = sorted(path.name for path in (out / "replay").iterdir())
    assert files == ["eng_Latn-deu_Latn.tsv", "eng_Latn-fra_Latn.tsv"]
    rows = [line.split("\t") for line in (out / "replay" / files[0]).read_text().splitlines()]
    assert all(target == source[::-1] for source, target in rows)
    manifest = read_manifest(out / "data")
    weights = {direction.name: direction.weight for direction in manifest.directions}
    replayed = [weight for name, weight in weights.items() if "xyz" not in name]
    assert len(replayed) == 4 and sum(replayed) == pytest.approx(finetune_config.replay_share)
    # Held-out lines are not replayed, and replay is neither validated nor reported.
    split = split_pairs(finetune_config.text[0], held_out_fraction=0.1, max_held_out=200)
    assert split["valid"] and not {row[0] for row in rows} & {row[0] for row in split["valid"]}
    assert {part.source for part in manifest.parts if part.split == "valid"} == {"eng_Latn"}
    assert [row.name for row in report.directions] == ["eng_Latn-xyz_Latn", "xyz_Latn-eng_Latn"]


def test_fine_tuning_without_replay_warns(
    finetune_config: FinetuneConfig, tmp_path: Path, caplog
) -> None:
    config = finetune_config.replace(self_replay_lines=0)
    finetune(config, tmp_path / "out", quiet=True)
    assert "without replay: the model may forget" in caplog.text


def test_another_reader_is_refused_before_anything_is_written(
    finetune_config: FinetuneConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    finetune(finetune_config, out, quiet=True)
    kept = (out / "finetune.yaml").read_text()
    other = finetune_config.replace(reader=finetune_config.reader.replace(seed=9))
    with pytest.raises(ConfigError, match="different reader"):
        finetune(other, out, quiet=True)
    assert (out / "finetune.yaml").read_text() == kept


def test_a_model_is_compared_by_its_files(
    finetune_config: FinetuneConfig, random_model_dir: Path, tmp_path: Path
) -> None:
    out, moved = tmp_path / "out", tmp_path / "moved"
    plan_finetuning(finetune_config, out, quiet=True)
    shutil.copytree(random_model_dir, moved)
    config = finetune_config.replace(model=str(moved))
    plan_finetuning(config, out, quiet=True)  # the same model under another name
    path = next(moved.glob("*.safetensors"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match="model files was"):
        plan_finetuning(config, out, quiet=True)


def test_held_out_pairs_are_limited_and_never_trained_on(tmp_path: Path) -> None:
    pairs = pairs_from_filename(write_pairs(tmp_path, "eng_Latn-ita_Latn.tsv", 500))
    split = split_pairs(pairs, held_out_fraction=0.5, max_held_out=7)
    assert len({source for source, _ in split["valid"]}) == 7
    assert not {row[0] for row in split["valid"]} & {row[0] for row in split["train"]}
    with pytest.raises(DataError, match="all pairs are held out"):
        split_pairs(pairs, held_out_fraction=0.9999, max_held_out=1000)


@pytest.mark.slow
def test_a_problem_is_an_error_under_strict(random_model_dir: Path, tmp_path: Path, capsys) -> None:
    new = write_pairs(tmp_path, "eng_Latn-ita_Latn.tsv", 60)
    command = ["finetune", "--model", str(random_model_dir), "--text", str(new)]
    command += [str(tmp_path / "out"), "schedule.steps=2", "schedule.translations=3"]
    command += ["self_replay_lines=0", "device=cpu", "reader.max_length=128", "--quiet"]
    assert main(command) == 0
    assert "warning: no better than copying the source" in capsys.readouterr().err
    assert main([*command, "--strict"]) == 1


def test_the_smallest_change_that_is_good_enough_is_chosen() -> None:
    scores = {
        1.0: {"a-b": 20.0, "b-a": 10.0, "a-c": 30.0},
        0.5: {"a-b": 19.8, "b-a": 9.8, "a-c": 40.0},
        0.25: {"a-b": 15.0, "b-a": 9.0, "a-c": 41.0},
    }
    assert choose_share(scores, ["a-b", "b-a"]) == 0.5
    assert choose_share({1.0: {"a-b": 3.0}}, ["a-b"]) == 1.0


def test_the_result_lies_between_the_original_and_the_trained_weights(
    finetune_config: FinetuneConfig, tmp_path: Path
) -> None:
    # With an engine that ignores the weights all candidates are equally good.
    out = tmp_path / "out"
    config = finetune_config.replace(interpolation=(1.0, 0.5))
    result, report = finetune(config, out, translators=Backwards(), quiet=True)
    assert report is not None and result.model_dir is not None
    assert report.interpolation == 0.5 and report.model == str(out / "model")
    start, tuned, mixed = (
        load_model(open_model(path)).state_dict()
        for path in (out / "start", result.model_dir, out / "model")
    )
    assert any(not torch.equal(start[name], tuned[name]) for name in start)
    for name, value in mixed.items():
        torch.testing.assert_close(value, (start[name] + tuned[name]) / 2)


def test_overriding_one_value_keeps_the_defaults_of_fine_tuning() -> None:
    text = [{"path": "a.tsv", "source": "eng_Latn", "target": "fra_Latn"}]
    overrides = ["schedule.steps=30", "optimizer.learning_rate=1e-4", "reader.seed=3"]
    config = config_of(FinetuneConfig, {"model": "m", "text": text}, overrides)
    assert (config.schedule.steps, config.schedule.translations) == (30, 50)
    assert (config.optimizer.learning_rate, config.optimizer.warm_up_steps) == (1e-4, 10)
    assert (config.reader.seed, config.reader.max_tokens) == (3, 1024)


def test_a_dry_run_writes_nothing(
    finetune_config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs" / "lr=1"
    planned = plan_finetuning(finetune_config, out, dry_run=True, quiet=True)
    assert not out.parent.exists()
    written = plan_finetuning(finetune_config, out, quiet=True)
    assert (out / "start" / "config.json").is_file()
    assert (written.size, written.characters) == (planned.size, planned.characters)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert plan_finetuning(finetune_config, out, dry_run=True, quiet=True) == written
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    other = finetune_config.replace(reader=finetune_config.reader.replace(seed=9))
    plan_finetuning(other, tmp_path / "elsewhere", dry_run=True, quiet=True)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("through_slurm", [False, True])
def test_a_folder_with_an_equals_sign_is_no_override(
    random_model_dir: Path, tmp_path: Path, capsys, monkeypatch, through_slurm
) -> None:
    text = write_pairs(tmp_path, "eng_Latn-ita_Latn.tsv", 40)
    monkeypatch.chdir(tmp_path)
    command = ["finetune", "--model", str(random_model_dir), "--text", str(text), "runs/lr=1"]
    if through_slurm:
        command = ["slurm", "submit", "local", "--dry-run", "--", "nllb", *command]
    else:
        command.append("--dry-run")
    assert main([*command, "schedule.steps=3"]) == 0
    assert not (tmp_path / "runs").exists()
    said = capsys.readouterr()
    assert "runs/lr=1" in said.out if through_slurm else "3 of at most" in said.err
    command = ["finetune", "--model", str(random_model_dir), "--text", str(text), "lr=1"]
    assert main(command) == 2
    assert "write ./lr=1" in capsys.readouterr().err

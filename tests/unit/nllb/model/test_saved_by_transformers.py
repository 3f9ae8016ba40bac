"""Models of each supported kind, saved by transformers, give its outputs token for token."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nllb.inference.model_generator import ModelGenerator
from nllb.languages import languages, parse_language
from nllb.model.formats.conversion import convert
from nllb.model.formats.open_model import open_model
from nllb.model.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

TEXTS = [
    "The library opens at nine.",
    "One language: a model, two scripts!",
    "Straße 12, 東京 and Ελληνικά",
    "x",
]
SOURCE, TARGET = "fra_Latn", "deu_Latn"
NEW_TOKENS = 14
MADE_UP = "madeupword0000"
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1},
    "beam 5, stops early": {"num_beams": 5, "early_stopping": True, "length_penalty": 0.5},
    "beam 3, no repetition": {"num_beams": 3, "no_repeat_ngram_size": 2, "length_penalty": 1.7},
}


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint."""

    tokenizer: Callable[[Path, Path], Any]
    """Saves the tokenizer of transformers for a SentencePiece model, and returns it."""
    shape: dict[str, Any]
    """The configuration of the model."""
    codes: tuple[str, str] = (SOURCE, TARGET)
    """Source and target language in the tokenizer of transformers."""
    tokens: tuple[str, str] = (SOURCE, TARGET)
    """Their tokens."""
    starts_with_language: bool = True
    """Whether the decoder input has a language token."""


def _nllb(vocabulary: Path, folder: Path, **options: Any) -> Any:
    from transformers import NllbTokenizer

    Tokenizer.build(vocabulary).save(folder)
    (folder / "tokenizer.json").unlink()
    tokenizer = NllbTokenizer.from_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _only_json(vocabulary: Path, folder: Path) -> Any:
    from transformers import NllbTokenizer, NllbTokenizerFast

    _nllb(vocabulary, folder)
    slow = NllbTokenizer.from_pretrained(folder)
    NllbTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    (folder / "sentencepiece.bpe.model").unlink()
    # Version 5 writes no `added_tokens_decoder`, and calls the languages extra special tokens.
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"], config["additional_special_tokens"]
    config["extra_special_tokens"] = [language.code for language in languages()][:3]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink()
    return slow


def _m2m(vocabulary: Path, folder: Path, **options: Any) -> Any:
    """Number the pieces in another order, leave some out, and add an entry that is no piece."""
    import sentencepiece
    from transformers import M2M100Tokenizer

    processor = sentencepiece.SentencePieceProcessor(str(vocabulary))
    pieces = [processor.id_to_piece(number) for number in range(3, len(processor))]
    order = ["<s>", "<pad>", "</s>", "<unk>", MADE_UP, *sorted(pieces)[7:]]
    (folder / "vocab.json").write_text(json.dumps({text: n for n, text in enumerate(order)}))
    shutil.copy(vocabulary, folder / "sentencepiece.bpe.model")
    tokenizer = M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), **options
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _small100(vocabulary: Path, folder: Path) -> Any:
    tokenizer = _m2m(vocabulary, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "SMALL100Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


M2M_CODES = {"codes": ("fr", "de"), "tokens": ("__fr__", "__de__")}
KINDS = {
    "NLLB": Kind(_nllb, {}),
    "NLLB with experts": Kind(_nllb, {"num_experts": 4, "encoder_sparse_step": 1}),
    "NLLB, tokenizer.json only": Kind(_only_json, {}),
    "NLLB, legacy": Kind(lambda path, to: _nllb(path, to, legacy_behaviour=True), {}),
    "M2M-100": Kind(_m2m, {}, **M2M_CODES),
    "WMT21": Kind(
        lambda path, to: _m2m(path, to, language_codes="wmt21"),
        {},
        codes=("en", "de"),
        tokens=("__en__", "__de__"),
    ),
    "SMaLL-100": Kind(
        _small100,
        {"encoder_layers": 3, "decoder_layers": 1},
        codes=("de", "de"),  # the encoder input has the target language
        tokens=("__de__", "__de__"),
        starts_with_language=False,
    ),
}


@dataclass(frozen=True)
class Saved:
    """A saved model with the objects of transformers that saved it."""

    kind: Kind
    folder: Path
    tokenizer: Any
    model: Any

    @property
    def source(self) -> str:
        return "eng_Latn" if self.kind.codes[0] == "en" else SOURCE

    def encode(self, text: str) -> list[int]:
        self.tokenizer.src_lang = self.kind.codes[0]
        ids: list[int] = self.tokenizer(text).input_ids
        return ids

    def generate(self, text: str, **options: Any) -> list[int]:
        """Return the tokens after the language token, without the end token."""
        forced = self.tokenizer.convert_tokens_to_ids(self.kind.tokens[1])
        language = {"forced_bos_token_id": forced} if self.kind.starts_with_language else {}
        output = self.model.generate(
            input_ids=torch.tensor([self.encode(text)]),
            do_sample=False,
            max_new_tokens=NEW_TOKENS + len(language),
            **language,
            **options,
        )[0].tolist()
        ids = output[1 + len(language) :]
        return ids[: ids.index(2)] if 2 in ids else ids


@pytest.fixture(scope="module", params=list(KINDS))
def saved(request, vocabulary, make_reference, tmp_path_factory) -> Saved:
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = kind.tokenizer(vocabulary, folder)
    rows = len(tokenizer) if "__" not in kind.tokens[0] else tokenizer.encoder_size + 108
    shape = {
        "vocab_size": rows,
        "max_position_embeddings": 96,
        "scale_embedding": False,
        **kind.shape,
    }
    model = make_reference(seed=5, **shape)
    with torch.no_grad():  # some outputs end before the limit
        model.get_input_embeddings().weight[2] *= 3
    model.save_pretrained(folder)
    return Saved(kind, folder, tokenizer, model)


def our_outputs(folder: Path, saved: Saved, **options: Any) -> list[list[int]]:
    generator = ModelGenerator.load(folder, device="cpu", dtype="float32", num_threads=1)
    generator.tokenizer.normalizes = False
    search = replace(generator.default_search, max_output_tokens=NEW_TOKENS, **options)
    found = generator.generate(
        TEXTS, source=parse_language(saved.source), target=parse_language(TARGET), search=search
    )
    return [list(hypotheses[0].token_ids) for hypotheses in found]


@pytest.mark.parametrize("search", list(SEARCHES))
def test_outputs_equal_transformers(saved, search, tmp_path) -> None:
    folder = Path(shutil.copytree(saved.folder, tmp_path / "model"))
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | SEARCHES[search]))
    expected = [saved.generate(text, **SEARCHES[search]) for text in TEXTS]
    assert len({tuple(ids) for ids in expected}) > 1
    assert our_outputs(folder, saved) == expected
    convert(open_model(folder), tmp_path / "converted", quiet=True)
    assert our_outputs(tmp_path / "converted", saved) == expected


def test_ids_equal_transformers(saved, tmp_path) -> None:
    convert(open_model(saved.folder), tmp_path / "converted", quiet=True)
    for folder in (saved.folder, tmp_path / "converted"):
        opened = open_model(folder)
        tokenizer = opened.tokenizer()
        tokenizer.normalizes = False
        for text in TEXTS:
            ids = tokenizer.encode_source(text, saved.source, target=TARGET)
            assert ids == saved.encode(text)
            if MADE_UP not in (tokenizer.token(number) for number in ids):
                assert tokenizer.decode(ids) == tokenizer.decode(tokenizer.encode(text))
    again = open_model(tmp_path / "converted")
    assert again.tokenizer().layout == open_model(saved.folder).tokenizer().layout


def test_transformers_opens_what_we_convert(saved, tmp_path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, M2M100Tokenizer

    convert(open_model(saved.folder), tmp_path / "converted", quiet=True)
    is_small = not saved.kind.starts_with_language  # its tokenizer is not part of transformers
    make = M2M100Tokenizer if is_small else AutoTokenizer
    tokenizer = make.from_pretrained(tmp_path / "converted")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "converted").eval()
    again = replace(saved, tokenizer=tokenizer, model=model)
    for text in TEXTS:
        assert again.encode(text) == saved.encode(text)
        assert again.generate(text) == saved.generate(text)

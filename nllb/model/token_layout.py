"""Maps ids to tokens: pieces, languages, data tags and `<mask>`.

The rows of NLLB for a vocabulary of n SentencePiece pieces (256,000 in the release) are:

    0 <s>   1 <pad>   2 </s>   3 <unk>
    4 ... n                the pieces from 3 on: the id of a piece is its index + 1
    n+1 ... n+202          the language tokens, in the order of `language_tokens.tsv`
    n+203, n+204, n+205    <MINED_DATA>, <MMT_BT_DATA>, <SMT_BT_DATA>: data tags of training sources

Hugging Face calls the first data tag `<mask>`, although no NLLB model was trained with a mask in
that row. Files keep that name, which all readers expect, until the model gets a separate `<mask>`
row for denoising. In this package, the row always has its meaning from training.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from nllb.errors import CheckpointError
from nllb.io.paths import is_plain_name, path_inside
from nllb.io.text import read_table, write_json

from .configuration import read_document
from .formats.tokenizer_json import MASK, SPECIAL_PIECES, TOKENIZER_FILE

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
_ID = re.compile(r"[0-9]{1,9}")
_LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
"""A language code, which some fine-tuned models have as an ordinary added token."""
DataTag = Literal["<MINED_DATA>", "<MMT_BT_DATA>", "<SMT_BT_DATA>"]
DATA_TAGS: tuple[DataTag, ...] = ("<MINED_DATA>", "<MMT_BT_DATA>", "<SMT_BT_DATA>")
Prompt = Literal["source first", "source last", "target first"]
"""The position of the language token in the encoder input.

* `source first`: NLLB and M2M-100 have `__source__ x </s>`, and the decoder starts with
  `</s> __target__`.
* `source last`: `x </s> __source__`, which transformers calls `legacy_behaviour`.
* `target first`: SMaLL-100 has `__target__ x </s>`, and the decoder starts with `</s>` alone.
"""
Family = Literal["nllb", "m2m_100"]
"""The model family whose tokenizer files describe the layout."""
ROLES = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
"""The special tokens in the tokenizer files of transformers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLayout:
    """The ids that follow the SentencePiece pieces.

    Attributes:
        num_pieces: number of SentencePiece pieces, including <unk>, <s> and </s>.
        languages: language tokens with their names in the model's files, by ascending id.
        data_tags: tags that follow the source language token in training; empty if the model has
            none.
        mask_id: row of `<mask>` if the model has a separate row for it.
        added: other added tokens, which are split off before SentencePiece runs.
        prompt: the position of the language token in the encoder input.
        family: the model family whose tokenizer files describe the layout.
    """

    num_pieces: int
    languages: Mapping[str, int]
    data_tags: Mapping[DataTag, int]
    mask_id: int | None = None
    added: Mapping[str, int]
    prompt: Prompt = "source first"
    family: Family = "nllb"

    @property
    def size(self) -> int:
        """Number of embedding rows that the layout needs."""
        named = [*self.languages.values(), *self.data_tags.values(), *self.added.values()]
        return 1 + max([self.num_pieces, *named, *([] if self.mask_id is None else [self.mask_id])])

    def with_languages(self, tokens: Iterable[str], *, vocabulary_size: int) -> "TokenLayout":
        """Add language tokens in new rows after the model's `vocabulary_size` rows."""
        languages = dict(self.languages)
        for token in tokens:
            if token not in languages:
                languages[token] = max(vocabulary_size, replace(self, languages=languages).size)
        return replace(self, languages=languages)

    def with_mask(self, *, vocabulary_size: int) -> "TokenLayout":
        """Add a row for `<mask>` after the model's `vocabulary_size` rows."""
        if self.mask_id is not None:
            return self
        return replace(self, mask_id=max(vocabulary_size, self.size))

    def names(self) -> dict[int, str]:
        """Return the names in files of the tokens that follow the pieces, by id."""
        tags = dict(self.data_tags)
        if self.mask_id is None and DATA_TAGS[0] in tags:
            first = tags.pop(DATA_TAGS[0])
            named = [(first, MASK)]
        else:
            named = [] if self.mask_id is None else [(self.mask_id, MASK)]
        for group in (self.languages, tags, self.added):
            named += [(token_id, token) for token, token_id in group.items()]
        return dict(sorted(named))


@cache
def release_languages() -> tuple[str, ...]:
    """Return the language tokens of the NLLB-200 release in the order of their ids."""
    return tuple(row["token"] for row in read_table(Path(__file__).parent / "language_tokens.tsv"))


def language_code(token: str) -> str:
    """Return the FLORES-200 code of a language token; unknown tokens are their own codes."""
    known = flores_codes().get(token)
    return known or (token.strip("_") if token.startswith("__") else token)


def language_codes(directory: Path) -> tuple[str, ...]:
    """Return the codes of the language tokens in the tokenizer files of a directory.

    Unlike `read_layout`, this does not open the vocabulary. Damaged files give no codes.
    """
    try:
        entries = read_added_tokens(directory)
    except CheckpointError:
        return ()
    tokens = [
        entry["content"]
        for number, entry in sorted(entries.items())
        if number > 3 and (entry["special"] or _LANGUAGE.fullmatch(entry["content"]))
    ]
    codes = [language_code(token) for token in tokens if token not in (MASK, *DATA_TAGS)]
    if (directory / "vocab.json").is_file():  # M2M-100 need not list its languages
        codes += [code for token, code in flores_codes().items() if token.startswith("__")]
    return tuple(code for code in dict.fromkeys(codes) if is_plain_name(code))


@cache
def flores_codes() -> Mapping[str, str]:
    """Return the FLORES-200 code of each language token of the releases of NLLB and M2M-100."""
    names = ("language_tokens.tsv", "m2m_language_tokens.tsv")
    rows = (row for name in names for row in read_table(Path(__file__).parent / name))
    return {row["token"]: row["flores"] for row in rows}


def new_layout(
    num_pieces: int, languages: Sequence[str] | None = None, *, with_tags: bool = True
) -> TokenLayout:
    """Return NLLB's layout of a vocabulary, by default with the languages of the release."""
    tokens = release_languages() if languages is None else languages
    after = num_pieces + 1
    first_tag = after + len(tokens)
    return TokenLayout(
        num_pieces=num_pieces,
        languages={token: after + number for number, token in enumerate(tokens)},
        data_tags={tag: first_tag + n for n, tag in enumerate(DATA_TAGS)} if with_tags else {},
        added={},
    )


def read_layout(directory: Path, *, num_pieces: int, vocabulary_size: int) -> TokenLayout:
    """Read the layout of a Hugging Face directory.

    Raises:
        CheckpointError: the directory does not define the ids of the languages, or they are
            outside the model's vocabulary.
    """
    entries = read_added_tokens(directory)
    if not any(entry["special"] and number > 3 for number, entry in entries.items()):
        layout = new_layout(num_pieces, with_tags=False)
        if layout.size > vocabulary_size:
            raise CheckpointError(
                f"{directory} does not define its language tokens, and {vocabulary_size:,} rows "
                f"are too few for {num_pieces:,} pieces and NLLB's {len(layout.languages)} "
                f"languages; add the model's {TOKENIZER_CONFIG_FILE} or tokenizer.json"
            )
        taken = {token_id: token for token, token_id in layout.languages.items()}
        entries |= {number: token_entry(token) for number, token in taken.items()}
    layout = _sort_tokens(entries, num_pieces=num_pieces, vocabulary_size=vocabulary_size)
    if _read_object(directory / TOKENIZER_CONFIG_FILE).get("legacy_behaviour"):
        layout = replace(layout, prompt="source last")
    if layout.size > vocabulary_size:
        raise CheckpointError(
            f"the tokenizer of {directory} needs {layout.size:,} rows, but the model has "
            f"{vocabulary_size:,}; the tokenizer and the weights are from different models"
        )
    first = min([*layout.languages.values(), *layout.data_tags.values()], default=num_pieces + 1)
    if first != num_pieces + 1:  # a different vocabulary, or one truncated between two pieces
        raise CheckpointError(
            f"the vocabulary of {directory} has {num_pieces:,} pieces, but its language tokens "
            f"start at {first:,} instead of {num_pieces + 1:,}; the vocabulary file is truncated "
            f"or from a different model"
        )
    return layout


def _sort_tokens(
    entries: Mapping[int, Mapping[str, Any]], *, num_pieces: int, vocabulary_size: int
) -> TokenLayout:
    ids = {entry["content"]: number for number, entry in sorted(entries.items()) if number > 3}
    mask_id = ids.pop(MASK, None)
    tags: dict[DataTag, int] = {tag: ids.pop(tag) for tag in DATA_TAGS if tag in ids}
    special = {
        token: number
        for token, number in ids.items()
        if entries[number]["special"] or _LANGUAGE.fullmatch(token)
    }
    added = {token: number for token, number in ids.items() if token not in special}
    if DATA_TAGS[0] not in tags:
        first = _first_tag(special, mask_id=mask_id, has_second=DATA_TAGS[1] in tags)
        used = {*special.values(), *added.values()}
        for number, tag in [] if first is None else enumerate(DATA_TAGS, first):
            if number < vocabulary_size and number not in used:
                tags.setdefault(tag, number)
    if mask_id is not None and mask_id in tags.values():
        mask_id = None
    elif mask_id is not None and mask_id >= vocabulary_size:
        mask_id = None  # transformers assigned an id that has no embedding row
    return TokenLayout(
        num_pieces=num_pieces,
        languages=special,
        data_tags={tag: tags[tag] for tag in DATA_TAGS if tag in tags},
        mask_id=mask_id,
        added=added,
    )


def _first_tag(
    languages: Mapping[str, int], *, mask_id: int | None, has_second: bool
) -> int | None:
    # The row of <MINED_DATA>, for files that do not name it.
    release = release_languages()
    if tuple(languages)[: len(release)] == release:
        return languages[release[-1]] + 1
    return mask_id if has_second else None


def read_added_tokens(directory: Path) -> dict[int, dict[str, Any]]:
    """Return the tokens that the tokenizer files of a directory add to the pieces, by id."""
    config, fast, roles, added = (
        directory / name
        for name in (
            *(TOKENIZER_CONFIG_FILE, TOKENIZER_FILE),
            *("special_tokens_map.json", "added_tokens.json"),
        )
    )
    document = _read_object(config)
    if decoder := document.get("added_tokens_decoder"):
        if not isinstance(decoder, dict):
            raise CheckpointError(
                f"{config}: added_tokens_decoder must be an object that maps ids to tokens"
            )
        return dict(_added_token(config, number, entry) for number, entry in decoder.items())
    if tokens := _read_object(fast).get("added_tokens"):
        if not isinstance(tokens, list) or not all(isinstance(entry, dict) for entry in tokens):
            raise CheckpointError(f"{fast}: added_tokens must be a list of tokens")
        return dict(_added_token(fast, entry.get("id"), entry) for entry in tokens)
    special = _special_tokens(config, document) | _special_tokens(roles, _read_object(roles))
    return dict(
        _added_token(added, number, token_entry(token, special=token in special))
        for token, number in _read_object(added).items()
    )


def _added_token(path: Path, number: Any, entry: Any) -> tuple[int, dict[str, Any]]:
    """Return the id and the properties of a token in a file."""
    values = {"special": False, **entry} if isinstance(entry, dict) else {}
    is_id = isinstance(number, (int, str)) and _ID.fullmatch(str(number)) is not None
    content, special = values.get("content"), values.get("special")
    if not is_id or not isinstance(content, str) or not content or not isinstance(special, bool):
        raise CheckpointError(
            f"{path} is damaged: {repr(number)[:40]} is not a token id, or {repr(content)[:40]} "
            "is not a token"
        )
    return int(number), values


def _special_tokens(path: Path, document: Mapping[str, Any]) -> set[str]:
    """Return the additional special tokens of a file, which lists them as text or objects."""
    listed = []
    for name in ("additional_special_tokens", "extra_special_tokens"):  # before and in version 5
        value = document.get(name) or []
        if not isinstance(value, list | dict):
            raise CheckpointError(f"{path}: {name} must be a list")
        listed += list(value.values()) if isinstance(value, dict) else value
    tokens: list[Any] = [item.get("content") if isinstance(item, dict) else item for item in listed]
    if invalid := [token for token in tokens if not isinstance(token, str)]:
        raise CheckpointError(
            f"{path}: additional_special_tokens has {repr(invalid[0])[:40]}, which is not a token"
        )
    return set(tokens)


def _read_object(path: Path) -> dict[str, Any]:
    return read_document(path_inside(path.parent, path.name)) if path.is_file() else {}


def write_layout(layout: TokenLayout, directory: Path, *, max_positions: int) -> None:
    """Write the token files that both NLLB tokenizers of transformers read."""
    names = layout.names()
    special = {MASK, *layout.languages, *layout.data_tags}
    tokens = dict(enumerate(SPECIAL_PIECES)) | names
    decoder = {
        str(number): token_entry(token, special=number < 4 or token in special)
        for number, token in tokens.items()
    }
    additional = [name for name in names.values() if name in special and name != MASK]
    roles = ROLES | {"mask_token": MASK}
    write_json(
        directory / TOKENIZER_CONFIG_FILE,
        {
            "tokenizer_class": "NllbTokenizer",
            "added_tokens_decoder": decoder,
            "additional_special_tokens": additional,
            **roles,
            "clean_up_tokenization_spaces": False,
            "legacy_behaviour": layout.prompt == "source last",
            "model_max_length": max_positions,
            "sp_model_kwargs": {},
        },
    )
    write_json(
        directory / "special_tokens_map.json", {"additional_special_tokens": additional, **roles}
    )


def token_entry(token: str, *, special: bool = True) -> dict[str, Any]:
    """Return a token in the form of the tokenizer files."""
    return {
        "content": token,
        "lstrip": token == MASK,
        "normalized": token == MASK,
        "rstrip": False,
        "single_word": False,
        "special": special,
    }

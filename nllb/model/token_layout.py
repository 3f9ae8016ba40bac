"""Which id stands for which token: pieces, languages, data tags and `<mask>`.

NLLB's rows, for a vocabulary of n SentencePiece pieces (256,000 in the release):

    0 <s>   1 <pad>   2 </s>   3 <unk>
    4 ... n                the pieces from 3 on: the id of a piece is its number + 1
    n+1 ... n+202          the language tokens, in the order of `language_tokens.tsv`
    n+203, n+204, n+205    <MINED_DATA>, <MMT_BT_DATA>, <SMT_BT_DATA>: tags of a training source

Hugging Face calls the first tag `<mask>`, though no NLLB model was ever trained with a mask there.
In files the row keeps that name, which every reader expects, until the model gets a `<mask>` row of
its own (for denoising); here it always has its training meaning.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from nllb.errors import CheckpointError
from nllb.io.paths import path_inside
from nllb.io.text import read_table, write_json
from nllb.model.configuration import read_document

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
_ID = re.compile(r"[0-9]{1,9}")
DataTag = Literal["<MINED_DATA>", "<MMT_BT_DATA>", "<SMT_BT_DATA>"]
DATA_TAGS: tuple[DataTag, ...] = ("<MINED_DATA>", "<MMT_BT_DATA>", "<SMT_BT_DATA>")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLayout:
    """The ids above the pieces."""

    num_pieces: int
    """SentencePiece pieces, its own <unk>, <s> and </s> included."""
    languages: Mapping[str, int]
    """Language tokens as the model's files write them, by rising id."""
    data_tags: Mapping[DataTag, int]
    """Tags that training puts after a source's language token; empty where there are none."""
    mask_id: int | None = None
    """Row of `<mask>` where the model has one of its own."""
    added: Mapping[str, int]
    """Further tokens, which are cut out of a text before the pieces."""

    @property
    def size(self) -> int:
        """Rows that the layout needs."""
        named = [*self.languages.values(), *self.data_tags.values(), *self.added.values()]
        return 1 + max([self.num_pieces, *named, *([] if self.mask_id is None else [self.mask_id])])

    def with_languages(self, tokens: Iterable[str], *, vocabulary_size: int) -> "TokenLayout":
        """Add language tokens in new rows, after the model's `vocabulary_size`."""
        languages = dict(self.languages)
        for token in tokens:
            if token not in languages:
                languages[token] = max(vocabulary_size, replace(self, languages=languages).size)
        return replace(self, languages=languages)

    def with_mask(self, *, vocabulary_size: int) -> "TokenLayout":
        """Add a row for `<mask>`, after the rows that the model has."""
        if self.mask_id is not None:
            return self
        return replace(self, mask_id=max(vocabulary_size, self.size))

    def names(self) -> dict[int, str]:
        """Return the tokens above the pieces by id, each with the name it has in files."""
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


@cache
def flores_codes() -> Mapping[str, str]:
    """Return the FLORES-200 code of each language token of the release."""
    rows = read_table(Path(__file__).parent / "language_tokens.tsv")
    return {row["token"]: row["flores"] for row in rows}


def new_layout(
    num_pieces: int, languages: Sequence[str] | None = None, *, with_tags: bool = True
) -> TokenLayout:
    """Lay out a vocabulary as NLLB does, by default with the languages of the release."""
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
        CheckpointError: the directory does not say which ids the languages have, or they lie
            outside of the model's vocabulary.
    """
    entries = _read_added_tokens(directory)
    if not any(entry["special"] and number > 3 for number, entry in entries.items()):
        layout = new_layout(num_pieces, with_tags=False)
        if layout.size > vocabulary_size:
            raise CheckpointError(
                f"{directory} does not say which language tokens it has, and {vocabulary_size:,} "
                f"rows are too few for {num_pieces:,} pieces and NLLB's {len(layout.languages)} "
                f"languages; its {TOKENIZER_CONFIG_FILE} or tokenizer.json is needed"
            )
        taken = {token_id: token for token, token_id in layout.languages.items()}
        entries |= {number: _entry(token) for number, token in taken.items()}
    layout = _sort_tokens(entries, num_pieces=num_pieces, vocabulary_size=vocabulary_size)
    if layout.size > vocabulary_size:
        raise CheckpointError(
            f"the tokenizer of {directory} needs {layout.size:,} rows and the model has "
            f"{vocabulary_size:,}; they do not belong together"
        )
    first = min([*layout.languages.values(), *layout.data_tags.values()], default=num_pieces + 1)
    if first != num_pieces + 1:  # another vocabulary, or one that was cut short between two pieces
        raise CheckpointError(
            f"the vocabulary of {directory} has {num_pieces:,} pieces, and its language tokens "
            f"begin at {first:,} instead of {num_pieces + 1:,}; they do not belong together"
        )
    return layout


def _sort_tokens(
    entries: Mapping[int, Mapping[str, Any]], *, num_pieces: int, vocabulary_size: int
) -> TokenLayout:
    ids = {entry["content"]: number for number, entry in sorted(entries.items()) if number > 3}
    mask_id = ids.pop(MASK, None)
    tags: dict[DataTag, int] = {tag: ids.pop(tag) for tag in DATA_TAGS if tag in ids}
    special = {token: number for token, number in ids.items() if entries[number]["special"]}
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
        mask_id = None  # a name that transformers gives without a row behind it
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
    # The row that training means by <MINED_DATA>, where the files do not name it.
    release = release_languages()
    if tuple(languages)[: len(release)] == release:
        return languages[release[-1]] + 1
    return mask_id if has_second else None


def _read_added_tokens(directory: Path) -> dict[int, dict[str, Any]]:
    config, fast, roles, added = (
        directory / name
        for name in (
            *(TOKENIZER_CONFIG_FILE, "tokenizer.json"),
            *("special_tokens_map.json", "added_tokens.json"),
        )
    )
    document = _read_object(config)
    if decoder := document.get("added_tokens_decoder"):
        if not isinstance(decoder, dict):
            raise CheckpointError(f"{config}: added_tokens_decoder is no object of tokens by id")
        return dict(_added_token(config, number, entry) for number, entry in decoder.items())
    if tokens := _read_object(fast).get("added_tokens"):
        if not isinstance(tokens, list) or not all(isinstance(entry, dict) for entry in tokens):
            raise CheckpointError(f"{fast}: added_tokens is no list of tokens")
        return dict(_added_token(fast, entry.get("id"), entry) for entry in tokens)
    special = _special_tokens(config, document) | _special_tokens(roles, _read_object(roles))
    return dict(
        _added_token(added, number, _entry(token, special=token in special))
        for token, number in _read_object(added).items()
    )


def _added_token(path: Path, number: Any, entry: Any) -> tuple[int, dict[str, Any]]:
    """Return id and properties of a token as a file has them."""
    values = {"special": False, **entry} if isinstance(entry, dict) else {}
    is_id = isinstance(number, (int, str)) and _ID.fullmatch(str(number)) is not None
    content, special = values.get("content"), values.get("special")
    if not is_id or not isinstance(content, str) or not content or not isinstance(special, bool):
        raise CheckpointError(
            f"{path} is damaged: {repr(number)[:40]} is no id of a token, or {repr(content)[:40]} "
            "no token"
        )
    return int(number), values


def _special_tokens(path: Path, document: Mapping[str, Any]) -> set[str]:
    """Return the further special tokens that a file lists, each as text or with properties."""
    listed = document.get("additional_special_tokens") or []
    if not isinstance(listed, list):
        raise CheckpointError(f"{path}: additional_special_tokens is no list")
    tokens: list[Any] = [item.get("content") if isinstance(item, dict) else item for item in listed]
    if odd := [token for token in tokens if not isinstance(token, str)]:
        raise CheckpointError(
            f"{path}: additional_special_tokens has {repr(odd[0])[:40]}, which is no token"
        )
    return set(tokens)


def _read_object(path: Path) -> dict[str, Any]:
    return read_document(path_inside(path.parent, path.name)) if path.is_file() else {}


def write_layout(layout: TokenLayout, directory: Path, *, max_positions: int) -> None:
    """Write the files by which both of transformers' NLLB tokenizers find the tokens."""
    names = layout.names()
    special = {MASK, *layout.languages, *layout.data_tags}
    tokens = dict(enumerate(SPECIAL_TOKENS)) | names
    decoder = {
        str(number): _entry(token, special=number < 4 or token in special)
        for number, token in tokens.items()
    }
    additional = [name for name in names.values() if name in special and name != MASK]
    roles = {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "mask_token": MASK,
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
    }
    write_json(
        directory / TOKENIZER_CONFIG_FILE,
        {
            "tokenizer_class": "NllbTokenizer",
            "added_tokens_decoder": decoder,
            "additional_special_tokens": additional,
            **roles,
            "clean_up_tokenization_spaces": False,
            "legacy_behaviour": False,
            "model_max_length": max_positions,
            "sp_model_kwargs": {},
        },
    )
    write_json(
        directory / "special_tokens_map.json", {"additional_special_tokens": additional, **roles}
    )


def _entry(token: str, *, special: bool = True) -> dict[str, Any]:
    return {
        "content": token,
        "lstrip": token == MASK,
        "normalized": token == MASK,
        "rstrip": False,
        "single_word": False,
        "special": special,
    }

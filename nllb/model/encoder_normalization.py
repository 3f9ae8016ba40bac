"""XLM-R's normalization: a map replaces characters, and decomposed characters are composed.

The map is that of SentencePiece's `nmt_nfkc`, for single characters: compatibility forms become
plain characters, control characters are removed, and other spaces become a space. Then a letter and
its marks become one character if Unicode has one. Unlike in NFC, marks are not reordered, because
the pieces were learned on Arabic and Hebrew text as people type it.

The `tokenizers` library could apply a compiled map ("Precompiled"). It is not used, because it
drops the marks of a letter if the letter or a part of its marks are in the map: a decomposed "ệ"
loses its circumflex. XLM-R's own fast tokenizer has this bug; on other text both agree.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import regex

from nllb.errors import CheckpointError, DataError
from nllb.io.atomic import atomic_text
from nllb.io.text import read_text

MAX_FILE_BYTES: Final = 1 << 20
"""Maximum size of the file of a map; XLM-R's has 60 kB."""
MAX_REPLACEMENT: Final = 32
"""Maximum length of a replacement; XLM-R's map has up to 18 characters."""
_HEADER: Final = (
    "# SOURCE: nmt_nfkc of SentencePiece, as XLM-R has it. A code point, its replacement.\n"
)
_SURROGATES = regex.compile("[\ud800-\udfff]")
_COMPOSABLE: Final = regex.compile(
    r"\P{M}\p{M}+|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?|[\uac00-\ud7a3][\u11a8-\u11c2]"
)
"""A character with marks, or a decomposed Hangul syllable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignedText:
    """A normalized text with the original position of each character.

    Attributes:
        text: the normalized text.
        starts: for each character of the text, the index of the first original character it
            represents.
        ends: for each character of the text, the index after the last original character.
    """

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]


class CharacterMap:
    """A map from single characters to their replacements."""

    def __init__(self, replacements: Mapping[str, str]) -> None:
        self.replacements = dict(replacements)
        self._table = {ord(source): target for source, target in self.replacements.items()}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a map.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        try:
            lines = read_text(path, max_bytes=MAX_FILE_BYTES).split("\n")
        except DataError as error:
            raise CheckpointError(str(error)) from error
        found = {}
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            try:
                source, target = line.split("\t")
                found[_character(source)] = "".join(map(_character, target.split()))
                if len(target.split()) > MAX_REPLACEMENT:
                    raise ValueError
            except ValueError:
                raise CheckpointError(
                    f"{path}:{number}: {line[:60]!r} is not a code point and its replacement in "
                    f"hexadecimal; install or convert the encoder again"
                ) from None
        return cls(found)

    def write(self, path: Path) -> None:
        """Write the map, one character per line."""
        with atomic_text(path) as stream:
            stream.write(_HEADER)
            for source, target in sorted(self.replacements.items()):
                points = " ".join(f"{ord(character):X}" for character in target)
                stream.write(f"{ord(source):X}\t{points}\n")

    def normalize(self, text: str) -> str:
        """Return the normalized text; unpaired surrogates become U+FFFD."""
        if not text.isascii():
            text = _SURROGATES.sub("\ufffd", text)
        text = text.translate(self._table)
        if unicodedata.is_normalized("NFC", text):
            return text
        return _COMPOSABLE.sub(lambda match: _compose(match[0]), text)

    def align(self, text: str) -> AlignedText:
        """Normalize a text and record the original positions of its characters."""
        replaced, starts = [], []
        for place, character in enumerate(text):
            target = self.normalize(character)
            replaced.append(target)
            starts += [place] * len(target)
        ends = [place + 1 for place in starts]
        parts, kept_starts, kept_ends, last = [], [], [], 0
        joined = "".join(replaced)
        for match in _COMPOSABLE.finditer(joined):
            composed = _compose(match[0])
            if len(composed) == len(match[0]):
                continue
            first, end = match.span()
            parts += [joined[last:first], composed]
            kept_starts += [*starts[last:first], *[starts[first]] * len(composed)]
            kept_ends += [*ends[last:first], *[ends[end - 1]] * len(composed)]
            last = end
        return AlignedText(
            text="".join([*parts, joined[last:]]),
            starts=(*kept_starts, *starts[last:]),
            ends=(*kept_ends, *ends[last:]),
        )


def _compose(cluster: str) -> str:
    """Return a character and its marks in composed form, where Unicode has one."""
    composed = unicodedata.normalize("NFC", cluster)
    return composed if len(composed) < len(cluster) else cluster


def _character(number: str) -> str:
    character = chr(int(number, 16))
    if "\ud800" <= character <= "\udfff":
        raise ValueError(number)
    return character

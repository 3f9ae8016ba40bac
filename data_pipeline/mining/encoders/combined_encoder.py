"""A sentence encoder whose vectors are the weighted vectors of several encoders, side by side.

The cosine of two such vectors is a weighted mean of the encoders' cosines. The default encoder
combines the pretrained one, which knows what sentences mean in about a hundred languages, with the
static one, which knows words, names and numbers in 183 and costs about a hundredth of the time. On
held-out pairs the combination separates translations from other sentences better than either part.

A combination is a folder with `combination.json`: a name, and a list of encoders with weights.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nllb.errors import CheckpointError
from nllb.io.text import read_json

from .encoder import Encoder, Vectors, normalized

COMBINATION_FILE: Final = "combination.json"


@dataclass(frozen=True, kw_only=True)
class CombinedPart:
    """One encoder of a combination."""

    encoder: str
    """Its name, as `load_encoder` accepts it."""
    weight: Annotated[float, Field(gt=0, le=1000)]
    """Factor of its vectors, which have length 1."""


@dataclass(frozen=True, kw_only=True)
class Combination:
    """The content of `combination.json`."""

    name: str
    """Name of the encoder, for reports."""
    parts: Annotated[tuple[CombinedPart, ...], Field(min_length=1, max_length=8)]
    """The encoders."""


class CombinedEncoder:
    """Several encoders side by side.

    Attributes:
        name: name of the combination.
        key: hash of the keys and weights of the parts.
        dimension: sum of the parts' dimensions.
        languages: languages that the first part knows, if it states them; otherwise None.
    """

    def __init__(self, combination: Combination, encoders: Sequence[Encoder]) -> None:
        self._weights = [part.weight for part in combination.parts]
        self._encoders = list(encoders)
        self.name = combination.name
        keys = [[one.key, weight] for one, weight in zip(encoders, self._weights, strict=True)]
        self.key = hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16]
        self.dimension = sum(encoder.dimension for encoder in encoders)
        self.languages: frozenset[str] | None = getattr(encoders[0], "languages", None)

    @classmethod
    def load(cls, directory: Path, load: Callable[[str], Encoder]) -> "CombinedEncoder":
        """Load the encoders of a folder by a function from names to encoders.

        Raises:
            CheckpointError: if the file is damaged, or a part is.
        """
        combination = read_combination(directory)
        return cls(combination, [load(part.encoder) for part in combination.parts])

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        """Return the vectors of sentences."""
        vectors: Vectors = numpy.concatenate(
            [
                numpy.float32(weight) * normalized(encoder.encode(sentences, language))
                for encoder, weight in zip(self._encoders, self._weights, strict=True)
            ],
            axis=1,
        )
        return vectors


def is_combination(directory: Path) -> bool:
    """Return whether a folder describes a combination of encoders."""
    return (directory / COMBINATION_FILE).is_file()


def read_combination(directory: Path) -> Combination:
    """Read the file of a folder.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = directory / COMBINATION_FILE
    try:
        return TypeAdapter(Combination).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(
            f"{path}: {where}: {first['msg']}; expected 'name' and 'parts', each with 'encoder' "
            "and 'weight'"
        ) from None

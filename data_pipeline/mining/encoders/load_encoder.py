"""Find a sentence encoder by its name.

The package ships the pretrained multilingual encoder, a static encoder, which is a hundred times
faster and much less accurate, and the combination of both, which is the default. LASER2 and LASER3
are read from their official checkpoints, and sentence-transformers models are loaded by `hub:NAME`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy

from nllb.errors import CheckpointError, ResourceError
from nllb.model.shipped_encoder import SHIPPED_ENCODER

from ..mining_config import Precision
from .combined_encoder import COMBINATION_FILE, CombinedEncoder, is_combination
from .encoder import Encoder, Vectors
from .laser import load_laser
from .pretrained import PretrainedSentences, is_pretrained_encoder
from .static_encoder import StaticEncoder

_MODELS: Final = Path(__file__).parents[2] / "_models"
STATIC: Final = _MODELS / "encoder"
"""Folder of the static encoder that ships with the package."""
COMBINED: Final = _MODELS / "combined"
"""Folder of the combination of both shipped encoders."""
_SHIPPED: Final = {"default": COMBINED, "pretrained": SHIPPED_ENCODER, "static": STATIC}


def load_encoder(name: str | Path = "default", dtype: Precision = "float32") -> Encoder:
    """Load an encoder.

    Args:
        name: `default`, `pretrained`, `static`, a folder that `nllb data train-encoder` or
            `nllb convert e5` wrote or that has a `combination.json`, a LASER checkpoint (.pt) with
            its SentencePiece model and, for LASER3, its dictionary (.cvocab) beside it, or
            `hub:NAME`.
        dtype: number format in which LASER's layers compute.

    Raises:
        CheckpointError: if the encoder is missing, damaged or of another kind.
    """
    if str(name).startswith("hub:"):
        return HubEncoder(str(name).removeprefix("hub:"))
    path = encoder_path(name)
    if path.is_dir() and is_combination(path):
        return CombinedEncoder.load(path, partial(_load_part, path, dtype))
    if path.is_dir() and is_pretrained_encoder(path):
        return PretrainedSentences(path)
    if path.is_dir():
        return StaticEncoder.load(path)
    if path.is_file():
        return load_laser(path, dtype)
    raise CheckpointError(
        f"there is no encoder {str(name)!r}; give `default`, `pretrained`, `static`, the folder of "
        "an encoder that `nllb data train-encoder` or `nllb convert e5` wrote, a LASER checkpoint "
        "(.pt), or hub:NAME"
    )


def _load_part(combination: Path, dtype: Precision, name: str) -> Encoder:
    if is_combination(encoder_path(name)):
        raise CheckpointError(
            f"{combination / COMBINATION_FILE}: {name!r} is a combination itself; name its parts"
        )
    return load_encoder(name, dtype)


def encoder_path(name: str | Path) -> Path:
    """Return the folder or file of an encoder that is not on the hub."""
    return _SHIPPED.get(str(name), Path(name))


class HubEncoder:
    """A sentence-transformers model such as LaBSE, if that package is installed."""

    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import (  # type: ignore[import-not-found]
                SentenceTransformer,
            )
        except ImportError:
            raise ResourceError(
                f"hub:{name} requires the package sentence-transformers; run: "
                "pip install sentence-transformers"
            ) from None
        self.name = name
        self.key = f"hub:{name}"
        self._model: Any = SentenceTransformer(name)
        self.dimension = int(self._model.get_sentence_embedding_dimension())

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        """Return the pooled vectors of the model."""
        found = self._model.encode(list(sentences), convert_to_numpy=True, show_progress_bar=False)
        vectors: Vectors = numpy.asarray(found, dtype=numpy.float32).reshape(-1, self.dimension)
        vectors[[not sentence.strip() for sentence in sentences]] = 0
        return vectors

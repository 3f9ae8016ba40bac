"""The pretrained multilingual encoder as an encoder for mining and the similarity filter."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nllb.inference.encoder_engine import EncoderType
from nllb.inference.meaning_thresholds import PIVOT, read_thresholds
from nllb.inference.sentence_encoder import SentenceEncoder
from nllb.model.formats.encoder_directory import CONFIG_FILE, EncoderDirectory
from nllb.model.shipped_encoder import SHIPPED_ENCODER

from .encoder import Vectors, check_finite

_LOG: Final = logging.getLogger("nllb.mining")


def is_pretrained_encoder(directory: Path) -> bool:
    """Return whether a folder looks like one that `nllb convert e5` wrote."""
    return (directory / CONFIG_FILE).is_file()


class PretrainedSentences:
    """Sentence vectors of the pretrained encoder.

    Attributes:
        name: name of the encoder.
        key: hash of its files. It does not depend on the type that the encoder computes in, because
            the vectors of float32 and int8 agree closely enough to share thresholds.
        dimension: length of a vector.
        languages: languages that the shipped encoder knows; None for other encoders.
    """

    def __init__(self, directory: Path, dtype: EncoderType = "auto") -> None:
        """Load an encoder.

        Raises:
            CheckpointError: if the folder is damaged or of another kind.
        """
        opened = EncoderDirectory.open(directory)
        source = opened.settings.get("source", {})
        self.name = str(source.get("model", directory.name))
        self.key = _key(opened)
        is_shipped = directory.resolve() == SHIPPED_ENCODER.resolve()
        self.languages = frozenset((PIVOT, *read_thresholds())) if is_shipped else None
        self._encoder = SentenceEncoder.load(directory, dtype=dtype)
        self.dimension = self._encoder.dimension

    def encode(self, sentences: Sequence[str], language: str = "") -> Vectors:
        """Return the vectors of sentences; `language` is ignored.

        A text that is longer than the encoder's longest sequence is encoded in several windows, and
        their number is logged.
        """
        found = self._encoder.encode(sentences)
        windowed = int((found.num_windows > 1).sum())
        if windowed:
            _LOG.info(
                "%s: %d of %d texts are longer than the encoder's %d tokens; the vector of such a "
                "text is the mean over several windows",
                self.name,
                windowed,
                len(sentences),
                self._encoder.tokenizer.config.max_positions,
            )
        check_finite(found.vectors, self.name)
        return found.vectors


def _key(directory: EncoderDirectory) -> str:
    files = directory.settings.get("files") or {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.path.iterdir())
        if path.suffix in (".safetensors", ".json", ".xz", ".tsv")
    }
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]

"""Whether an output means what its source means, by the similarity of their sentence vectors.

A fluent output can say something else; no check of its form detects that. The pretrained encoder
maps sentences of about a hundred languages to vectors, and the cosine of source and output is
compared with a threshold of the direction. `meaning_thresholds.tsv` has the thresholds of each
language with English: the cosine that one held-out translation in a hundred falls below. A
direction without English uses the lower threshold of its two languages. Languages that are not in
the table are unknown to the encoder, and their outputs get no flag.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from nllb.errors import DataError
from nllb.inference.sentence_encoder import SentenceEncoder
from nllb.inference.shared_encoder import shared_encoder
from nllb.io.text import read_table
from nllb.languages import Language
from nllb.translation.quality import FLAGS, MeaningVerdict, TrustRecord
from nllb.translation.retry import Attempt

PIVOT: Final = "eng_Latn"
THRESHOLDS_FILE: Final = Path(__file__).with_name("meaning_thresholds.tsv")
MIN_LETTERS: Final = 8
"""Shorter outputs are not judged: names and single words have no stable similarity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """The verdict on one output."""

    verdict: MeaningVerdict
    """`kept`, `changed`, or `unknown` if the encoder does not know a language or the text is too
    short."""
    similarity: float | None
    """The cosine of source and output; None if the verdict is `unknown`."""


class MeaningCheck:
    """Compares outputs with their sources; the encoder is loaded at the first comparison."""

    def __init__(
        self,
        *,
        num_threads: int | None = None,
        load: Callable[[], SentenceEncoder] | None = None,
    ) -> None:
        """Prepare the check.

        Args:
            num_threads: threads of the encoder on the CPU.
            load: returns the encoder; by default the shipped one, shared by the process.
        """
        self._load = load or partial(shared_encoder, num_threads)

    def judge(
        self, sources: Sequence[str], outputs: Sequence[str], *, source: Language, target: Language
    ) -> list[Meaning]:
        """Return the verdicts on outputs, in order.

        Raises:
            CheckpointError: the encoder is missing or damaged.
        """
        found = [Meaning(verdict="unknown", similarity=None)] * len(sources)
        threshold = find_threshold(source.code, target.code)
        judged = [number for number, output in enumerate(outputs) if _is_long_enough(output)]
        if threshold is None or not judged:
            return found
        texts = [sources[number] for number in judged] + [outputs[number] for number in judged]
        encoded = self._load().encode(texts)
        count = len(judged)
        cosines = np.einsum("nd,nd->n", encoded.vectors[:count], encoded.vectors[count:])
        is_empty = encoded.is_empty[:count] | encoded.is_empty[count:]
        for number, cosine, empty in zip(judged, cosines.tolist(), is_empty.tolist(), strict=True):
            if not empty:
                # Rounded, because the last digits of a network differ between machines.
                similarity = round(cosine, 4)
                verdict: MeaningVerdict = "kept" if similarity >= threshold else "changed"
                found[number] = Meaning(verdict=verdict, similarity=similarity)
        return found


def check_attempts(
    check: MeaningCheck, attempts: Sequence[Attempt], *, source: Language, target: Language
) -> list[Attempt]:
    """Return translated segments with the verdict on their meaning in their trust records."""
    firsts = [attempt.hypotheses[0] for attempt in attempts]
    found = check.judge(
        [first.source for first in firsts],
        [first.text for first in firsts],
        source=source,
        target=target,
    )
    return [
        replace(attempt, trust=_with_meaning(attempt.trust, meaning))
        for attempt, meaning in zip(attempts, found, strict=True)
    ]


def find_threshold(source: str, target: str) -> float | None:
    """Return the threshold of a direction; None if the encoder does not know both languages."""
    table = read_thresholds()
    known = [PIVOT, *table]
    if source not in known or target not in known:
        return None
    return min((table[code] for code in (source, target) if code != PIVOT), default=None)


@cache
def read_thresholds(path: Path = THRESHOLDS_FILE) -> dict[str, float]:
    """Return the thresholds of languages with English.

    Raises:
        DataError: a threshold is not a cosine.
    """
    table = {row["language"]: float(row["threshold"]) for row in read_table(path)}
    if wrong := [code for code, threshold in table.items() if not 0 < threshold < 1]:
        raise DataError(f"{path}: the thresholds of {', '.join(wrong)} are not between 0 and 1")
    return table


def _is_long_enough(output: str) -> bool:
    return sum(map(str.isalpha, output)) >= MIN_LETTERS


def _with_meaning(record: TrustRecord, meaning: Meaning) -> TrustRecord:
    record = replace(record, meaning=meaning.verdict, similarity=meaning.similarity)
    if meaning.verdict != "changed":
        return record
    flags = tuple(sorted((*record.flags, "meaning"), key=FLAGS.index))
    return replace(record, confidence=record.confidence / 2, flags=flags)

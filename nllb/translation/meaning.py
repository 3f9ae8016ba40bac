"""Checks whether an output means the same as its source, using states of a pretrained encoder.

A fluent output can have a different meaning or omit half of its source, which no check of its form
detects. The pretrained encoder produces comparable states for tokens in about a hundred languages.
The coverage of a source token is its highest cosine with any token of the output, and the
similarity is the mean coverage of the source's tokens, the recall of BERTScore (Zhang et al. 2020).
A late layer is used, but not the last one: towards the end, states represent more of the whole
sentence, so omissions have less effect.

The similarity is compared with a threshold per direction: `meaning_thresholds.tsv` lists, for each
language with English, the first percentile of the similarity of held-out translations. A direction
without English uses the lower threshold of its two languages. Languages that are not in the table
are unknown to the encoder, and their outputs are not flagged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nllb.inference.meaning_thresholds import find_threshold
from nllb.languages import Language
from nllb.model.shipped_encoder import SHIPPED_ENCODER

from .quality import FLAGS, MeaningVerdict, TrustRecord
from .retry import Attempt

if TYPE_CHECKING:  # this imports torch
    from nllb.inference.sentence_encoder import SentenceEncoder

MIN_LETTERS: Final = 8
"""Minimum number of letters of an output that is judged: short texts have unstable similarities."""
_GROUP: Final = 64
"""Number of pairs whose states are in memory at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """The verdict on one output.

    Attributes:
        verdict: `kept`, `changed`, or `unknown` if the text is too short or a language is unknown
            to the encoder.
        similarity: the similarity of source and output; None if the verdict is `unknown`.
    """

    verdict: MeaningVerdict
    similarity: float | None


class MeaningCheck:
    """Compares the meaning of outputs with that of their sources.

    The encoder is loaded at the first comparison. If this installation does not include the shipped
    encoder, every verdict is `unknown`.
    """

    def __init__(
        self,
        *,
        num_threads: int | None = None,
        load: "Callable[[], SentenceEncoder] | None" = None,
    ) -> None:
        """Prepare the check.

        Args:
            num_threads: number of CPU threads of the encoder.
            load: returns the encoder; by default the shipped one, which the process shares.
        """
        self._load = load or partial(_load_shared_encoder, num_threads)
        self._has_encoder = load is not None or SHIPPED_ENCODER.is_dir()

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
        if threshold is None or not judged or not self._has_encoder:
            return found
        for first in range(0, len(judged), _GROUP):
            group = judged[first : first + _GROUP]
            states = self.states(
                [sources[number] for number in group] + [outputs[number] for number in group]
            )
            for place, number in enumerate(group):
                covered = coverage(states[place], states[place + len(group)])
                if covered is not None:
                    # Rounded, because the last digits of a network differ between machines.
                    similarity = round(covered, 4)
                    verdict: MeaningVerdict = "kept" if similarity >= threshold else "changed"
                    found[number] = Meaning(verdict=verdict, similarity=similarity)
        return found

    def states(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the states of each text's tokens, without special tokens."""
        encoder = self._load()
        tokenized = encoder.tokenizer.tokenize(texts)
        windows = [window for text in tokenized for window in text.windows]
        layer = max(1, encoder.engine.config.num_layers * 5 // 6)
        parts = iter(encoder.engine.encode(windows, layers=(layer,)).split())
        empty = np.empty((0, encoder.dimension), np.float32)
        # Every window begins with <s> and ends with </s>.
        return [
            np.concatenate([empty, *(next(parts)[0, 1:-1].numpy() for _ in text.windows)])
            for text in tokenized
        ]


def coverage(source_SD: NDArray[np.float32], output_TD: NDArray[np.float32]) -> float | None:
    """Return the mean coverage of the source's tokens by the output's; None if either has none."""
    if not len(source_SD) or not len(output_TD):
        return None
    return float((_directions(source_SD) @ _directions(output_TD).T).max(1).mean())


def _directions(states_SD: NDArray[np.float32]) -> NDArray[np.float32]:
    directions_SD: NDArray[np.float32] = states_SD / np.linalg.norm(
        states_SD, axis=1, keepdims=True
    ).clip(1e-9)
    return directions_SD


def check_attempts(
    check: MeaningCheck, attempts: Sequence[Attempt], *, source: Language, target: Language
) -> list[Attempt]:
    """Return translated segments whose trust records include the verdict on their meaning."""
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


def _load_shared_encoder(num_threads: int | None) -> "SentenceEncoder":
    from nllb.inference.shared_encoder import shared_encoder

    return shared_encoder(num_threads)


def _is_long_enough(output: str) -> bool:
    return sum(map(str.isalpha, output)) >= MIN_LETTERS


def _with_meaning(record: TrustRecord, meaning: Meaning) -> TrustRecord:
    record = replace(record, meaning=meaning.verdict, similarity=meaning.similarity)
    if meaning.verdict != "changed":
        return record
    flags = tuple(sorted((*record.flags, "meaning"), key=FLAGS.index))
    return replace(record, confidence=record.confidence / 2, flags=flags)

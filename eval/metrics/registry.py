"""The metrics by name, and the scores of one hypothesis: raw, and with both sides in NFC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol
from unicodedata import is_normalized, normalize

import numpy as np
from numpy.typing import NDArray

from nllb.errors import ConfigError, ResourceError, did_you_mean
from nllb.io.benchmarks import sentences_sha256

from .bleu import Bleu
from .chrf import Chrf, Statistics
from .lowercase import Lowercased
from .neural_metric import PREFIX, NeuralChoice
from .ter import Ter
from .tokenization import (
    SacrebleuTokenizer,
    SentencePieceTokenizer,
    SpmName,
    bleu_tokenizer_name,
)

METRICS: Final = ("chrf++", "chrf", "spbleu", "bleu", "ter")
LOWER_IS_BETTER: Final = frozenset({"ter"})
"""Metrics that count errors."""
UNICODE_WARNING: Final = 0.3
"""Difference in points between the raw and the NFC score above which a warning is given."""


class SummedScore(Protocol):
    """A score that follows from sums over sentences, which is all that resampling requires."""

    name: str

    def score(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the score of summed statistics; leading axes are kept."""
        ...


class StoredMetric(SummedScore, Protocol):
    """A metric whose per-sentence integers are stored, so that scores can be computed again."""

    title: str
    signature: str
    num_columns: int

    def pack(self, statistics: Statistics) -> Statistics:
        """Return the columns to store."""
        ...

    def unpack(self, packed: NDArray[Any], reference_columns: Statistics) -> Statistics:
        """Return all columns again."""
        ...

    def reference_columns(self, statistics: Statistics) -> Statistics:
        """Return the columns that depend on the reference alone."""
        ...


class Metric(StoredMetric, Protocol):
    """A metric that also computes the integers of sentences."""

    def index(self, sentences: Sequence[str]) -> Any:
        """Count the references once for any number of hypotheses."""

    def statistics(self, sentences: Sequence[str], reference: Any) -> Statistics:
        """Return the integers of each sentence."""
        ...

    def multi_statistics(
        self, sentences: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Statistics:
        """Return the integers of each sentence against several references."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One hypothesis under one metric."""

    score: float
    """Raw corpus score, as in the paper."""
    nfc_score: float
    """The same with hypothesis and reference in Unicode form NFC."""
    statistics: Statistics
    """Integers of each sentence, raw."""

    @property
    def unicode_matters(self) -> bool:
        """Whether the two scores differ by more than `UNICODE_WARNING`."""
        return abs(self.score - self.nfc_score) > UNICODE_WARNING


class Reference:
    """The reference sentences of one language, indexed once for each metric."""

    def __init__(self, sentences: Sequence[str], language: str) -> None:
        self.sentences, self.language = tuple(sentences), language
        self._indexes: dict[tuple[str, bool], Any] = {}

    @cached_property
    def sha256(self) -> str:
        """Hash of the text."""
        return sentences_sha256(self.sentences)

    @cached_property
    def _not_nfc(self) -> list[int]:
        """Indices of the references that NFC would change."""
        return [n for n, text in enumerate(self.sentences) if not is_normalized("NFC", text)]

    def measure(self, metric: Metric, hypothesis: Sequence[str]) -> Measurement:
        """Score one hypothesis sentence for each reference sentence."""
        statistics, nfc = self.statistics_pair(metric, hypothesis)
        score = float(metric.score(statistics.sum(axis=0)))
        nfc_score = score if nfc is statistics else float(metric.score(nfc.sum(axis=0)))
        return Measurement(score=score, nfc_score=nfc_score, statistics=statistics)

    def statistics_pair(
        self, metric: Metric, hypothesis: Sequence[str]
    ) -> tuple[Statistics, Statistics]:
        """Return the integers of each sentence, raw and with both sides in NFC.

        Where NFC changes nothing both are the same array.
        """
        statistics = metric.statistics(hypothesis, self._index(metric))
        return statistics, self._nfc_statistics(metric, hypothesis, statistics)

    def _nfc_statistics(
        self, metric: Metric, hypothesis: Sequence[str], statistics: Statistics
    ) -> Statistics:
        """Count again only the lines where NFC changes the reference or the hypothesis."""
        theirs = self._not_nfc
        changed = {n for n, text in enumerate(hypothesis) if not is_normalized("NFC", text)}
        mine = sorted(changed.difference(theirs))
        if not theirs and not mine:
            return statistics
        result = statistics.copy()
        if theirs:
            composed = [normalize("NFC", hypothesis[n]) for n in theirs]
            result[theirs] = metric.statistics(composed, self._index(metric, nfc=True))
        if mine:
            index = metric.index([self.sentences[n] for n in mine])
            result[mine] = metric.statistics([normalize("NFC", hypothesis[n]) for n in mine], index)
        return result

    def _index(self, metric: Metric, *, nfc: bool = False) -> Any:
        """Return the index of the references, or with `nfc` of those that NFC changes, composed."""
        key = (metric.signature, nfc)
        if key not in self._indexes:
            sentences: Sequence[str] = self.sentences
            if nfc:
                sentences = [normalize("NFC", self.sentences[n]) for n in self._not_nfc]
            self._indexes[key] = metric.index(sentences)
        return self._indexes[key]


def multi_statistics_pair(
    metric: Metric, hypothesis: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Statistics, Statistics]:
    """Return the integers against several references, raw and with all sides in NFC.

    Args:
        metric: what to count.
        hypothesis: sentences.
        references: for each sentence its references, equally many for all.
    """
    statistics = metric.multi_statistics(hypothesis, references)
    changed = [
        number
        for number, texts in enumerate(zip(hypothesis, references, strict=True))
        if not all(is_normalized("NFC", text) for text in (texts[0], *texts[1]))
    ]
    if not changed:
        return statistics, statistics
    result = statistics.copy()
    result[changed] = metric.multi_statistics(
        [normalize("NFC", hypothesis[number]) for number in changed],
        [[normalize("NFC", text) for text in references[number]] for number in changed],
    )
    return statistics, result


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricChoice:
    """Which metrics to compute; a metric is made for each target language."""

    names: tuple[str, ...] = ("chrf++",)
    """Any of chrf++, chrf, spbleu, bleu, ter."""
    spm: SentencePieceTokenizer | None = None
    """SentencePiece model of spBLEU."""
    lowercase: bool = False
    """Whether to lowercase hypotheses and references first; TER always does."""
    neural: NeuralChoice | None = None
    """An additional neural metric."""

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in METRICS:
                raise ConfigError(
                    f"unknown metric {name!r}{did_you_mean(name, METRICS) or '.'} Valid: "
                    f"{', '.join(METRICS)}"
                )
        if "spbleu" in self.names and self.spm is None:
            raise ConfigError(
                "spbleu requires a SentencePiece model: give --spm FILE (that of FLORES-200 or "
                "FLORES-101, from github.com/facebookresearch/flores)"
            )

    def metric(self, name: str, target: str) -> Metric:
        """Return a metric for a target language.

        Raises:
            ResourceError: if the language's tokenizer is not installed.
        """
        metric: Metric
        if name == "ter":
            return Ter()
        if name in ("chrf", "chrf++"):
            metric = _CHRF[name]
        elif name == "spbleu":
            assert self.spm is not None
            metric = Bleu(self.spm, name="spbleu", title="spBLEU")
        else:
            metric = Bleu(SacrebleuTokenizer(bleu_tokenizer_name(target)[0]))
        return Lowercased(metric) if self.lowercase else metric

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of the metrics, the neural one last."""
        return (*self.names, self.neural.metric_name) if self.neural else self.names

    def signatures(self, target: str) -> dict[str, str]:
        """Return the signature of each metric for a target; empty where it cannot be computed."""
        found = {self.neural.metric_name: self.neural.signature} if self.neural else {}
        for name in self.names:
            try:
                found[name] = self.metric(name, target).signature
            except ResourceError:
                found[name] = ""
        return found


_CHRF: Final[Mapping[str, Metric]] = {"chrf++": Chrf(word_order=2), "chrf": Chrf(word_order=0)}


def metric_title(name: str) -> str:
    """Return a metric's name for display."""
    return {
        "chrf++": "chrF++",
        "chrf": "chrF",
        "spbleu": "spBLEU",
        "bleu": "BLEU",
        "ter": "TER",
    }.get(name, name.removeprefix(PREFIX))


def choose_metrics(
    names: str | None,
    *,
    spm: Path | None,
    spm_name: SpmName,
    spm_sha256: str | None,
    lowercase: bool = False,
) -> MetricChoice:
    """Return the metrics by name; without names chrF++ and, if a model is given, spBLEU."""
    tokenizer = None
    if spm is not None:
        tokenizer = SentencePieceTokenizer(spm, name=spm_name, pinned=spm_sha256)
    wanted = names.split(",") if names else ["chrf++"] + (["spbleu"] if spm else [])
    return MetricChoice(
        names=tuple(dict.fromkeys(name.strip().lower() for name in wanted)),
        spm=tokenizer,
        lowercase=lowercase,
    )

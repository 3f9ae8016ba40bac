"""Score one hypothesis file against one reference: what `nllb eval score` prints."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.metrics.hypothesis_checks import (
    Detect,
    Finding,
    check_hypothesis,
    check_language,
    read_hypothesis,
)
from eval.metrics.registry import (
    UNICODE_WARNING,
    Measurement,
    Metric,
    MetricChoice,
    Reference,
    metric_title,
)
from eval.metrics.significance import bootstrap_weights, intervals, replicates
from eval.metrics.tokenization import bleu_tokenizer_name
from nllb.errors import DataError, ResourceError
from nllb.io.benchmarks import sentences_sha256
from nllb.io.text import read_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class FileScore:
    """One metric of one file."""

    metric: str
    """Metric name: chrf++, chrf, spbleu or bleu."""
    name: str
    """The same as people write it."""
    score: float | None
    """Raw corpus score, 0 to 100; None where the language's tokenizer is not installed."""
    nfc_score: float | None
    """Score with hypothesis and reference in Unicode form NFC."""
    low: float | None
    """Lower end of the 95 % bootstrap interval of the raw score."""
    high: float | None
    """Upper end."""
    signature: str
    """sacrebleu's signature; for spBLEU with the hash of the SentencePiece model."""
    num_sentences: int
    """Lines scored."""
    target: str
    """Target language."""
    hypothesis: str
    """The hypothesis file as given."""
    reference: str
    """The reference file as given."""
    hypothesis_sha256: str
    """Hash of the hypothesis sentences."""
    reference_sha256: str
    """Hash of the reference sentences."""
    warnings: tuple[str, ...]
    """What a reader must know before believing the score."""

    def as_text(self) -> str:
        """Return one line for people."""
        if self.score is None:
            return f"{self.name}: not computed"
        return (
            f"{self.name} {self.score:.2f} (95 % {self.low:.2f} to {self.high:.2f}; "
            f"NFC {self.nfc_score:.2f})  {self.signature}"
        )


def score_file(
    hypothesis: Path,
    reference: Path,
    *,
    target: str,
    choice: MetricChoice,
    source_text: Path | None = None,
    detect: Detect | None = None,
) -> tuple[list[FileScore], list[Finding]]:
    """Score a file and check it.

    Raises:
        DataError: where a file is missing or empty, or line counts differ.
        ResourceError: where no metric could be computed.
    """
    references = list(read_lines(reference))
    if not references:
        raise DataError(f"{reference} is empty: nothing to compare with")
    sentences, findings = read_hypothesis(hypothesis, expected=len(references))
    source = list(read_lines(source_text)) if source_text is not None else None
    if source is not None and len(source) != len(references):
        raise DataError(
            f"{source_text}: {len(source):,} lines where {reference} has {len(references):,}; "
            "the three files must be aligned line for line"
        )
    findings += check_hypothesis(sentences, references, source=source)
    if detect is not None:
        findings += check_language(sentences, target, detect)[1]
    prepared = Reference(references, target)
    hashes = sentences_sha256(sentences), prepared.sha256
    scores = []
    reasons = []
    for name in choice.names:
        try:
            metric: Metric | None = choice.metric(name, target)
        except ResourceError as error:
            metric, reason = None, str(error)
            reasons.append(reason)
        low = high = measured = None
        warnings = [finding.message for finding in findings]
        if metric is None:
            warnings.insert(0, reason)
        else:
            measured = prepared.measure(metric, sentences)
            weights = bootstrap_weights(len(sentences))
            samples = replicates(metric, measured.statistics[None], weights)
            low, high = intervals(samples)[0].tolist()
            warnings = [*_warnings(name, target, choice, measured), *warnings]
        scores.append(
            FileScore(
                metric=name,
                name=metric_title(name),
                score=measured.score if measured else None,
                nfc_score=measured.nfc_score if measured else None,
                low=low,
                high=high,
                signature=metric.signature if metric else "",
                num_sentences=len(references),
                target=target,
                hypothesis=str(hypothesis),
                reference=str(reference),
                hypothesis_sha256=hashes[0],
                reference_sha256=hashes[1],
                warnings=tuple(warnings),
            )
        )
    if len(reasons) == len(choice.names):
        raise ResourceError("; ".join(reasons))
    return scores, findings


def _warnings(name: str, target: str, choice: MetricChoice, measured: Measurement) -> Iterator[str]:
    if measured.unicode_matters:
        yield (
            f"raw and NFC score differ by {abs(measured.score - measured.nfc_score):.2f}, more "
            f"than {UNICODE_WARNING}: hypothesis and reference use other Unicode forms"
        )
    if name == "bleu" and bleu_tokenizer_name(target)[1]:
        yield (
            f"the NLLB paper tokenized {target} with {bleu_tokenizer_name(target)[1]}: "
            "do not compare with its BLEU"
        )
    if name == "spbleu" and choice.spm is not None and not choice.spm.verified:
        yield f"SentencePiece model {choice.spm.sha256} is unverified: pin it with --spm-sha256"

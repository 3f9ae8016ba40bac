"""Score one hypothesis file against one or more references, as `nllb eval score` does.

Files are read in blocks. Only the sums of the bootstrap resamples, 16 bytes per line for the check
of repeated lines, and one block of text are kept in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError, ResourceError
from nllb.io.text import read_binary_lines, read_lines
from nllb.languages import parse_language
from nllb.languages.scripts import script_of

from .hypothesis_checks import (
    Detect,
    Finding,
    HypothesisChecks,
    LanguageChecks,
    LineReader,
    check_line_count,
    check_text_form,
)
from .registry import (
    UNICODE_WARNING,
    Metric,
    MetricChoice,
    Reference,
    metric_title,
    multi_statistics_pair,
)
from .resampling import BLOCK, ResampledSums
from .signature import with_part
from .significance import RESAMPLES, interval
from .text_hash import TextHash
from .tokenization import bleu_tokenizer_name

STDIN: Final = "-"
_MAX_LINES_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class FileScore:
    """One metric of one file."""

    metric: str
    """Metric name: chrf++, chrf, spbleu, bleu or ter."""
    name: str
    """The name for display."""
    score: float | None
    """Raw corpus score; None if the tokenizer of the language is not installed."""
    nfc_score: float | None
    """Score with hypothesis and references in Unicode form NFC."""
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
    """The reference file as given; several are separated by commas."""
    hypothesis_sha256: str
    """Hash of the hypothesis sentences."""
    reference_sha256: str
    """Hash of the reference sentences; of several references, of their hashes."""
    warnings: tuple[str, ...]
    """Warnings about the score."""

    def as_text(self) -> str:
        """Return the score as one line of text."""
        if self.score is None:
            return f"{self.name}: not computed"
        return (
            f"{self.name} {self.score:.2f} (95 % {self.low:.2f} to {self.high:.2f}; NFC "
            f"{self.nfc_score:.2f})  {self.signature}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Some lines of all files, aligned."""

    hypothesis: list[str]
    """Lines of the hypothesis."""
    references: list[tuple[str, ...]]
    """For each line its references."""
    source: list[str] | None
    """Source lines, where they were given."""


class AlignedFiles:
    """A hypothesis, its references and perhaps its source, read together in blocks."""

    def __init__(
        self, hypothesis: Path, references: Sequence[Path], source: Path | None = None
    ) -> None:
        """Count the lines of all files.

        Raises:
            DataError: if a file is missing or empty, is not text in UTF-8, or has another number
                of lines than the first reference.
        """
        self.hypothesis, self.references, self.source = hypothesis, tuple(references), source
        for path in (*references, *([source] if source else [])):
            check_text_form(path)
        first = references[0]
        self.num_lines = _count_lines(first)
        if not self.num_lines:
            raise DataError(f"{first} is empty; it needs at least one line")
        for path in (*references[1:], *([source] if source else [])):
            count = _count_lines(path)
            if count != self.num_lines:
                raise DataError(
                    f"{path}: {count:,} lines where {first} has {self.num_lines:,}; all files must "
                    f"be aligned line for line"
                )
        self._reader = LineReader(hypothesis)
        if str(hypothesis) != STDIN:
            check_line_count(hypothesis, _count_lines(hypothesis), self.num_lines)

    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        """Yield the files in blocks of lines.

        Raises:
            DataError: if standard input has another number of lines than the references.
        """
        lines = iter(self._reader)
        streams = [read_lines(path) for path in self.references]
        source = read_lines(self.source) if self.source else None
        done = 0
        while done < self.num_lines:
            hypothesis = list(islice(lines, min(size, self.num_lines - done)))
            done += len(hypothesis)
            if not hypothesis or (done < self.num_lines and len(hypothesis) < size):
                check_line_count(self.hypothesis, done, self.num_lines)
            texts = [list(islice(stream, len(hypothesis))) for stream in streams]
            yield Block(
                hypothesis=hypothesis,
                references=list(zip(*texts, strict=True)),
                source=list(islice(source, len(hypothesis))) if source else None,
            )
        if next(lines, None) is not None:
            check_line_count(self.hypothesis, done + 1, self.num_lines)

    def findings(self) -> list[Finding]:
        """Return bytes of the hypothesis that are not UTF-8, once all blocks were read."""
        return self._reader.findings(self.num_lines)


class _ReferenceChecks:
    """Empty lines of each reference file, and the hashes of the files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._empty: list[list[int]] = [[] for _ in paths]
        self._counts = [0] * len(paths)
        self._hashes = [TextHash() for _ in paths]
        self._seen = 0

    def add(self, references: Sequence[tuple[str, ...]]) -> None:
        for number, texts in enumerate(references, self._seen + 1):
            for place, text in enumerate(texts):
                if not text.strip():
                    self._counts[place] += 1
                    if len(self._empty[place]) < _MAX_LINES_NAMED:
                        self._empty[place].append(number)
        for place, digest in enumerate(self._hashes):
            digest.add(texts[place] for texts in references)
        self._seen += len(references)

    def warnings(self) -> Iterator[str]:
        for path, lines, count in zip(self._paths, self._empty, self._counts, strict=True):
            if count:
                named = ", ".join(map(str, lines)) + (", ..." if count > len(lines) else "")
                yield (
                    f"{count:,} of {self._seen:,} lines of the reference {path} are empty (line "
                    f"{named}): no hypothesis can match them"
                )

    def sha256(self) -> str:
        digests = [one.hexdigest() for one in self._hashes]
        if len(digests) == 1:
            return digests[0]
        joined = TextHash()
        joined.add(digests)
        return joined.hexdigest()


@dataclass(kw_only=True, slots=True)
class _Running:
    """One metric while blocks are added."""

    metric: Metric
    resampled: ResampledSums
    sums: NDArray[Any]
    nfc_sums: NDArray[Any]

    def add(self, raw: NDArray[Any], nfc: NDArray[Any]) -> None:
        totals = raw.sum(axis=0, dtype=np.int64)
        nfc_totals = totals if nfc is raw else nfc.sum(axis=0, dtype=np.int64)
        self.sums = self.sums + totals
        self.nfc_sums = self.nfc_sums + nfc_totals
        self.resampled.add({self.metric.name: raw})


def score_file(
    hypothesis: Path,
    references: Sequence[Path],
    *,
    target: str,
    choice: MetricChoice,
    source_text: Path | None = None,
    detect: Detect | None = None,
    resamples: int = RESAMPLES,
) -> tuple[list[FileScore], list[Finding]]:
    """Score a file and check it.

    Args:
        hypothesis: translations, one per line; `-` is stdin.
        references: one or more files of references.
        target: target language.
        choice: metrics.
        source_text: sources, to count untranslated lines.
        detect: identifies the language of texts.
        resamples: number of bootstrap resamples.

    Raises:
        DataError: if a file is missing or empty, or line counts differ.
        ResourceError: if no metric could be computed.
    """
    files = AlignedFiles(hypothesis, references, source_text)
    metrics, reasons = available_metrics(choice, target)
    running = [
        _Running(
            metric=metric,
            resampled=ResampledSums(files.num_lines, resamples=resamples),
            sums=np.zeros(metric.num_columns, dtype=np.int64),
            nfc_sums=np.zeros(metric.num_columns, dtype=np.int64),
        )
        for metric in metrics.values()
    ]
    checks, reference_checks = HypothesisChecks(), _ReferenceChecks(files.references)
    languages = [LanguageChecks(target, detect) for _ in range(2)] if detect else []
    digest = TextHash()
    for block in files.blocks():
        digest.add(block.hypothesis)
        checks.add(block.hypothesis, block.references, block.source)
        reference_checks.add(block.references)
        if languages:
            languages[0].add(block.hypothesis)
            languages[1].add([texts[0] for texts in block.references])
        for one, pair in zip(
            running, block_statistics(block, metrics.values(), target), strict=True
        ):
            one.add(*pair)
    findings = [*files.findings(), *checks.findings()]
    if languages:
        findings += languages[0].findings(languages[1].count().share)
    told = [*reference_checks.warnings(), *(finding.message for finding in findings)]
    by_name = {one.metric.name: one for one in running}
    scores = [
        _file_score(
            name, by_name.get(name), files, target=target, choice=choice,
            warnings=[*([reasons[name]] if name in reasons else []), *told],
            hashes=(digest.hexdigest(), reference_checks.sha256()),
        )
        for name in choice.names
    ]  # fmt: skip
    return scores, findings


def available_metrics(
    choice: MetricChoice, target: str
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Return the metrics of a language by name, and the reasons why others are missing.

    Raises:
        ResourceError: if none can.
    """
    metrics, reasons = {}, {}
    for name in choice.names:
        try:
            metrics[name] = choice.metric(name, target)
        except ResourceError as error:
            reasons[name] = str(error)
    if not metrics:
        raise ResourceError("; ".join(reasons.values()))
    return metrics, reasons


def block_statistics(
    block: Block, metrics: Iterable[Metric], target: str
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield for each metric the integers of the block's lines, raw and with NFC on all sides."""
    if len(block.references[0]) == 1:
        reference = Reference([texts[0] for texts in block.references], target)
        for metric in metrics:
            yield reference.statistics_pair(metric, block.hypothesis)
        return
    for metric in metrics:
        yield multi_statistics_pair(metric, block.hypothesis, block.references)


def signature_of(metric: Metric, num_references: int) -> str:
    """Return the signature of a metric with the number of references."""
    return with_part(metric.signature, "nrefs", num_references)


def _file_score(
    name: str,
    one: _Running | None,
    files: AlignedFiles,
    *,
    target: str,
    choice: MetricChoice,
    warnings: list[str],
    hashes: tuple[str, str],
) -> FileScore:
    score = nfc_score = low = high = None
    signature = ""
    if one is not None:
        score, nfc_score = (float(one.metric.score(s)) for s in (one.sums, one.nfc_sums))
        low, high = interval(one.resampled.scores(one.metric))
        signature = signature_of(one.metric, len(files.references))
        warnings = [*_warnings(name, target, choice, score, nfc_score), *warnings]
    return FileScore(
        metric=name,
        name=metric_title(name),
        score=score,
        nfc_score=nfc_score,
        low=low,
        high=high,
        signature=signature,
        num_sentences=files.num_lines,
        target=target,
        hypothesis=str(files.hypothesis),
        reference=", ".join(map(str, files.references)),
        hypothesis_sha256=hashes[0],
        reference_sha256=hashes[1],
        warnings=tuple(warnings),
    )


def _warnings(
    name: str, target: str, choice: MetricChoice, score: float, nfc_score: float
) -> Iterator[str]:
    if abs(score - nfc_score) > UNICODE_WARNING:
        yield (
            f"raw and NFC score differ by {abs(score - nfc_score):.2f}, more than "
            f"{UNICODE_WARNING}: hypothesis and reference use different Unicode forms"
        )
    if name == "bleu" and bleu_tokenizer_name(target)[1]:
        yield (
            f"the NLLB paper tokenized {target} with {bleu_tokenizer_name(target)[1]}: do not "
            f"compare with its BLEU"
        )
    if name == "ter" and not script_of(parse_language(target).script).spaces_words:
        yield f"TER counts words between spaces, and {target} is written without them"
    if name == "spbleu" and choice.spm is not None and not choice.spm.verified:
        yield f"SentencePiece model {choice.spm.sha256} is unverified: pin it with --spm-sha256"


def _count_lines(path: Path) -> int:
    return sum(1 for _ in read_binary_lines(path))

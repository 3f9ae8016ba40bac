"""Evaluate a detector on labelled lines: F1, false positives, confusions and rejected text.

Three F1 scores are reported because each is misleading on its own: with thresholds (`und` counts as
an error), without thresholds (argmax), and over all languages of the text, including those that the
model has no label for.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lid.detector import Detector
from lid.groups import group_of_language
from lid.train.collection import is_for_tuning, out_of_set_code
from nllb.errors import DataError, NllbError
from nllb.io.benchmarks import load_aligned, load_flores
from nllb.io.corpora import open_corpus
from nllb.io.progress import Progress
from nllb.languages import languages
from nllb.languages.detection import UNDETERMINED

CUTS: Final[tuple[int | None, ...]] = (None, 10, 5, 3)
"""Numbers of words that lines are truncated to; None is the full line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelScore:
    """Metrics of one label."""

    label: str
    """Language code."""
    lines: int
    """Number of lines in this language."""
    precision: float
    """Fraction of the answers with this label that are right."""
    recall: float
    """Fraction of the lines in this language that get this label."""
    f1: float
    """Harmonic mean of precision and recall, with thresholds."""
    argmax_f1: float
    """F1 without thresholds."""
    false_positive_rate: float
    """Fraction of the lines in other languages that get this label."""
    undetermined: float
    """Fraction of the lines in this language that are answered with `und`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutScore:
    """Metrics for one text length."""

    words: int | None
    """Number of words that lines are truncated to; None is the full line. Lines in scripts without
    spaces are never truncated."""
    f1: float
    """Macro F1 over the labels of the model, with thresholds, on lines in these languages."""
    argmax_f1: float
    """Macro F1 without thresholds."""
    all_f1: float
    """Macro F1 over all languages of the text, on all lines. Languages without a label count as
    0."""
    group_f1: float
    """Macro F1 where any label of the right macro group counts as right."""
    false_positive_rate: float
    """Mean false positive rate of the labels of the model, on lines in these languages."""
    all_false_positive_rate: float
    """Mean false positive rate of the labels of the model, on all lines."""
    determined: float
    """Fraction of the lines in languages with a label that are not answered with `und`."""
    recall: float
    """Fraction of the lines in languages with a label that are answered correctly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfSetScore:
    """Metrics on out-of-set text that was not used for training or tuning."""

    languages: int
    """Number of languages."""
    lines: int
    """Number of lines."""
    accepted: float
    """Fraction of the lines that got a label instead of `und`."""
    unseen_languages: int
    """Number of languages in which the model was not trained on any text."""
    unseen_accepted: float
    """Fraction of the lines in unseen languages that got a label."""
    by_language: dict[str, float]
    """Language -> fraction of its lines that got a label."""
    taken_for: dict[str, str]
    """Language -> the most frequent label of its accepted lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The result of an evaluation."""

    text: str
    """Name of the evaluation text."""
    missing: list[str]
    """Languages of the text without a label in the model."""
    cuts: list[CutScore]
    """Metrics per text length."""
    labels: list[LabelScore]
    """Metrics per label on full lines."""
    confusions: list[tuple[str, str, int]]
    """(language, answer, lines) on full lines, most frequent first."""
    by_script: dict[str, float]
    """Script -> macro F1 on full lines."""
    by_level: dict[str, float]
    """Resource level -> macro F1 on full lines."""
    foreign: OutOfSetScore | None
    """Metrics on out-of-set languages, or None if they were not evaluated."""


def read_labelled(directory: Path) -> dict[str, Sequence[str]]:
    """Read FLORES in any of its layouts, or a folder of files `CODE` or `CODE.txt`.

    Raises:
        DataError: Neither was found; the message explains how to obtain FLORES.
    """
    try:
        text = load_flores(directory)
    except NllbError:
        try:
            text = load_aligned(directory)
            known = {language.code for language in languages()} & set(text.languages)
        except NllbError:
            known = set()
        if not known:
            raise
        return {code: _lines(text.path(code)) for code in sorted(known)}
    return {code: text.sentences(code) for code in text.languages if text.path(code).stat().st_size}


def _lines(path: Path) -> list[str]:
    from nllb.io.text import read_lines

    return list(read_lines(path, errors="replace"))


def read_out_of_set(directory: Path) -> dict[str, list[str]]:
    """Read text in the out-of-set languages that are reserved for evaluation."""
    corpus = open_corpus(directory, layout="keyed")
    texts: dict[str, list[str]] = defaultdict(list)
    for path, _ in corpus.files():
        code = out_of_set_code(path)
        if not is_for_tuning(code):
            texts[path.name.partition(".")[0]] += [text.text for text in corpus.read(path, code)]
    if not texts:
        raise DataError(
            f"{directory} has no files ISO__ID.tsv with text in out-of-set languages that are "
            "reserved for evaluation"
        )
    return dict(texts)


def evaluate(
    detector: Detector,
    text: Mapping[str, Sequence[str]],
    out_of_set: Mapping[str, Sequence[str]] | None = None,
    *,
    name: str = "text",
    cuts: Sequence[int | None] = CUTS,
    quiet: bool = False,
) -> Evaluation:
    """Run the detector on all lines and compute the metrics.

    Args:
        detector: The detector.
        text: Language -> lines.
        out_of_set: Out-of-set language -> lines.
        name: Name of the text in the report.
        cuts: Numbers of words that lines are truncated to; metrics per label are for the first.
        quiet: Show no progress on stderr.
    """
    known = set(detector.labels)
    scores: list[CutScore] = []
    first: _AnswerCounts | None = None
    with Progress(
        "evaluating", unit="languages", total=len(text) * len(cuts), quiet=quiet
    ) as progress:
        for words in cuts:
            count = _AnswerCounts(known)
            for language, lines in text.items():
                count.add(language, *_answers(detector, first_words(lines, words)))
                progress.advance()
            scores.append(count.cut(words))
            first = first or count
    assert first is not None
    labels = first.labels()
    by_code = {language.code: language for language in languages()}
    return Evaluation(
        text=name,
        missing=sorted(set(text) - known),
        cuts=scores,
        labels=labels,
        confusions=first.confusions(200),
        by_script=_means((by_code[s.label].script, s.f1) for s in labels if s.label in by_code),
        by_level=_means((by_code[s.label].level, s.f1) for s in labels if s.label in by_code),
        foreign=None if not out_of_set else _out_of_set_score(detector, out_of_set),
    )


def first_words(lines: Sequence[str], words: int | None) -> list[str]:
    """Return the lines truncated to their first words."""
    return list(lines) if words is None else [" ".join(line.split()[:words]) for line in lines]


def _answers(detector: Detector, lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the answers with and without thresholds."""
    detections = detector.detect_batch(lines)
    return [one.language for one in detections], [one.best for one in detections]


class _AnswerCounts:
    """Counts the answers per language and computes metrics from the counts."""

    def __init__(self, known: set[str]) -> None:
        self.known = known
        self.answers: dict[str, Counter[str]] = {}
        self.argmax: dict[str, Counter[str]] = {}

    def add(self, language: str, answers: list[str], best: list[str]) -> None:
        self.answers[language] = Counter(answers)
        self.argmax[language] = Counter(best)

    @property
    def covered(self) -> list[str]:
        return [language for language in self.answers if language in self.known]

    def scores(
        self, answers: Mapping[str, Counter[str]], languages_: Sequence[str]
    ) -> dict[str, tuple[float, float, float, float]]:
        """Return precision, recall, F1 and false positive rate per language."""
        predicted: Counter[str] = Counter()
        for language in languages_:
            predicted.update(answers[language])
        total = sum(sum(answers[language].values()) for language in languages_)
        result = {}
        for language in languages_:
            lines = sum(answers[language].values())
            right = answers[language][language]
            result[language] = (
                right / max(1, predicted[language]),
                right / max(1, lines),
                2 * right / max(1, predicted[language] + lines),
                (predicted[language] - right) / max(1, total - lines),
            )
        return result

    def cut(self, words: int | None) -> CutScore:
        covered, every = self.covered, list(self.answers)
        own = self.scores(self.answers, covered)
        argmax = self.scores(self.argmax, covered)
        all_lines = self.scores(self.answers, every)
        lines = sum(sum(self.answers[language].values()) for language in covered)
        undetermined = sum(self.answers[language][UNDETERMINED] for language in covered)
        groups = self.scores(
            {
                language: Counter(
                    {
                        answer: count
                        for answer, count in _merge_siblings(
                            language, self.answers[language]
                        ).items()
                    }
                )
                for language in covered
            },
            covered,
        )
        return CutScore(
            words=words,
            f1=_mean(score[2] for score in own.values()),
            argmax_f1=_mean(score[2] for score in argmax.values()),
            all_f1=_mean(score[2] for score in all_lines.values()),
            group_f1=_mean(score[2] for score in groups.values()),
            false_positive_rate=_mean(score[3] for score in own.values()),
            all_false_positive_rate=_mean(all_lines[language][3] for language in covered),
            determined=1 - undetermined / max(1, lines),
            recall=sum(self.answers[language][language] for language in covered) / max(1, lines),
        )

    def labels(self) -> list[LabelScore]:
        covered = self.covered
        own, argmax = self.scores(self.answers, covered), self.scores(self.argmax, covered)
        return [
            LabelScore(
                label=language,
                lines=sum(self.answers[language].values()),
                precision=own[language][0],
                recall=own[language][1],
                f1=own[language][2],
                argmax_f1=argmax[language][2],
                false_positive_rate=own[language][3],
                undetermined=self.answers[language][UNDETERMINED]
                / max(1, sum(self.answers[language].values())),
            )
            for language in covered
        ]

    def confusions(self, max_pairs: int) -> list[tuple[str, str, int]]:
        pairs: Counter[tuple[str, str]] = Counter()
        for language, answers in self.answers.items():
            for answer, count in answers.items():
                if answer != language:
                    pairs[language, answer] = count
        return [
            (language, answer, count) for (language, answer), count in pairs.most_common(max_pairs)
        ]


def _merge_siblings(language: str, answers: Counter[str]) -> Counter[str]:
    """Count the answers in the macro group of a language as answers with the language."""
    group = group_of_language().get(language)
    if group is None:
        return answers
    merged: Counter[str] = Counter()
    for answer, count in answers.items():
        merged[language if group_of_language().get(answer) == group else answer] += count
    return merged


def _out_of_set_score(detector: Detector, out_of_set: Mapping[str, Sequence[str]]) -> OutOfSetScore:
    seen = set(detector.card.foreign)
    accepted: dict[str, float] = {}
    most_frequent: dict[str, str] = {}
    unseen: list[str] = []
    total = num_accepted = unseen_total = unseen_accepted = 0
    for language, lines in out_of_set.items():
        answers = Counter(one.language for one in detector.detect_batch(lines))
        undetermined = answers.pop(UNDETERMINED, 0)
        total += len(lines)
        num_accepted += len(lines) - undetermined
        if out_of_set_code(Path(language)) not in seen:
            unseen.append(language)
            unseen_total += len(lines)
            unseen_accepted += len(lines) - undetermined
        accepted[language] = 1 - undetermined / max(1, len(lines))
        if answers:
            most_frequent[language] = answers.most_common(1)[0][0]
    return OutOfSetScore(
        languages=len(out_of_set),
        lines=total,
        accepted=num_accepted / max(1, total),
        unseen_languages=len(unseen),
        unseen_accepted=unseen_accepted / max(1, unseen_total),
        by_language=dict(sorted(accepted.items(), key=lambda item: -item[1])),
        taken_for=most_frequent,
    )


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    by_key: dict[str, list[float]] = defaultdict(list)
    for key, value in pairs:
        by_key[key].append(value)
    return {key: _mean(values) for key, values in sorted(by_key.items())}


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0

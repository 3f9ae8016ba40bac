"""How well a detector does on labelled lines: F1, false positives, confusions, and what it refuses.

Three figures stand beside each other, since each alone misleads: with thresholds (`und` is a miss),
without them (argmax), and over all languages of the text, those without training text included.
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
"""First words of each line that are asked for; None is the full line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelScore:
    """One label's figures."""

    label: str
    """Language."""
    lines: int
    """Lines that are in it."""
    precision: float
    """Part of its answers that are right."""
    recall: float
    """Part of its lines that are found."""
    f1: float
    """Harmonic mean of both, with thresholds."""
    argmax_f1: float
    """The same without thresholds."""
    false_positive_rate: float
    """Part of the other labels' lines that are taken for it."""
    undetermined: float
    """Part of its lines that are answered with `und`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutScore:
    """The figures of one length of text."""

    words: int | None
    """First words of each line; None is the full line, which scripts without spaces keep."""
    f1: float
    """Macro F1 over the labels of the model, with thresholds, on lines of these labels."""
    argmax_f1: float
    """The same without thresholds."""
    all_f1: float
    """Macro F1 over all languages of the text, on all lines; 0 for those that the model lacks."""
    group_f1: float
    """Macro F1 where a confusable sibling counts as right."""
    false_positive_rate: float
    """Mean over the model's labels of their false positive rate, on lines of these labels."""
    all_false_positive_rate: float
    """The same on all lines."""
    determined: float
    """Part of the lines of the model's labels that are not answered with `und`."""
    recall: float
    """Part of them that are right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfSetScore:
    """What was made of text in languages outside the table."""

    languages: int
    """Languages asked about: those that no training or tuning saw."""
    lines: int
    """Their lines."""
    accepted: float
    """Part that was given a label of the table."""
    by_language: dict[str, float]
    """Language -> part that was accepted."""
    taken_for: dict[str, str]
    """Language -> label that most of its accepted lines got."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The whole result."""

    text: str
    """Where the lines came from."""
    missing: list[str]
    """Languages of the text that the model has no label for."""
    cuts: list[CutScore]
    """Figures by length."""
    labels: list[LabelScore]
    """Figures by label on full lines."""
    confusions: list[tuple[str, str, int]]
    """(language, answer, lines) on full lines, most frequent first."""
    by_script: dict[str, float]
    """Script -> macro F1 on full lines."""
    by_level: dict[str, float]
    """Resource level -> macro F1 on full lines."""
    foreign: OutOfSetScore | None
    """Text in other languages."""


def read_labelled(directory: Path) -> dict[str, Sequence[str]]:
    """Read one file per language: FLORES in any of its layouts, or files `CODE` or `CODE.txt`.

    Raises:
        DataError: where neither is found; the message says how to obtain FLORES.
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
    """Read the texts of foreign languages that training and tuning leave alone."""
    corpus = open_corpus(directory, layout="keyed")
    texts: dict[str, list[str]] = defaultdict(list)
    for path, _ in corpus.files():
        code = out_of_set_code(path)
        if not is_for_tuning(code):
            texts[path.name.partition(".")[0]] += [text.text for text in corpus.read(path, code)]
    if not texts:
        raise DataError(f"no foreign text in {directory}")
    return dict(texts)


read_foreign = read_out_of_set  # deprecated name; will be removed in the next release


def evaluate(
    detector: Detector,
    text: Mapping[str, Sequence[str]],
    out_of_set: Mapping[str, Sequence[str]] | None = None,
    *,
    name: str = "text",
    cuts: Sequence[int | None] = CUTS,
    quiet: bool = False,
) -> Evaluation:
    """Ask the detector about every line and count.

    Args:
        detector: the detector.
        text: language -> lines.
        foreign: language outside the table -> lines.
        name: where the lines came from, for the report.
        cuts: lengths to ask about; the first is the one that labels are reported for.
        quiet: say nothing on stderr.
    """
    known = set(detector.labels)
    scores: list[CutScore] = []
    first: _Count | None = None
    with Progress("evaluating", unit="languages", total=len(text) * len(cuts), quiet=quiet) as bar:
        for words in cuts:
            count = _Count(known)
            for language, lines in text.items():
                count.add(language, *_answers(detector, first_words(lines, words)))
                bar.advance()
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
    """Return the lines cut to their first words."""
    return list(lines) if words is None else [" ".join(line.split()[:words]) for line in lines]


def _answers(detector: Detector, lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the answers, and those that would stand without thresholds."""
    found = detector.detect_batch(lines)
    best = [
        one.language
        if one.language != UNDETERMINED
        else (one.alternatives[0][0] if one.alternatives else UNDETERMINED)
        for one in found
    ]
    return [one.language for one in found], best


class _Count:
    """Counts answers by language."""

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
        """Return precision, recall, F1 and false positive rate by language."""
        got: Counter[str] = Counter()
        for language in languages_:
            got.update(answers[language])
        total = sum(sum(answers[language].values()) for language in languages_)
        result = {}
        for language in languages_:
            lines = sum(answers[language].values())
            right = answers[language][language]
            result[language] = (
                right / max(1, got[language]),
                right / max(1, lines),
                2 * right / max(1, got[language] + lines),
                (got[language] - right) / max(1, total - lines),
            )
        return result

    def cut(self, words: int | None) -> CutScore:
        covered, every = self.covered, list(self.answers)
        own = self.scores(self.answers, covered)
        argmax = self.scores(self.argmax, covered)
        all_lines = self.scores(self.answers, every)
        lines = sum(sum(self.answers[language].values()) for language in covered)
        refused = sum(self.answers[language][UNDETERMINED] for language in covered)
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
            determined=1 - refused / max(1, lines),
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

    def confusions(self, most: int) -> list[tuple[str, str, int]]:
        pairs: Counter[tuple[str, str]] = Counter()
        for language, answers in self.answers.items():
            for answer, count in answers.items():
                if answer != language:
                    pairs[language, answer] = count
        return [(language, answer, count) for (language, answer), count in pairs.most_common(most)]


def _merge_siblings(language: str, answers: Counter[str]) -> Counter[str]:
    """Return the answers with those of the same macro group counted as the language."""
    group = group_of_language().get(language)
    if group is None:
        return answers
    merged: Counter[str] = Counter()
    for answer, count in answers.items():
        merged[language if group_of_language().get(answer) == group else answer] += count
    return merged


def _out_of_set_score(detector: Detector, out_of_set: Mapping[str, Sequence[str]]) -> OutOfSetScore:
    accepted: dict[str, float] = {}
    taken: dict[str, str] = {}
    total = wrong = 0
    for language, lines in out_of_set.items():
        answers = Counter(one.language for one in detector.detect_batch(lines))
        undetermined = answers.pop(UNDETERMINED, 0)
        total += len(lines)
        wrong += len(lines) - undetermined
        accepted[language] = 1 - undetermined / max(1, len(lines))
        if answers:
            taken[language] = answers.most_common(1)[0][0]
    return OutOfSetScore(
        languages=len(out_of_set),
        lines=total,
        accepted=wrong / max(1, total),
        by_language=dict(sorted(accepted.items(), key=lambda item: -item[1])),
        taken_for=taken,
    )


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    by_key: dict[str, list[float]] = defaultdict(list)
    for key, value in pairs:
        by_key[key].append(value)
    return {key: _mean(values) for key, values in sorted(by_key.items())}


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0

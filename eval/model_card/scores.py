"""The part of a model card with the scores of the model and of other systems."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.flores.directions import GROUPS, language_name
from eval.flores.results import Evaluation, load_evaluation
from eval.flores.target_files import Row
from eval.metrics.registry import metric_title
from nllb.errors import ConfigError
from nllb.io.manifest import Manifest

SCORES_FILE = "scores.tsv"
PROBLEMS = ("empty", "copy_of_source", "repeated", "looping")
NUM_LARGEST = 10
"""Number of languages that the card lists, by the number of training pairs with English."""
MANY_PAIRS = 5000
"""Number of training pairs above which outputs should be in the right language."""
ENGLISH = "eng_Latn"
COPYING = "copying"
"""Name of the baseline that `covered` compares with."""
MIN_RIGHT_SHARE = 0.98
"""Required fraction of outputs in the target language, unless the references have less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTable:
    """The scored directions of a model, and the same directions of other systems."""

    scores: Evaluation
    """The model's."""
    beside: Mapping[str, Mapping[str, Row]]
    """Name of another system -> direction -> its row."""
    pairs: Mapping[str, int]
    """Direction -> training pairs."""

    @classmethod
    def read(cls, scores: Path, beside: Sequence[str], manifest: Manifest) -> "ScoreTable":
        """Read evaluations on the same test set.

        Args:
            scores: OUT of `nllb eval flores` of the model.
            beside: other evaluations, each as NAME=DIR.
            manifest: the training data, for the pairs of each direction.

        Raises:
            ConfigError: if `beside` has another form, or an evaluation is of other sentences.
        """
        own = load_evaluation(scores)
        others = {}
        for given in beside:
            name, equals, directory = given.partition("=")
            if not equals:
                raise ConfigError(f"--beside {given!r} is not of the form NAME=DIR")
            other = load_evaluation(Path(directory))
            if (other.benchmark, other.num_sentences) != (own.benchmark, own.num_sentences):
                raise ConfigError(
                    f"{directory} is of {other.num_sentences:,} sentences of {other.benchmark}, "
                    f"and {scores} of {own.num_sentences:,} of {own.benchmark}: only the same "
                    f"lines can be compared"
                )
            others[name] = {str(row.direction): row for row in other.rows}
        pairs = {direction.name: direction.num_pairs for direction in manifest.directions}
        return cls(scores=own, beside=others, pairs=pairs)

    def settings(self) -> dict[str, Any]:
        """Return the settings that are needed to repeat the scores."""
        made_by = self.scores.provenance
        return {
            "benchmark": self.scores.benchmark,
            "sentences": self.scores.num_sentences,
            "search": made_by.get("search", ""),
            "signatures": {name: dict(value) for name, value in self.scores.signatures.items()},
            "made_by": {
                name: made_by[name]
                for name in ("nllb", "python", "sacrebleu", "git", "created")
                if name in made_by
            },
        }

    def covered(self, min_gain: float) -> list[str]:
        """Return the languages whose directions with English all pass, and English itself.

        A direction passes if its chrF++ is at least `min_gain` above copying, and its outputs are
        in the right language.
        """
        passed: dict[str, bool] = {}
        for row in self.scores.rows:
            codes = [row.direction.source, row.direction.target]
            if ENGLISH in codes:
                codes.remove(ENGLISH)
                passed[codes[0]] = passed.get(codes[0], True) and self._passes(row, min_gain)
        return sorted([ENGLISH, *(code for code, has_passed in passed.items() if has_passed)])

    def _passes(self, row: Row, min_gain: float) -> bool:
        copied = self.beside[COPYING].get(str(row.direction))
        if copied is None or "chrf++" not in row.scores:
            return False
        gain = row.scores["chrf++"].score - copied.scores["chrf++"].score
        share = row.language.share if row.language else None
        needed = min(MIN_RIGHT_SHARE, row.reference_share or 1.0)
        return gain >= min_gain and (share is None or share >= needed)

    def lines(self) -> Iterator[str]:
        """Yield the lines of scores.tsv."""
        metrics = self.scores.metrics
        head = ["source", "target", "pairs", *metrics]
        head += [f"{name}.{metric}" for name in self.beside for metric in metrics]
        search = self.scores.provenance.get("search", "")
        yield (
            f"# SOURCE: nllb eval flores; {self.scores.benchmark}, {self.scores.num_sentences} "
            f"sentences; {search}"
        )
        yield "\t".join([*head, *PROBLEMS, "judged", "in_target"])
        for row in self.scores.rows:
            name = str(row.direction)
            cells = [row.direction.source, row.direction.target, str(self.pairs.get(name, 0))]
            cells += [_number(row, metric, 4) for metric in metrics]
            for others in self.beside.values():
                cells += [_number(others.get(name), metric, 4) for metric in metrics]
            problems: dict[str, int] = {each.code: each.count for each in row.findings}
            cells += [str(problems.get(code, 0)) for code in PROBLEMS]
            language = row.language
            cells += ["", ""] if language is None else [str(language.judged), str(language.right)]
            yield "\t".join(cells)

    def markdown(self) -> Iterator[str]:
        """Yield the Markdown of the section."""
        scores = self.scores
        yield from ("", "## Scores", "")
        search = scores.provenance.get("search")
        yield (
            f"{scores.benchmark}, {scores.num_sentences:,} sentences, {len(scores.rows):,} "
            f"directions{', ' + search if search else ''}; all of them are in [scores.tsv]"
            f"({SCORES_FILE}). Levels are those of the weaker language. "
            + " ".join(
                f"{metric_title(name)}: `{value['*']}`."
                for name, value in scores.signatures.items()
                if "*" in value
            )
        )
        yield from self._groups()
        yield from self._largest()
        yield from self._outputs()

    def _groups(self) -> Iterator[str]:
        columns = [metric_title(metric) for metric in self.scores.metrics]
        columns += [f"chrF++ {name}" for name in self.beside]
        yield from ("", f"| group | directions | {' | '.join(columns)} |")
        yield "|---" * (2 + len(columns)) + "|"
        for group in GROUPS:
            rows = [row for row in self.scores.rows if row.direction.cell in group.cells]
            if rows:
                means = [_mean(rows, metric) for metric in self.scores.metrics]
                means += [_mean(self._same(name, rows), "chrf++") for name in self.beside]
                yield f"| {group.name} | {len(rows):,} | {' | '.join(means)} |"
        untrained = [row for row in self.scores.rows if not self.pairs.get(str(row.direction))]
        if untrained:
            means = [_mean(untrained, metric) for metric in self.scores.metrics]
            means += [_mean(self._same(name, untrained), "chrf++") for name in self.beside]
            yield f"| never trained on | {len(untrained):,} | {' | '.join(means)} |"

    def _same(self, name: str, rows: Sequence[Row]) -> list[Row | None]:
        return [self.beside[name].get(str(row.direction)) for row in rows]

    def _largest(self) -> Iterator[str]:
        """Yield the languages with the most training pairs with English, in both directions."""
        rows = {str(row.direction): row for row in self.scores.rows}
        counts = {
            name.removeprefix(f"{ENGLISH}-"): count
            for name, count in self.pairs.items()
            if name.startswith(f"{ENGLISH}-")
        }
        largest = sorted(counts, key=lambda code: (-counts[code], code))[:NUM_LARGEST]
        columns = ["chrF++", *self.beside]
        yield from ("", f"The {len(largest)} languages with the most pairs with English:", "")
        heads = [
            f"{column} {way}" for way in ("from English", "into English") for column in columns
        ]
        yield f"| language | pairs | {' | '.join(heads)} |"
        yield "|---" * (2 + len(heads)) + "|"
        for code in largest:
            cells = []
            for name in (f"{ENGLISH}-{code}", f"{code}-{ENGLISH}"):
                cells.append(_number(rows.get(name), "chrf++", 1))
                cells += [_number(other.get(name), "chrf++", 1) for other in self.beside.values()]
            yield f"| {language_name(code)} | {counts[code]:,} | {' | '.join(cells)} |"

    def _outputs(self) -> Iterator[str]:
        rows = self.scores.rows
        lines = len(rows) * self.scores.num_sentences
        problems = {
            code: sum(f.count for row in rows for f in row.findings if f.code == code)
            for code in PROBLEMS
        }
        yield ""
        yield (
            f"Of {lines:,} output lines {problems['empty']:,} are empty, "
            f"{problems['copy_of_source']:,} equal the source, {problems['repeated']:,} equal "
            f"another line and {problems['looping']:,} repeat themselves."
        )
        many = [row for row in rows if self.pairs.get(str(row.direction), 0) > MANY_PAIRS]
        for what, chosen in ((f"with over {MANY_PAIRS:,} training pairs", many), ("in all", rows)):
            judged = sum(row.language.judged for row in chosen if row.language)
            right = sum(row.language.right for row in chosen if row.language)
            if judged:
                yield (
                    f"In the {len(chosen):,} directions {what}, {100 * right / judged:.1f} % of "
                    f"{judged:,} lines are in the target language according to the language "
                    f"identifier."
                )


def _number(row: Row | None, metric: str, digits: int) -> str:
    score = row.scores.get(metric) if row is not None else None
    return "" if score is None else f"{score.score:.{digits}f}"


def _mean(rows: Sequence[Row | None], metric: str) -> str:
    """Return the mean; None if a direction has no score, because such means cannot be compared."""
    found = [row.scores[metric].score for row in rows if row is not None and metric in row.scores]
    return f"{sum(found) / len(found):.1f}" if found and len(found) == len(rows) else ""

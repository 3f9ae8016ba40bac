"""The report of a fine-tuning run: chrF++ before and after, and problems of the result."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

MAX_OLD_LOSS: Final = 1.0
"""Mean loss of the old directions, in chrF++, above which the report warns of forgetting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectionReport:
    """chrF++ of one direction on held-out pairs.

    Attributes:
        name: the direction as `SOURCE-TARGET`.
        role: `new`, or `old` for the directions of replay files.
        before: score of the original model; None if it was not measured.
        after: score of the fine-tuned model.
        copying: score of copying the source.
    """

    name: str
    role: Literal["new", "old"]
    before: float | None
    after: float
    copying: float | None = None

    @property
    def gain(self) -> float:
        """Difference between after and before; 0 if unknown."""
        return 0.0 if self.before is None else self.after - self.before


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneReport:
    """The result of a fine-tuning run.

    Attributes:
        model: path of the fine-tuned model.
        steps: optimizer steps.
        interpolation: fraction of the weight change that was kept.
        added_languages: languages that were added to the model.
        added_characters: characters that were added to the vocabulary.
        directions: the scores.
        problems: problems of the result, each with advice; empty if there are none.
    """

    model: str
    steps: int
    interpolation: float
    added_languages: tuple[str, ...]
    added_characters: tuple[str, ...]
    directions: tuple[DirectionReport, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the report as it is written to `report.json`."""
        document = asdict(self)
        document["directions"] = {
            direction.name: {
                "role": direction.role,
                "before": direction.before,
                "after": direction.after,
                "copying": direction.copying,
            }
            for direction in self.directions
        }
        return document


def find_problems(
    directions: Sequence[DirectionReport], *, learning_rate: float, has_replay: bool
) -> Iterator[str]:
    """Yield the problems of a result, with advice.

    Args:
        directions: scores before and after.
        learning_rate: peak learning rate of the run.
        has_replay: whether old directions were also trained on.
    """
    lower = f"lower optimizer.learning_rate (now {learning_rate:g})"
    measured = [direction for direction in directions if direction.before is not None]
    new = [direction for direction in measured if direction.role == "new"]
    old = [direction for direction in measured if direction.role == "old"]
    if measured and all(direction.gain < 0 for direction in measured):
        yield (
            f"the model became worse in every direction: {lower}, train for fewer steps, and check "
            f"that the two columns of the text are translations of each other; keep using the "
            f"original model until then"
        )
    elif new and all(direction.gain < 0 for direction in new):
        yield (
            f"the model became worse in every new direction: {lower}, and check that the two "
            f"columns of the text are translations of each other"
        )
    elif new and (gain := sum(direction.gain for direction in new) / len(new)) <= 0:
        yield (
            f"the new directions did not improve on average ({gain:+.1f} chrF++): add more text, "
            f"or try another learning rate (now {learning_rate:g}) and more steps"
        )
    useless = [
        f"{direction.name} ({direction.after:.1f}; copying {direction.copying:.1f})"
        for direction in new
        if direction.copying is not None and direction.after <= direction.copying
    ]
    if useless:
        yield (
            f"no better than copying the source: {', '.join(useless)}; train for more steps, or "
            f"add more text (`nllb backtranslate` makes bitext from monolingual text)"
        )
    loss = -sum(direction.gain for direction in old) / len(old) if old else 0.0
    if loss > MAX_OLD_LOSS:
        advice = "raise replay_share" if has_replay else "add old bitext with --replay"
        yield (
            f"old directions lost {loss:.1f} chrF++ on average: {lower}, {advice}, or train for "
            f"fewer steps"
        )

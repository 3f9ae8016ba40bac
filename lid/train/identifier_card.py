"""The model card: what a model was trained on, how well it does, when it says `und`."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from nllb.errors import CheckpointError, NllbError
from nllb.io.atomic import atomic_text
from nllb.io.paths import path_inside
from nllb.io.text import read_json, write_json

CARD_NAME: Final = "card.json"
CARD_FORMAT: Final = 1
MAX_CARD_BYTES: Final = 16 << 20
"""Longest card that is read."""
_MAX_NUMBER: Final = 1e6
DEFAULT_THRESHOLD: Final = 0.5
"""Below it the answer is `und`, for labels and models that were not calibrated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What stands in `card.json` beside a model."""

    name: str
    """Name of the model."""
    format: int = CARD_FORMAT
    """Version of the card's form."""
    normalised: bool = False
    """Whether text is put in the form of `normalize_for_detection` first."""
    licence: str = "not stated"
    """Licence of the model file."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Label -> certainty below which the answer is `und`."""
    grams: dict[str, float] = field(default_factory=dict)
    """Label -> share of the grams of its own text that is among its most frequent ones."""
    acceptance: list[float] = field(default_factory=list)
    """Weights of the regression that makes a certainty of the evidence."""
    limits: list[float] = field(default_factory=list)
    """Score of that regression that means a certainty of one half, by length of the text."""
    labels: int = 0
    """Number of labels of the table."""
    missing: list[str] = field(default_factory=list)
    """Languages of the table that the model has no label for: they had no training text."""
    foreign: list[str] = field(default_factory=list)
    """Languages outside the table that were trained to be told apart, reported as `und`."""
    sources: dict[str, str] = field(default_factory=dict)
    """Corpus -> its licence."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Label -> corpus -> lines after cleaning."""
    sampled: dict[str, int] = field(default_factory=dict)
    """Label -> lines that fastText saw per epoch, extracts and joined lines among them."""
    dropped: dict[str, int] = field(default_factory=dict)
    """`corpus: reason` -> lines left out."""
    overlap: dict[str, int] = field(default_factory=dict)
    """Corpus -> lines left out because an evaluation set holds them."""
    overlap_left: int = 0
    """Training lines that stand in an evaluation set by normalised hash; a model is never written
    with more than 0."""
    held_out: dict[str, float] = field(default_factory=dict)
    """Figures on the held-out lines of the training corpora."""
    left_out: dict[str, float] = field(default_factory=dict)
    """Figures on corpora and foreign languages that the model was not trained on."""
    confusions: list[tuple[str, str, int]] = field(default_factory=list)
    """(label, answer, count) on the held-out lines, most frequent first."""
    experts: dict[str, list[str]] = field(default_factory=dict)
    """Macro group with a second stage -> corpora that its members share and it was trained on."""
    files: dict[str, str] = field(default_factory=dict)
    """File -> SHA-256."""
    config: str = ""
    """The resolved configuration, as YAML."""
    notes: list[str] = field(default_factory=list)
    """Anything else a user should know."""

    def threshold(self, label: str) -> float:
        """Return the label's threshold."""
        return self.thresholds.get(label, DEFAULT_THRESHOLD)


def read_card(directory: Path) -> ModelCard:
    """Read the card of a model folder.

    Raises:
        CheckpointError: naming the file where it is missing, damaged or of a newer form.
    """
    path = directory / CARD_NAME
    try:
        document: Any = read_json(path_inside(directory, CARD_NAME), max_bytes=MAX_CARD_BYTES)
    except NllbError as error:
        raise CheckpointError(f"cannot read the model card: {error}") from error
    if not isinstance(document, dict) or "name" not in document:
        raise CheckpointError(f"{path}: no model card; train the model anew with 'nllb lid train'")
    if document.get("format") != CARD_FORMAT:
        raise CheckpointError(
            f"{path}: card of form {repr(document.get('format'))[:40]}, where this version reads "
            f"{CARD_FORMAT}; update nllb"
        )
    known = {item.name: item for item in dataclasses.fields(ModelCard)}
    values = {name: value for name, value in document.items() if name in known}
    for name, value in values.items():
        if not _fits(value, known[name].type):
            raise CheckpointError(
                f"{path} is damaged: {name} is {repr(value)[:40]}, not a {known[name].type}; train "
                "the model anew with 'nllb lid train'"
            )
    for name in ("thresholds", "grams", "acceptance", "limits"):
        numbers = values.get(name, ())
        listed = numbers.values() if isinstance(numbers, dict) else numbers
        if not all(abs(number) <= _MAX_NUMBER for number in listed):
            raise CheckpointError(
                f"{path} is damaged: {name} has a number that is not finite, or far too large"
            )
    return ModelCard(**values)


def _fits(value: Any, kind: Any) -> bool:
    """Say whether a value of JSON is what a field of the card holds."""
    if kind is float:
        return type(value) in (int, float)
    if get_origin(kind) is dict:
        item = get_args(kind)[1]
        return isinstance(value, dict) and all(_fits(part, item) for part in value.values())
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        return isinstance(value, list) and all(_fits(part, item) for part in value)
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return (
            isinstance(value, list) and len(value) == len(kinds) and all(map(_fits, value, kinds))
        )
    return type(value) is kind


def write_card(card: ModelCard, directory: Path) -> None:
    """Write `card.json` and, for people, `CARD.md`."""
    write_json(directory / CARD_NAME, dataclasses.asdict(card))
    with atomic_text(directory / "CARD.md") as stream:
        stream.write("\n".join(_markdown(card)) + "\n")


def _markdown(card: ModelCard) -> list[str]:
    lines = [
        f"# {card.name}",
        "",
        f"Language identifier, {card.labels} languages. Licence of the model file: {card.licence}.",
        *(f"\n{note}" for note in card.notes),
        "",
        f"Without a label, for lack of text: {', '.join(card.missing) or 'none'}.",
        f"Foreign languages told apart as `und`: {len(card.foreign)}.",
        f"Training lines that stand in an evaluation set: {card.overlap_left} "
        f"({sum(card.overlap.values()):,} were taken out before training).",
        "",
        "| corpus | licence | lines |",
        "|---|---|---|",
    ]
    for corpus, licence in card.sources.items():
        count = sum(domains.get(corpus, 0) for domains in card.counts.values())
        lines.append(f"| {corpus} | {licence} | {count:,} |")
    lines += ["", "On held-out lines of the training corpora (optimistic: the same domains):", ""]
    lines += [f"- {name}: {value:.4f}" for name, value in card.held_out.items()]
    lines += [
        "",
        "On corpora and foreign languages that it was not trained on, but calibrated with:",
        "",
    ]
    lines += [f"- {name}: {value:.4f}" for name, value in card.left_out.items()]
    lines += [
        "",
        "Second stage: "
        + ("; ".join(f"{g} ({', '.join(d)})" for g, d in card.experts.items()) or "none"),
    ]
    lines += ["", "Most frequent confusions there:", ""]
    lines += [
        f"- {label} taken for {answer}: {count}" for label, answer, count in card.confusions[:20]
    ]
    lines += ["", "| label | threshold | lines by corpus |", "|---|---|---|"]
    for label, domains in card.counts.items():
        shown = ", ".join(f"{domain} {count:,}" for domain, count in domains.items())
        lines.append(f"| {label} | {card.threshold(label):.2f} | {shown} |")
    lines += ["", *(f"- {name}: sha256 {digest}" for name, digest in card.files.items())]
    return lines

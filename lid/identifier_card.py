"""The model card: training data, metrics and thresholds of a language identifier."""

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
"""Maximum size of a card that is read."""
_MAX_NUMBER: Final = 1e6
"""Maximum absolute value of the numbers that are used for decisions."""
DEFAULT_THRESHOLD: Final = 0.5
"""Threshold of labels and models that were not calibrated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """The contents of `card.json` in a model folder.

    The field names are the keys of the file. `grams` (n-grams), `foreign` (out-of-set), `left_out`
    (held-out sources) and `experts` (group classifiers) keep older terms, so that existing cards
    remain readable.
    """

    name: str
    """Name of the model."""
    format: int = CARD_FORMAT
    """Version of the card format."""
    normalised: bool = False
    """Whether the model expects text normalised by `normalize_for_detection`."""
    licence: str = "not stated"
    """Licence of the model file."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Label -> acceptance score below which the answer is `und`."""
    grams: dict[str, float] = field(default_factory=dict)
    """Label -> share of known n-grams that is expected in text of the label."""
    acceptance: list[float] = field(default_factory=list)
    """Weights of the regression that computes the acceptance score."""
    limits: list[float] = field(default_factory=list)
    """Regression score per length bin that maps to an acceptance score of 0.5."""
    labels: int = 0
    """Number of labels in the language table; out-of-set labels are not counted."""
    missing: list[str] = field(default_factory=list)
    """Languages of the table without a label, because they have no training text."""
    foreign: list[str] = field(default_factory=list)
    """Out-of-set languages in the training text; the answer for them is `und`."""
    sources: dict[str, str] = field(default_factory=dict)
    """Corpus -> licence of the corpus."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Label -> corpus -> number of lines after cleaning."""
    sampled: dict[str, int] = field(default_factory=dict)
    """Label -> number of sampled lines per epoch, including extracts and joined lines."""
    dropped: dict[str, int] = field(default_factory=dict)
    """`corpus: reason` -> number of dropped lines."""
    overlap: dict[str, int] = field(default_factory=dict)
    """Corpus -> number of lines dropped because they are in an evaluation set."""
    overlap_left: int = 0
    """Number of training lines that are in an evaluation set, by normalised hash. Training stops
    without writing a model unless it is 0."""
    held_out: dict[str, float] = field(default_factory=dict)
    """Metrics on the held-out lines of the training corpora."""
    left_out: dict[str, float] = field(default_factory=dict)
    """Metrics on held-out corpora and out-of-set languages."""
    confusions: list[tuple[str, str, int]] = field(default_factory=list)
    """(label, answer, count) on the held-out lines, most frequent first."""
    experts: dict[str, list[str]] = field(default_factory=dict)
    """Macro group with a group classifier -> the shared corpora that it was trained on."""
    files: dict[str, str] = field(default_factory=dict)
    """File -> SHA-256 digest."""
    config: str = ""
    """The resolved configuration, as YAML."""
    notes: list[str] = field(default_factory=list)
    """Further notes for users."""

    def threshold(self, label: str) -> float:
        """Return the threshold of a label."""
        return self.thresholds.get(label, DEFAULT_THRESHOLD)


def read_card(directory: Path) -> ModelCard:
    """Read the card of a model folder.

    Raises:
        CheckpointError: The card is missing, damaged or in a newer format.
    """
    path = directory / CARD_NAME
    try:
        document: Any = read_json(path_inside(directory, CARD_NAME), max_bytes=MAX_CARD_BYTES)
    except NllbError as error:
        raise CheckpointError(f"cannot read the model card: {error}") from error
    if not isinstance(document, dict) or "name" not in document:
        raise CheckpointError(
            f"{path} is not a model card; retrain the model with 'nllb lid train'"
        )
    if document.get("format") != CARD_FORMAT:
        raise CheckpointError(
            f"{path} has the card format {repr(document.get('format'))[:40]}, but this version "
            f"supports only {CARD_FORMAT}; update nllb"
        )
    known = {item.name: item for item in dataclasses.fields(ModelCard)}
    values = {name: value for name, value in document.items() if name in known}
    for name, value in values.items():
        if not _fits(value, known[name].type):
            raise CheckpointError(
                f"{path} is damaged: {name} is {repr(value)[:40]}, not a {known[name].type}; "
                "retrain the model with 'nllb lid train'"
            )
    for name in ("thresholds", "grams", "acceptance", "limits"):
        numbers = values.get(name, ())
        listed = numbers.values() if isinstance(numbers, dict) else numbers
        if not all(abs(number) <= _MAX_NUMBER for number in listed):
            raise CheckpointError(
                f"{path} is damaged: {name} contains a number that is not finite or is too large"
            )
    return ModelCard(**values)


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a JSON value has the type of a field."""
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
    """Write `card.json` and the human-readable `CARD.md`."""
    write_json(directory / CARD_NAME, dataclasses.asdict(card))
    with atomic_text(directory / "CARD.md") as stream:
        stream.write("\n".join(_markdown(card)) + "\n")


def _markdown(card: ModelCard) -> list[str]:
    lines = [
        f"# {card.name}",
        "",
        f"A language identifier for {card.labels} languages. Model licence: {card.licence}.",
        *(f"\n{note}" for note in card.notes),
        "",
        f"Languages without a label (no training text): {', '.join(card.missing) or 'none'}.",
        f"Out-of-set languages in the training text (answered with `und`): {len(card.foreign)}.",
        f"Training lines that are in an evaluation set: {card.overlap_left} "
        f"({sum(card.overlap.values()):,} were removed before training).",
        "",
        "| corpus | licence | lines |",
        "|---|---|---|",
    ]
    known = {domain for domains in card.counts.values() for domain in domains}
    for corpus, licence in card.sources.items():
        count = sum(domains.get(corpus, 0) for domains in card.counts.values())
        lines.append(
            f"| {corpus} | {licence} | {count:,} |"
            if corpus in known
            else f"| {corpus} | {licence} | counted by domain below |"
        )
    lines += [
        "",
        "These metrics were measured on held-out lines of the training corpora. They are "
        "optimistic, because the text is of the same kind as the training text:",
        "",
        *(f"- {name}: {value:.4f}" for name, value in card.held_out.items()),
        "",
        "These metrics were measured on held-out corpora and out-of-set languages, which were used "
        "for calibration but not for training:",
        "",
        *(f"- {name}: {value:.4f}" for name, value in card.left_out.items()),
        "",
        "| group classifier | training corpora |",
        "|---|---|",
        *(f"| {group} | {', '.join(corpora)} |" for group, corpora in card.experts.items()),
        "",
        "Most frequent confusions on the held-out lines of the training corpora:",
        "",
        *(f"- {label} labelled as {answer}: {n}" for label, answer, n in card.confusions[:20]),
        "",
        "| label | threshold | training lines by corpus or domain |",
        "|---|---|---|",
    ]
    for label, domains in card.counts.items():
        shown = ", ".join(f"{domain} {count:,}" for domain, count in domains.items())
        lines.append(f"| {label} | {card.threshold(label):.2f} | {shown} |")
    lines += ["", "SHA-256 of the files:", ""]
    lines += [f"- {name}: {digest}" for name, digest in card.files.items()]
    return lines

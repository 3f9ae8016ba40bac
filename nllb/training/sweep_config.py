"""The configuration of a sweep of short training runs; this module does not import torch."""

from collections.abc import Iterator
from typing import Literal

from nllb.config.schema import (
    FractionBelowOne,
    PositiveFloat,
    PositiveInt,
    RunConfig,
    Section,
    Text,
    repeated,
)
from nllb.io.paths import is_plain_name


class SweepVariant(Section):
    """One run of a sweep."""

    name: Text
    """Name of its folder and of its row in the table."""
    overrides: tuple[Text, ...] = ()
    """Overrides of the training configuration for this variant, as `key=value`."""
    processes: PositiveInt = 1
    """Number of processes that train together."""
    threads: PositiveInt | None = None
    """Threads of each process; null leaves the choice to torch."""


class SweepConfig(RunConfig):
    """Training runs of the same duration, to compare settings."""

    kind: Literal["sweep"] = "sweep"
    """The kind of run."""
    train: Text
    """Training configuration: a path or a shipped name."""
    overrides: tuple[Text, ...] = ()
    """Overrides for all variants, as `key=value`."""
    minutes: PositiveFloat = 6.0
    """Training time of each variant, measured on this machine. The number of steps follows from the
    speed of the first steps."""
    calibration_steps: PositiveInt = 20
    """Number of steps for measuring the speed."""
    cool_down_share: FractionBelowOne = 0.35
    """Share of the steps at the end over which the learning rate falls to zero."""
    variants: tuple[SweepVariant, ...]
    """The runs."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield names that cannot be folders, and names that are given twice."""
        names = [variant.name for variant in self.variants]
        for name in names:
            if not is_plain_name(name):
                yield f"variants: {name!r} becomes a folder: use letters, digits, '.', '_' and '-'"
        for name in repeated(names):
            yield f"variants: the name {name!r} is given twice"
        reserved = ("schedule.steps=", "optimizer.cool_down_steps=")
        for text in (
            *self.overrides,
            *(text for variant in self.variants for text in variant.overrides),
        ):
            if text.startswith(reserved):
                yield f"overrides: {text!r} follows from minutes and cool_down_share; remove it"

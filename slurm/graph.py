"""The graph of commands that a pipeline configuration describes."""

import shlex
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Literal

from pydantic import Field

from nllb.config.schema import NonNegativeInt, RunConfig, Section, Text, repeated
from nllb.config.templates import fill_template
from nllb.errors import ConfigError, did_you_mean


class Step(Section):
    """One command of the graph."""

    name: Text
    """Its name, which is part of the names of tasks and logs."""
    command: Text
    """The command line; `{out}` is the run's directory, `{name}` is a variable of the pipeline."""
    needs: tuple[Text, ...] = ()
    """Steps that must be completed first."""
    after_failure: bool = False
    """Start when the needed steps have ended, even if they failed: for a report or a clean-up."""
    shards: NonNegativeInt = 0
    """Run it as this many commands with `--shard I/N`; 0 runs it once as it is."""
    cluster: Text | None = None
    """Cluster configuration for this step on Slurm; null uses that of the whole run."""


class PipelineConfig(RunConfig):
    """A whole run, from raw corpora to a report, as a graph of commands."""

    kind: Literal["pipeline"]
    """The kind of configuration."""
    steps: tuple[Step, ...]
    """The commands, in any order."""
    variables: dict[str, Text] = Field(default_factory=dict)
    """Values for names in braces in the commands, such as a data folder; `variables.data=...` sets
    one."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield unknown needs and cycles."""
        names = [step.name for step in self.steps]
        for name in repeated(names):
            yield f"steps: two steps are named {name!r}"
        for step in self.steps:
            for need in step.needs:
                if need not in names:
                    hint = did_you_mean(need, names) or ", which is not a step"
                    yield f"steps: step {step.name} needs {need!r}{hint}"
        try:
            self.order()
        except CycleError as error:
            yield f"steps: these need each other in a cycle: {' -> '.join(error.args[1])}"

    def order(self) -> list[Step]:
        """Return the steps so that each comes after what it needs."""
        by_name = {step.name: step for step in self.steps}
        graph = {step.name: step.needs for step in self.steps}
        return [by_name[n] for n in TopologicalSorter(graph).static_order() if n in by_name]


def command_words(step: Step, pipeline: PipelineConfig, out_dir: Path) -> list[str]:
    """Return the words of a step's command with the variables of the pipeline filled in.

    Raises:
        ConfigError: the command names an unknown variable, or its quotes do not match.
    """
    values = pipeline.variables | {"out": str(out_dir)}
    try:
        return [fill_template(word, values) for word in shlex.split(step.command)]
    except (ConfigError, ValueError) as error:
        raise ConfigError(
            f"step {step.name}: {step.command!r} is not a command line: {error}"
        ) from None

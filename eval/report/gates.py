"""Conditions under which a report fails, for continuous integration, and their JUnit file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from eval.flores.directions import GROUPS
from eval.metrics.registry import LOWER_IS_BETTER, METRICS, metric_title
from nllb.errors import ConfigError, did_you_mean
from nllb.io.atomic import atomic_binary

from .sources import Sources

_DROP: Final = re.compile(r"(\S+) (\S+) drop > ([\d.]+)( and significant)?", re.I)
_FLOOR: Final = re.compile(r"(\S+) (\S+) < ([\d.]+)", re.I)
_COUNT: Final = re.compile(r"(missing|flags|faults) > (\d+)", re.I)
_ALIASES: Final = {"en-xx": "eng-xx", "xx-en": "xx-eng", "v_low": "very_low"}
FORMS: Final = (
    "'GROUP METRIC drop > N [and significant]', 'GROUP METRIC < N', 'missing > N', 'flags > N' "
    "(such as 'eng-xx.very_low chrf++ drop > 0.5 and significant')"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """Outcome of one condition."""

    condition: str
    """The condition as written."""
    failed: bool
    """Whether the condition is true, which fails the report."""
    message: str
    """The numbers that decided."""


def judge(conditions: Sequence[str], sources: Sources) -> list[Gate]:
    """Return the outcome of every condition.

    Raises:
        ConfigError: naming all conditions that are invalid or have no scores.
    """
    gates, errors = [], []
    for condition in conditions:
        try:
            gates.append(_judge(" ".join(condition.split()), sources))
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("; ".join(errors))
    return gates


def write_junit(path: Path, gates: Sequence[Gate]) -> None:
    """Write the outcomes as a JUnit file."""
    suite = ElementTree.Element(
        "testsuite",
        name="nllb eval report",
        tests=str(len(gates)),
        failures=str(sum(gate.failed for gate in gates)),
    )
    for gate in gates:
        case = ElementTree.SubElement(suite, "testcase", classname="eval", name=gate.condition)
        if gate.failed:
            ElementTree.SubElement(case, "failure", message=gate.message)
    ElementTree.indent(suite)
    with atomic_binary(path) as stream:
        ElementTree.ElementTree(suite).write(stream, encoding="utf-8", xml_declaration=True)


def _judge(condition: str, sources: Sources) -> Gate:
    if not sources.evaluations:
        raise ConfigError(f"{condition!r} requires scores: give an OUT of 'nllb eval flores'")
    latest = sources.latest
    if match := _COUNT.fullmatch(condition):
        what, most = match[1].lower(), int(match[2])
        if what == "missing":
            count = len(latest.missing) + len(latest.failed)
        else:
            count = sum(finding.count for row in latest.rows for finding in row.findings)
        return Gate(condition=condition, failed=count > most, message=f"{what}: {count:,}")
    if match := _DROP.fullmatch(condition):
        group, metric = _group(match[1]), _metric(match[2], sources)
        if sources.comparison is None:
            raise ConfigError(
                f"{condition!r} requires two systems: give the folder of the baseline first"
            )
        for part in sources.comparison.groups:
            if (part.part, part.metric) == (group, metric):
                # For metrics that count errors, an increase is a loss in quality.
                worse = part.delta if metric in LOWER_IS_BETTER else -part.delta
                end = -part.low if metric in LOWER_IS_BETTER else part.high
                certain = not match[4] or end < 0
                return Gate(
                    condition=condition,
                    failed=worse > float(match[3]) and certain,
                    message=f"{metric_title(metric)} {part.delta:+.2f} (95 % {part.low:+.2f} to "
                    f"{part.high:+.2f}) over {part.count:,} directions",
                )
        raise ConfigError(f"{condition!r}: no direction of {group} was compared")
    if match := _FLOOR.fullmatch(condition):
        group, metric = _group(match[1]), _metric(match[2], sources)
        for found in latest.groups:
            if (found.group, found.metric) == (group, metric):
                return Gate(
                    condition=condition,
                    failed=found.mean < float(match[3]),
                    message=f"{metric_title(metric)} {found.mean:.2f} over {found.count:,}",
                )
        raise ConfigError(f"{condition!r}: no direction of {group} was scored")
    raise ConfigError(f"cannot read the condition {condition!r}; valid: {FORMS}")


def _group(name: str) -> str:
    kind, _, level = name.lower().partition(".")
    wanted = ".".join(_ALIASES.get(part, part) for part in (kind, level) if part)
    names = [group.name for group in GROUPS]
    if wanted not in names:
        raise ConfigError(
            f"unknown group {name!r}{did_you_mean(wanted, names) or '.'} Valid: {', '.join(names)}"
        )
    return wanted


def _metric(name: str, sources: Sources) -> str:
    wanted = name.lower()
    have = sources.latest.metrics
    if wanted not in have:
        raise ConfigError(
            f"metric {name!r} was not computed{did_you_mean(wanted, METRICS) or '.'} This "
            f"evaluation has: {', '.join(have)}"
        )
    return wanted

"""The macro groups: varieties that are easily confused, and a second stage to tell them apart."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nllb.io.text import read_table
from nllb.languages import parse_language


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroGroup:
    """One row of `groups.tsv`."""

    name: str
    """Name that detections carry."""
    members: tuple[str, ...]
    """Codes of all its languages."""
    experts: tuple[str, ...]
    """Codes that a second stage decides between; empty for none."""
    weight: float
    """Part of the second stage in the decision, in [0, 1]."""


@cache
def macro_groups() -> tuple[MacroGroup, ...]:
    """Return the groups; no language is in two of them."""
    rows = read_table(Path(__file__).with_name("groups.tsv"))
    groups = tuple(
        MacroGroup(
            name=row["group"],
            members=tuple(row["members"].split()),
            experts=tuple(row["experts"].replace("-", "").split()),
            weight=float(row["weight"]),
        )
        for row in rows
    )
    members = [member for group in groups for member in group.members]
    assert len(members) == len(set(members)), "groups.tsv: a language is in two groups"
    assert all(parse_language(member).code == member for member in members), (
        "groups.tsv: unknown code"
    )
    assert all(set(group.experts) <= set(group.members) for group in groups), (
        "groups.tsv: expert of no member"
    )
    return groups


@cache
def group_of_language() -> dict[str, str]:
    """Return code -> name of its group."""
    return {member: group.name for group in macro_groups() for member in group.members}

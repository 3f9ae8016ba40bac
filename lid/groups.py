"""Macro groups: sets of closely related languages that a classifier easily confuses."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nllb.io.text import read_table
from nllb.languages import parse_language


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroGroup:
    """One row of `groups.tsv`."""

    name: str
    """Name of the group, as reported in `Detection.macro_group`."""
    members: tuple[str, ...]
    """Codes of all languages of the group."""
    classified_members: tuple[str, ...]
    """Codes that the group classifier distinguishes; empty if the group has no classifier."""
    weight: float
    """Weight of the group classifier in the decision, in [0, 1]."""


@cache
def macro_groups() -> tuple[MacroGroup, ...]:
    """Return the macro groups; a language belongs to at most one of them."""
    rows = read_table(Path(__file__).with_name("groups.tsv"))
    groups = tuple(
        MacroGroup(
            name=row["group"],
            members=tuple(row["members"].split()),
            classified_members=tuple(row["classified_members"].replace("-", "").split()),
            weight=float(row["weight"]),
        )
        for row in rows
    )
    members = [member for group in groups for member in group.members]
    assert len(members) == len(set(members)), "groups.tsv: a language is in more than one group"
    assert all(parse_language(member).code == member for member in members), (
        "groups.tsv: unknown language code"
    )
    assert all(set(group.classified_members) <= set(group.members) for group in groups), (
        "groups.tsv: a classified language is not a member of its group"
    )
    return groups


@cache
def group_of_language() -> dict[str, str]:
    """Return the mapping from language code to the name of its macro group."""
    return {member: group.name for group in macro_groups() for member in group.members}

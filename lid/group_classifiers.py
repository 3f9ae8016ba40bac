"""The second stage: a small classifier per macro group, on domains that all its members share.

Siblings whose text comes from different domains are told apart by topic, not by language: a model
that saw news in one and interface messages in the other calls all news the first. An expert sees
the same number of lines of the same domains from each member.
"""

import random
from pathlib import Path
from typing import Any, Final

from lid.groups import MacroGroup
from lid.train.collection import Lines
from lid.train.fasttext_training import quantise, train_supervised
from lid.train.lid_config import LidConfig
from lid.train.line_sampling import sample_label, write_training_file

MIN_SHARED_LINES = 50
_MAX_LINES = 3000
_REPEATS = 3
_SETTINGS: Final[dict[str, Any]] = {
    "dim": 16,
    "epochs": 6,
    "learning_rate": 0.5,
    "min_ngram": 1,
    "buckets": 200_000,
    "kept_ngrams": 8000,
    "columns_per_code": 2,
    "quantised_epochs": 2,
}


def shared_domains(lines: Lines, members: tuple[str, ...]) -> list[str]:
    """Return the domains that every member has at least `FEWEST_SHARED` lines of, sorted."""
    domains = {domain for member in members for domain in lines.get(member, {})}
    return sorted(
        domain
        for domain in domains
        if all(len(lines.get(member, {}).get(domain, ())) >= MIN_SHARED_LINES for member in members)
    )


def train_group_classifier(
    group: MacroGroup, lines: Lines, config: LidConfig, path: Path
) -> list[str]:
    """Train one group's second stage into `path` and return the domains it was trained on.

    Nothing is written where fewer than two members have text, or they share no domain.
    """
    members = tuple(member for member in group.classified_members if member in lines)
    domains = shared_domains(lines, members)
    if len(members) < 2 or not domains:
        return []
    rng = random.Random(f"{config.seed} {group.name}")
    sampled: dict[str, list[str]] = {member: [] for member in members}
    for domain in domains:
        sizes = [len(lines[member][domain]) for member in members]
        size = min(_MAX_LINES, min(sizes) * _REPEATS, max(sizes))
        for member in members:
            sampled[member] += sample_label(
                {domain: lines[member][domain]}, size, config.sampling, rng
            )
    text_path = path.with_suffix(".txt")
    write_training_file(sampled, text_path, rng)
    settings = config.fasttext.replace(**_SETTINGS)
    quantise(train_supervised(text_path, settings), text_path, path, settings)
    text_path.unlink()
    return domains

"""The second stage: a small classifier per macro group, on domains that all its members share.

Siblings whose text comes from different domains are told apart by topic, not by language: a model
that saw news in one and interface messages in the other calls all news the first. An expert sees
the same number of lines of the same domains from each member.
"""

import random
from pathlib import Path

from lid.collection import Lines
from lid.config import LidConfig
from lid.groups import MacroGroup
from lid.sampling import sample_label, write_training_file
from lid.training_run import quantise, train_supervised

FEWEST_SHARED = 50
_MOST_LINES = 3000
_REPEATS = 3
_EPOCHS = 8
_DIM = 16
_KEPT_NGRAMS = 8000


def shared_domains(lines: Lines, members: tuple[str, ...]) -> list[str]:
    """Return the domains that every member has at least `FEWEST_SHARED` lines of, sorted."""
    domains = {domain for member in members for domain in lines.get(member, {})}
    return sorted(
        domain
        for domain in domains
        if all(len(lines.get(member, {}).get(domain, ())) >= FEWEST_SHARED for member in members)
    )


def train_expert(group: MacroGroup, lines: Lines, config: LidConfig, path: Path) -> list[str]:
    """Train one group's second stage into `path` and return the domains it was trained on.

    Nothing is written where fewer than two members have text, or they share no domain.
    """
    members = tuple(member for member in group.experts if member in lines)
    domains = shared_domains(lines, members)
    if len(members) < 2 or not domains:
        return []
    chance = random.Random(f"{config.seed} {group.name}")
    sampled: dict[str, list[str]] = {member: [] for member in members}
    for domain in domains:
        sizes = [len(lines[member][domain]) for member in members]
        size = min(_MOST_LINES, min(sizes) * _REPEATS, max(sizes))
        for member in members:
            sampled[member] += sample_label(
                {domain: lines[member][domain]}, size, config.sampling, chance
            )
    text_path = path.with_suffix(".txt")
    write_training_file(sampled, text_path, chance)
    model = train_supervised(
        text_path,
        dim=_DIM,
        epochs=_EPOCHS,
        learning_rate=0.5,
        shortest_ngram=1,
        longest_ngram=5,
        min_count=1_000_000_000,
        buckets=200_000,
        threads=config.fasttext.threads,
    )
    quantise(model, text_path, path, kept_ngrams=_KEPT_NGRAMS, epochs=_EPOCHS)
    text_path.unlink()
    return domains

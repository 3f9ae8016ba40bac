"""Train the group classifiers: one small second-stage model per macro group.

If the text of closely related languages comes from different domains, a classifier learns topics
instead of languages: trained on news in one language and interface messages in the other, it labels
all news as the first. A group classifier is therefore trained on the domains that all members of
the group share, with the same number of lines per member and domain.
"""

import random
from pathlib import Path
from typing import Any, Final

from .groups import MacroGroup
from .train.collection import Lines
from .train.fasttext_training import quantise, train_supervised
from .train.lid_config import LidConfig
from .train.line_sampling import sample_label, write_training_file

MIN_SHARED_LINES = 50
_MAX_LINES = 3000
_MAX_REPEATS = 3
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
    """Return the sorted domains in which every member has at least `MIN_SHARED_LINES` lines."""
    domains = {domain for member in members for domain in lines.get(member, {})}
    return sorted(
        domain
        for domain in domains
        if all(len(lines.get(member, {}).get(domain, ())) >= MIN_SHARED_LINES for member in members)
    )


def train_group_classifier(
    group: MacroGroup, lines: Lines, config: LidConfig, path: Path
) -> list[str]:
    """Train the classifier of one group, write it to `path` and return its training domains.

    Nothing is written if fewer than two members have text or if the members share no domain.
    """
    members = tuple(member for member in group.classified_members if member in lines)
    domains = shared_domains(lines, members)
    if len(members) < 2 or not domains:
        return []
    rng = random.Random(f"{config.seed} {group.name}")
    sampled: dict[str, list[str]] = {member: [] for member in members}
    for domain in domains:
        sizes = [len(lines[member][domain]) for member in members]
        size = min(_MAX_LINES, min(sizes) * _MAX_REPEATS, max(sizes))
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

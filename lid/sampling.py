"""From uneven text to the lines fastText trains on: balanced labels and domains, many lengths."""

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import xxhash

from lid.collection import Lines
from lid.config import SamplingConfig
from lid.fasttext_model import LABEL_PREFIX
from nllb.textio import atomic_text

_WORDS_OF_LONG = 40
_WORDS_OF_EXTRACT = (2, 30)
_WORDS_OF_PART = (15, 35)
_SHORT = 45
_JOINED = 100
_SHORTEST_WORDS = 15


def split_held_out(lines: Lines, *, part: float, most: int) -> tuple[Lines, dict[str, list[str]]]:
    """Split each domain of each label by the lines' hashes: what is left, what is held out.

    Of a domain at least one line and at most a tenth is held out, of a label about `most` lines.
    """
    kept: Lines = {}
    held_out: dict[str, list[str]] = {}
    for label, domains in lines.items():
        for domain, texts in domains.items():
            room = min(most // len(domains), max(1, int(len(texts) * part)), len(texts) // 10)
            by_hash = sorted(texts, key=lambda text: xxhash.xxh3_64_intdigest(text.encode()))
            chosen = set(by_hash[:room])
            kept.setdefault(label, {})[domain] = [line for line in texts if line not in chosen]
            held_out.setdefault(label, []).extend(line for line in texts if line in chosen)
    return kept, held_out


def leave_out(
    lines: Lines, domains: Sequence[str], *, fewest: int, most: int
) -> tuple[Lines, dict[str, list[str]]]:
    """Split off whole domains, where the label keeps `fewest` lines of others.

    Returns:
        What is left, and up to `most` texts of a sentence's length per label and domain.
    """
    kept: Lines = {label: dict(by_domain) for label, by_domain in lines.items()}
    left_out: dict[str, list[str]] = {}
    for label, by_domain in kept.items():
        for domain in domains:
            rest = sum(len(texts) for name, texts in by_domain.items() if name != domain)
            if domain in by_domain and rest >= fewest:
                by_hash = sorted(
                    by_domain.pop(domain), key=lambda text: xxhash.xxh3_64_intdigest(text.encode())
                )
                left_out.setdefault(label, []).extend(joined(by_hash)[:most])
    return kept, left_out


def joined(lines: Sequence[str]) -> list[str]:
    """Return lines joined to the length of a sentence: interface messages count like prose."""
    texts: list[str] = []
    current = ""
    for line in lines:
        current = f"{current} {line}".strip()
        if len(current) >= _JOINED or current.count(" ") >= _SHORTEST_WORDS:
            texts.append(current)
            current = ""
    return texts if texts or not current else [current]


def label_sizes(counts: Mapping[str, int], config: SamplingConfig) -> dict[str, int]:
    """Return how many lines each label gets for how many it has."""
    return {
        label: max(
            1,
            int(
                min(
                    config.most_lines,
                    config.lines * (count / config.lines) ** config.exponent,
                    count * config.most_repeats,
                )
            ),
        )
        for label, count in counts.items()
    }


def sample_label(
    domains: Mapping[str, Sequence[str]], size: int, config: SamplingConfig, chance: random.Random
) -> list[str]:
    """Return about `size` lines of one label: balanced over domains, whole, joined or cut.

    Every line of a domain comes once before any comes twice; a repeat is always an extract.
    """
    weights = {
        domain: len(lines) ** config.domain_exponent for domain, lines in domains.items() if lines
    }
    total = sum(weights.values())
    sampled: list[str] = []
    for domain, weight in weights.items():
        lines = domains[domain]
        order: list[int] = []
        for number in range(round(size * weight / total)):
            if not order:
                order = chance.sample(range(len(lines)), len(lines))
            line = lines[order.pop()]
            sampled.append(_vary(line, lines, config, chance, repeat=number >= len(lines)))
    return sampled


def _vary(
    line: str, lines: Sequence[str], config: SamplingConfig, chance: random.Random, *, repeat: bool
) -> str:
    """Return a line as it is, joined with others, or cut."""
    words = line.split(" ")
    draw = chance.random()
    if len(line) < _SHORT and draw < config.join_rate:
        wanted = config.joined_length * chance.uniform(0.5, 1.2)
        while len(line) < wanted:
            line = f"{line} {chance.choice(lines)}"
        return line
    if repeat or draw < config.extract_rate:
        if len(words) > 6:
            return _run(words, _WORDS_OF_EXTRACT, chance)
        if len(words) <= 2 and len(line) > 30:  # a script without spaces
            length = chance.randint(8, len(line))
            start = chance.randrange(len(line) - length + 1)
            return line[start : start + length].strip()
        return line
    return _run(words, _WORDS_OF_PART, chance) if len(words) > _WORDS_OF_LONG else line


def _run(words: list[str], lengths: tuple[int, int], chance: random.Random) -> str:
    """Return some words in a row; a run of 3 to 6 is as likely as one of 6 to 12."""
    shortest, longest = lengths[0], min(len(words), lengths[1])
    length = round(math.exp(chance.uniform(math.log(shortest), math.log(longest))))
    start = chance.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length])


def write_training_file(
    sampled: Mapping[str, Sequence[str]], path: Path, chance: random.Random
) -> int:
    """Write shuffled `__label__CODE text` lines atomically; return how many."""
    lines = [
        f"{LABEL_PREFIX}{label} {line}\n" for label, texts in sampled.items() for line in texts
    ]
    chance.shuffle(lines)
    with atomic_text(path) as stream:
        stream.writelines(lines)
    return len(lines)

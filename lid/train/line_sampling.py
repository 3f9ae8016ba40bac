"""From uneven text to the lines fastText trains on: balanced labels and domains, many lengths."""

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import xxhash

from lid.fasttext_model import LABEL_PREFIX
from lid.train.collection import Lines
from lid.train.lid_config import SamplingConfig
from nllb.io.atomic import atomic_text

_LONG_LINE_WORDS = 40
_EXTRACT_WORDS = (2, 30)
_PART_WORDS = (15, 35)
_SHORT_CHARACTERS = 45
_JOINED_CHARACTERS = 100
_JOINED_WORDS = 15
_MIN_OTHER_LINES = 500
_MIN_KEYWORD_LETTERS = 4
_MIN_FREQUENCY_RATIO = 5


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


def hold_out_sources(
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
        if len(current) >= _JOINED_CHARACTERS or current.count(" ") >= _JOINED_WORDS:
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
                    config.max_lines,
                    config.lines * (count / config.lines) ** config.exponent,
                    count * config.max_repeats,
                )
            ),
        )
        for label, count in counts.items()
    }


def keywords(
    domains: Mapping[str, Sequence[str]], domain: str, most: float
) -> dict[str, float] | None:
    """Return the words that a domain of interface messages overdoes, each with its share of lines.

    An interface speaks of pages and users: a word that stands in more than `most` of its messages,
    and in far fewer lines of the label's other text, would decide alone whatever it means in other
    languages. Short words, which may be grammar, are left alone. None where the label's other text
    is too little to tell.
    """
    lines = domains[domain]
    others = [text for name, texts in domains.items() if name != domain for text in texts]
    if not lines or len(others) < _MIN_OTHER_LINES:
        return None
    inside, outside = (
        Counter(word for text in texts for word in set(text.split(" ")))
        for texts in (lines, others)
    )
    shares = {word: count / len(lines) for word, count in inside.items()}
    return {
        word: share
        for word, share in shares.items()
        if share > most
        and len(word) >= _MIN_KEYWORD_LETTERS
        and share > _MIN_FREQUENCY_RATIO * outside[word] / len(others)
    }


def without_keywords(lines: Lines, messages: Collection[str], most: float) -> Lines:
    """Return the same text, where the interface messages have lost their `keywords`."""
    result: Lines = {label: dict(domains) for label, domains in lines.items()}
    for label, domains in lines.items():
        for domain in domains.keys() & set(messages):
            if words := keywords(domains, domain, most):
                result[label][domain] = [
                    " ".join(word for word in text.split(" ") if word not in words)
                    for text in domains[domain]
                ]
    return result


def sample_label(
    domains: Mapping[str, Sequence[str]],
    size: int,
    config: SamplingConfig,
    rng: random.Random,
    messages: Collection[str] = (),
) -> list[str]:
    """Return about `size` lines of one label: balanced over domains, whole, joined or cut.

    Every line of a domain comes once before any comes twice; a repeat is always an extract.

    Args:
        domains: the label's lines.
        size: lines to draw.
        config: how.
        rng: the random number generator.
        messages: domains of interface messages; lines with `keywords` are drawn so much less that
            each word comes to `most_of_keyword` of them.
    """
    weights = {
        domain: len(lines) ** config.domain_exponent for domain, lines in domains.items() if lines
    }
    total = sum(weights.values())
    sampled: list[str] = []
    for domain, weight in weights.items():
        every = domains[domain]
        words = (
            keywords(domains, domain, config.max_keyword_fraction) if domain in messages else None
        )
        lines, order = every, list[int]()
        for number in range(round(size * weight / total)):
            if not order:
                if words is not None:
                    lines = _thin_keywords(every, words, config.max_keyword_fraction, rng)
                order = rng.sample(range(len(lines)), len(lines))
            line = lines[order.pop()]
            sampled.append(_vary(line, lines, config, rng, repeat=number >= len(every)))
    return sampled


def _thin_keywords(
    lines: Sequence[str], words: Mapping[str, float], most: float, rng: random.Random
) -> Sequence[str]:
    """Return the lines of one turn: those without the words, and some of those with them."""
    drawn = [
        line
        for line in lines
        if rng.random() < most / max([words.get(w, most) for w in line.split(" ")])
    ]
    return drawn or lines


def _vary(
    line: str, lines: Sequence[str], config: SamplingConfig, rng: random.Random, *, repeat: bool
) -> str:
    """Return a line as it is, joined with others, or cut."""
    words = line.split(" ")
    draw = rng.random()
    if len(line) < _SHORT_CHARACTERS and draw < config.join_rate:
        wanted = config.joined_length * rng.uniform(0.5, 1.2)
        while len(line) < wanted:
            line = f"{line} {rng.choice(lines)}"
        return line
    if repeat or draw < config.extract_rate:
        if len(words) > 6:
            return _run(words, _EXTRACT_WORDS, rng)
        if len(words) <= 2 and len(line) > 30:  # a script without spaces
            length = rng.randint(8, len(line))
            start = rng.randrange(len(line) - length + 1)
            return line[start : start + length].strip()
        return line
    return _run(words, _PART_WORDS, rng) if len(words) > _LONG_LINE_WORDS else line


def _run(words: list[str], lengths: tuple[int, int], rng: random.Random) -> str:
    """Return some words in a row; a run of 3 to 6 is as likely as one of 6 to 12."""
    shortest, longest = lengths[0], min(len(words), lengths[1])
    length = round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))
    start = rng.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length])


def write_training_file(
    sampled: Mapping[str, Sequence[str]], path: Path, rng: random.Random
) -> int:
    """Write shuffled `__label__CODE text` lines atomically; return how many."""
    lines = [
        f"{LABEL_PREFIX}{label} {line}\n" for label, texts in sampled.items() for line in texts
    ]
    rng.shuffle(lines)
    with atomic_text(path) as stream:
        stream.writelines(lines)
    return len(lines)

"""Sample the training lines of fastText: balanced over labels and domains, of varied length."""

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import xxhash

from lid.fasttext_model import LABEL_PREFIX
from nllb.io.atomic import atomic_text

from .collection import Lines
from .lid_config import SamplingConfig

_LONG_LINE_WORDS = 40
_EXTRACT_WORDS = (2, 30)
_PART_WORDS = (15, 35)
_SHORT_CHARACTERS = 45
_JOINED_CHARACTERS = 100
_JOINED_WORDS = 15
_MIN_OTHER_LINES = 500
_MIN_KEYWORD_LETTERS = 4
_MIN_FREQUENCY_RATIO = 5


def split_held_out(
    lines: Lines, *, fraction: float, max_lines: int
) -> tuple[Lines, dict[str, list[str]]]:
    """Split lines into training lines and held-out lines, per domain and label, by hash.

    From each domain at least one line and at most a tenth of the lines is held out, and from each
    label about `max_lines` lines.
    """
    kept: Lines = {}
    held_out: dict[str, list[str]] = {}
    for label, domains in lines.items():
        for domain, texts in domains.items():
            room = min(
                max_lines // len(domains), max(1, int(len(texts) * fraction)), len(texts) // 10
            )
            by_hash = sorted(texts, key=lambda text: xxhash.xxh3_64_intdigest(text.encode()))
            chosen = set(by_hash[:room])
            kept.setdefault(label, {})[domain] = [line for line in texts if line not in chosen]
            held_out.setdefault(label, []).extend(line for line in texts if line in chosen)
    return kept, held_out


def hold_out_sources(
    lines: Lines, domains: Sequence[str], *, min_training_lines: int, max_texts: int
) -> tuple[Lines, dict[str, list[str]]]:
    """Hold out whole domains of the labels that keep `min_training_lines` lines in other domains.

    Returns:
        The training lines, and up to `max_texts` held-out texts of sentence length per label and
        domain.
    """
    kept: Lines = {label: dict(by_domain) for label, by_domain in lines.items()}
    held_out: dict[str, list[str]] = {}
    for label, by_domain in kept.items():
        for domain in domains:
            rest = sum(len(texts) for name, texts in by_domain.items() if name != domain)
            if domain in by_domain and rest >= min_training_lines:
                by_hash = sorted(
                    by_domain.pop(domain), key=lambda text: xxhash.xxh3_64_intdigest(text.encode())
                )
                held_out.setdefault(label, []).extend(joined(by_hash)[:max_texts])
    return kept, held_out


def joined(lines: Sequence[str]) -> list[str]:
    """Join short lines to sentence length, so that interface messages are as long as prose."""
    texts: list[str] = []
    current = ""
    for line in lines:
        current = f"{current} {line}".strip()
        if len(current) >= _JOINED_CHARACTERS or current.count(" ") >= _JOINED_WORDS:
            texts.append(current)
            current = ""
    return texts if texts or not current else [current]


def label_sizes(counts: Mapping[str, int], config: SamplingConfig) -> dict[str, int]:
    """Return the number of lines to sample per label, given the number of its lines."""
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
    domains: Mapping[str, Sequence[str]], domain: str, max_fraction: float
) -> dict[str, float] | None:
    """Return the overrepresented words of a domain of interface messages, with their line shares.

    Interface messages repeat words such as "page" and "user". A word that occurs in more than
    `max_fraction` of the messages, but in far fewer lines of the label's other text, would dominate
    the classifier even though it may be a common word of another language. Short words are not
    returned because they may be function words. The result is None if the label has too little
    other text for a comparison.
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
        if share > max_fraction
        and len(word) >= _MIN_KEYWORD_LETTERS
        and share > _MIN_FREQUENCY_RATIO * outside[word] / len(others)
    }


def without_keywords(lines: Lines, messages: Collection[str], max_fraction: float) -> Lines:
    """Return the lines with the `keywords` removed from interface messages."""
    result: Lines = {label: dict(domains) for label, domains in lines.items()}
    for label, domains in lines.items():
        for domain in domains.keys() & set(messages):
            if words := keywords(domains, domain, max_fraction):
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
    """Sample about `size` lines of one label, balanced over domains; lines may be joined or cut.

    Every line of a domain is used once before any is used again; a repeated line is always an
    extract.

    Args:
        domains: Domain -> lines of the label.
        size: The number of lines to sample.
        config: The sampling options.
        rng: The random number generator.
        messages: The domains of interface messages. They have `message_weight` times the weight of
            other domains, and their lines with `keywords` are sampled less often, so that no
            keyword is in more than `max_keyword_fraction` of the lines.
    """
    has_other_text = any(lines and domain not in messages for domain, lines in domains.items())
    weights = {
        domain: len(lines) ** config.domain_exponent
        * (config.message_weight if has_other_text and domain in messages else 1)
        for domain, lines in domains.items()
        if lines
    }
    total = sum(weights.values())
    sampled: list[str] = []
    for domain, weight in weights.items():
        all_lines = domains[domain]
        words = (
            keywords(domains, domain, config.max_keyword_fraction) if domain in messages else None
        )
        lines, order = all_lines, list[int]()
        for number in range(round(size * weight / total)):
            if not order:
                if words is not None:
                    lines = _thin_keywords(all_lines, words, config.max_keyword_fraction, rng)
                order = rng.sample(range(len(lines)), len(lines))
            line = lines[order.pop()]
            sampled.append(_vary(line, lines, config, rng, repeat=number >= len(all_lines)))
    return sampled


def _thin_keywords(
    lines: Sequence[str], words: Mapping[str, float], max_fraction: float, rng: random.Random
) -> Sequence[str]:
    """Return the lines without the words and a random subset of the lines with them."""
    drawn = [
        line
        for line in lines
        if rng.random() < max_fraction / max([words.get(w, max_fraction) for w in line.split(" ")])
    ]
    return drawn or lines


def _vary(
    line: str, lines: Sequence[str], config: SamplingConfig, rng: random.Random, *, repeat: bool
) -> str:
    """Return the line unchanged, joined with others, or cut."""
    words = line.split(" ")
    draw = rng.random()
    if len(line) < _SHORT_CHARACTERS and draw < config.join_rate:
        wanted = config.joined_length * rng.uniform(0.5, 1.2)
        while len(line) < wanted:
            line = f"{line} {rng.choice(lines)}"
        return line
    if repeat or draw < config.extract_rate:
        if len(words) > 6:
            return _random_span(words, _EXTRACT_WORDS, rng)
        if len(words) <= 2 and len(line) > 30:  # a script without spaces
            length = rng.randint(8, len(line))
            start = rng.randrange(len(line) - length + 1)
            return line[start : start + length].strip()
        return line
    return _random_span(words, _PART_WORDS, rng) if len(words) > _LONG_LINE_WORDS else line


def _random_span(words: list[str], lengths: tuple[int, int], rng: random.Random) -> str:
    """Return a random span of words; its length is log-uniform within `lengths`."""
    shortest, longest = lengths[0], min(len(words), lengths[1])
    length = round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))
    start = rng.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length])


def write_training_file(
    sampled: Mapping[str, Sequence[str]], path: Path, rng: random.Random
) -> int:
    """Write shuffled `__label__CODE text` lines atomically and return their number."""
    lines = [
        f"{LABEL_PREFIX}{label} {line}\n" for label, texts in sampled.items() for line in texts
    ]
    rng.shuffle(lines)
    with atomic_text(path) as stream:
        stream.writelines(lines)
    return len(lines)

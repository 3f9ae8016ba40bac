"""An evaluation set that is removed from the training corpora before anything is trained on them.

From each language pair of one corpus with a pivot language, the pairs with the smallest hashes are
chosen, so that the choice depends on the text alone. They are written as line-aligned files, which
`nllb eval flores --flores` reads:

    OUT/held_out_set/fra_Latn/eng_Latn.txt      OUT/held_out_set/fra_Latn/fra_Latn.txt

Decontamination then removes their sentences from all corpora, on both sides. A pair's sentences
differ from those of every other pair of its folder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import polars
import xxhash

from data_pipeline.blocks import DecidedBlock, read_columns, reasons
from data_pipeline.data_config import EvaluationConfig, HeldOutSetConfig
from nllb.config.fingerprints import fingerprint
from nllb.errors import DataError
from nllb.io.atomic import atomic_text
from nllb.io.text import read_json, write_json

_SEED: Final = 7
DIRECTORY: Final = "held_out_set"
_RECORD: Final = ".record.json"
_SPARE: Final = 3
"""Candidates per requested pair, because some share a sentence with another candidate."""


def held_out_key(section: HeldOutSetConfig, decided: Sequence[DecidedBlock]) -> str:
    """Return a hash of everything that the set depends on."""
    return fingerprint(section, [item.key for item in _of_corpus(section, decided)])


def write_held_out_set(
    section: HeldOutSetConfig, decided: Sequence[DecidedBlock], out: Path
) -> EvaluationConfig:
    """Write the set unless it exists, and return it as a set for decontamination.

    Raises:
        DataError: if the corpus has no sufficiently long pair with the pivot.
    """
    path, key = out / DIRECTORY, held_out_key(section, decided)
    record = path / _RECORD
    if not record.is_file() or read_json(record).get("key") != key:
        counts, available = {}, {}
        for language, num_pairs, pairs in _choose(section, decided):
            for code, side in ((section.pivot.code, 0), (language, 1)):
                with atomic_text(path / language / f"{code}.txt") as stream:
                    stream.writelines(f"{pair[side]}\n" for pair in pairs)
            counts[language], available[language] = len(pairs), num_pairs
        if not counts:
            raise DataError(
                f"held_out_set: the corpus {section.corpus!r} has no pair with "
                f"{section.pivot.code} whose sentences have {section.min_words} words or more"
            )
        write_json(record, {"key": key, "pairs": counts, "available": available})
    return EvaluationConfig(
        name="held_out_set", path=str(path.resolve()), layout="text", min_words=8
    )


def _of_corpus(section: HeldOutSetConfig, decided: Sequence[DecidedBlock]) -> list[DecidedBlock]:
    pivot = section.pivot.code
    return [
        item
        for item in decided
        if item.block.corpus == section.corpus and pivot in (item.block.source, item.block.target)
    ]


def _choose(
    section: HeldOutSetConfig, decided: Sequence[DecidedBlock]
) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    """Yield each language, its eligible pairs, and the chosen ones in the order of their hashes."""
    by_language: dict[str, list[DecidedBlock]] = {}
    for item in _of_corpus(section, decided):
        is_source = item.block.source == section.pivot.code
        language = item.block.target if is_source else item.block.source
        by_language.setdefault(language, []).append(item)
    for language, items in sorted(by_language.items()):
        candidates: list[tuple[int, str, str]] = []
        num_pairs = 0
        for item in items:
            found = _hashed(section, item)
            num_pairs += len(found)
            candidates += found
            candidates = sorted(set(candidates))[: _SPARE * section.pairs]
        seen: set[str] = set()
        chosen: list[tuple[str, str]] = []
        for _, pivot, other in candidates:
            if len(chosen) < section.pairs and not {pivot, other} & seen:
                chosen.append((pivot, other))
                seen |= {pivot, other}
        if chosen:
            yield language, num_pairs, chosen


def _hashed(section: HeldOutSetConfig, item: DecidedBlock) -> list[tuple[int, str, str]]:
    """Return the eligible pairs of a block: hash, pivot sentence, other sentence."""
    columns = ["source", "target"]
    if item.block.target == section.pivot.code:
        columns.reverse()
    rows = read_columns(item.block.path, ["source", "target"])
    if item.decisions:
        rows = rows.filter(reasons(item.decisions).is_null())
    is_long = polars.col(columns[0]).str.count_matches(r"\S+") >= section.min_words
    pairs = rows.filter(is_long).select(columns).iter_rows()
    return [
        (xxhash.xxh3_64_intdigest(f"{pivot}\t{other}".encode(), seed=_SEED), pivot, other)
        for pivot, other in pairs
    ]

"""The checks of a complete study: assignment of items to raters, and comparability."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .findings import finding
from .ratings import Direction, Grouped, Rating, group, spearman
from .readers.raw_table import Scale
from .result import FindingRecord

MIN_ITEMS = 100
"""Minimum number of items of a direction for ranking systems."""
MIN_CALIBRATION_SHARE = 0.8
"""Fraction of the study's calibration items that a direction's raters must have rated."""
_MIN_COMMON = 10
_MIN_BURST = 5
_MAX_IMBALANCE = 1.5
_MIN_CORRELATION = 0.5
_MAX_REVERSED_CORRELATION = -0.3
_SENTENCE_SETS = ("eval", "calibration")

References = Callable[[str, str], Mapping[str, str]]
"""(source language, target language) -> source line of the test set -> its reference."""
DetectLanguage = Callable[[Sequence[str]], Sequence[str]]
"""Texts -> a FLORES-200 code, or `und`, for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """Usable ratings, and the findings of the checks."""

    ratings: list[Rating]
    """Usable ratings; only the first of a rater's equal ratings of an item."""
    repeated: list[tuple[Rating, Rating]]
    """Pairs of ratings of one item by one rater."""
    findings: list[FindingRecord]
    """Findings of the checks."""
    quarantined: Counter[str]
    """Ratings set aside, by code."""
    withheld: dict[Direction, str]
    """Directions without calibrated scores, with the reason."""
    unrankable: set[Direction]
    """Directions whose systems must not be ranked."""
    references: dict[tuple[str, str, str], str]
    """(source, target, source text) -> reference, for texts found in the test set."""


def check_study(
    ratings: Sequence[Rating],
    *,
    min_raters: int = 3,
    intersect: bool = False,
    references: References | None = None,
    detect: DetectLanguage | None = None,
    calibration_size: int | None = None,
    calibration_set: Mapping[str, tuple[str, str]] | None = None,
    scale: Scale = "xsts",
) -> Checked:
    """Check ratings against each other and against the test set.

    Args:
        ratings: of one or several studies.
        min_raters: required number of raters per item.
        intersect: keep only items that were rated for all systems of a direction.
        references: lines of the test set; X10 requires them.
        detect: identifies the language of texts; without it, X09 does not check texts.
        calibration_size: number of items in the full calibration set; None takes those of the
            study.
        calibration_set: item -> its two texts, if the set is available.
        scale: scale of the scores; calibration, ranking and contradictions are of XSTS only.
    """
    state = Checked(
        ratings=list(ratings), repeated=[], findings=[], quarantined=Counter(), withheld={},
        unrankable=set(), references={},
    )  # fmt: skip
    if references is not None:
        state = _match_test_set(state, references)
    state = _join_repeated(state)
    state = _same_items(state, intersect=intersect)
    _suspicious_raters(state)
    if scale != "xsts":
        return state
    _rater_numbers(state, min_raters)
    groups = group(state.ratings)
    if calibration_set is not None:
        calibration_size = calibration_size or len(calibration_set)
    _calibration_sets(state, groups, calibration_size, calibration_set or {})
    _raters_against_strata(state)
    _texts(state)
    if detect is not None:
        _languages_of_texts(state, groups, detect)
    _few_items(state, groups)
    _studies(state)
    return state


def _match_test_set(state: Checked, references: References) -> Checked:
    """Find the source texts among the lines of the test set (X10)."""
    kept: list[Rating] = []
    changed: defaultdict[Direction, list[Rating]] = defaultdict(list)
    unmatched: defaultdict[Direction, list[Rating]] = defaultdict(list)
    plain: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for rating in state.ratings:
        pair = (rating.source, rating.target)
        if rating.set != "eval":
            kept.append(rating)
            continue
        if pair not in plain:
            plain[pair] = {_plain(line): (line, ref) for line, ref in references(*pair).items()}
        found = plain[pair].get(_plain(rating.source_text))
        if found is None:
            unmatched[rating.direction].append(rating)
            continue
        kept.append(rating)
        state.references[(*pair, rating.source_text)] = found[1]
        if found[0] != rating.source_text:
            changed[rating.direction].append(rating)
    for direction, rows in changed.items():
        state.findings.append(
            finding(
                "X10",
                f"{direction}: {len(rows)} source texts differ from the test set only in Unicode "
                f"form or white space; they were matched",
                at=rows[0],
                severity="warn",
            )
        )
    for direction, rows in unmatched.items():
        state.quarantined["X10"] += len(rows)
        state.findings.append(
            finding("X10", f"{direction}: {len(rows)} source texts, such as "
                    f"{rows[0].source_text[:40]!r}, are not in the test set", at=rows[0])
        )  # fmt: skip
    return _with(state, kept)


def _join_repeated(state: Checked) -> Checked:
    """Join equal ratings of one item by one rater; set unequal ones aside (X04)."""
    groups: defaultdict[tuple[object, ...], list[Rating]] = defaultdict(list)
    for rating in state.ratings:
        role = "eval" if rating.set == "attention" else rating.set
        key = (rating.direction, role, rating.system, rating.item, rating.rater)
        groups[key].append(rating)
    unequal: list[tuple[Rating, Rating]] = []
    kept: list[Rating] = []
    for same in groups.values():
        # Planned repeats are only used for the self-agreement.
        planned = [one for one in same if one.set == "attention"]
        usual = [one for one in same if one.set != "attention"] or planned[:1]
        state.repeated.extend((usual[0], again) for again in [*usual[1:], *planned])
        if len({one.score for one in usual}) == 1:
            kept.append(usual[0])
        else:
            state.quarantined["X04"] += len(usual)
            unequal.append((usual[0], next(o for o in usual if o.score != usual[0].score)))
    by_rater: defaultdict[str, list[tuple[Rating, Rating]]] = defaultdict(list)
    for pair in state.repeated:
        by_rater[pair[0].rater].append(pair)
    for rater, pairs in by_rater.items():
        differing = sum(pair[0].rater == rater for pair in unequal)
        text = f"rater {rater} rated {len(pairs)} items again (the first here)"
        if differing:
            text += f", {differing} with another score: all ratings of these items are set aside"
        elif all(again.set == "attention" for _, again in pairs):
            continue
        severity = "quarantine" if differing else "warn"
        at = next((again for first, again in unequal if first.rater == rater), pairs[0][1])
        state.findings.append(finding("X04", text, at=at, rater=rater, severity=severity))
    kept.sort(key=lambda rating: (rating.file, rating.line))
    return _with(state, kept)


def _same_items(state: Checked, *, intersect: bool) -> Checked:
    """Require that systems of one direction are rated on the same items (X07)."""
    items: defaultdict[Direction, defaultdict[str, set[str]]] = defaultdict(
        lambda: defaultdict(set)
    )
    for rating in _evaluated(state):
        items[rating.direction][rating.system].add(rating.item)
    common: dict[Direction, set[str]] = {}
    for direction, of_system in items.items():
        shared = set.intersection(*of_system.values())
        if all(one == shared for one in of_system.values()):
            continue
        numbers = ", ".join(f"{system or '-'} {len(one)}" for system, one in of_system.items())
        example = next(r for r in _evaluated(state)
                       if r.direction == direction and r.item not in shared)  # fmt: skip
        text = f"{direction}: items by system: {numbers}; {len(shared)} in common"
        if intersect and shared:
            common[direction] = shared
            text += ": only these are scored"
        else:
            state.unrankable.add(direction)
        severity = "warn" if direction in common else None
        state.findings.append(finding("X07", text, at=example, severity=severity))
    if not common:
        return state
    kept = [
        rating
        for rating in state.ratings
        if rating.set != "eval" or rating.item in common.get(rating.direction, {rating.item})
    ]
    state.quarantined["X07"] += len(state.ratings) - len(kept)
    return _with(state, kept)


def _rater_numbers(state: Checked, min_raters: int) -> None:
    """Report items with fewer raters than declared (X05)."""
    raters: defaultdict[tuple[Direction, str], Counter[str]] = defaultdict(Counter)
    first: dict[tuple[Direction, str, str], Rating] = {}
    for rating in _evaluated(state):
        raters[rating.direction, rating.system][rating.item] += 1
        first.setdefault((rating.direction, rating.system, rating.item), rating)
    for (direction, system), counts in raters.items():
        few = [item for item, number in counts.items() if number < min_raters]
        if few:
            fewest = min(counts[item] for item in few)
            state.findings.append(
                finding("X05", f"{_name(direction, system)}: {len(few)} of {len(counts)} items have"
                        f" fewer than {min_raters} raters (fewest {fewest}), such as {few[0]!r}",
                        at=first[direction, system, few[0]])
            )  # fmt: skip


def _suspicious_raters(state: Checked) -> None:
    """Report raters who are constant, equal to another rater, or too fast to have read (X06)."""
    by_rater: defaultdict[str, list[Rating]] = defaultdict(list)
    by_item: defaultdict[tuple[Direction, str, str, str], dict[str, Rating]] = defaultdict(dict)
    for rating in state.ratings:
        by_rater[rating.rater].append(rating)
        key = (rating.direction, rating.set, rating.system, rating.item)
        by_item[key][rating.rater] = rating
    for rater, rows in by_rater.items():
        if len(rows) >= _MIN_COMMON and len({row.score for row in rows}) == 1:
            text = f"rater {rater} gave {rows[0].score:g} to all {len(rows)} items"
            state.findings.append(finding("X06", text, at=rows[0], rater=rater))
        at_once = Counter(row.timestamp for row in rows if ":" in row.timestamp)
        for timestamp, number in at_once.most_common(1):
            if number >= _MIN_BURST:
                text = f"rater {rater} gave {number} ratings in the same second ({timestamp})"
                row = next(row for row in rows if row.timestamp == timestamp)
                state.findings.append(finding("X06", text, at=row, rater=rater))
    common: Counter[tuple[str, str]] = Counter()
    equal: Counter[tuple[str, str]] = Counter()
    for rated in by_item.values():
        for pair in combinations(sorted(rated), 2):
            common[pair] += 1
            equal[pair] += rated[pair[0]].score == rated[pair[1]].score
    for pair, number in common.items():
        scores = {row.score for row in by_rater[pair[0]]}
        if number >= _MIN_COMMON and equal[pair] == number and len(scores) > 1:
            text = f"raters {pair[0]} and {pair[1]} gave the same score to all {number} items"
            for rater in pair:
                state.findings.append(finding("X06", text, at=by_rater[rater][0], rater=rater))


def _calibration_sets(
    state: Checked, groups: Grouped, size: int | None, whole_set: Mapping[str, tuple[str, str]]
) -> None:
    """Withhold directions whose raters did not rate the same calibration set in full (X08)."""
    studies: defaultdict[str, dict[str, Rating]] = defaultdict(dict)
    changed: dict[tuple[str, int], str] = {}
    for rating in state.ratings:
        if rating.set != "calibration":
            continue
        first = studies[rating.study].setdefault(rating.item, rating)
        place = (rating.file, rating.line)
        if rating.item in whole_set:
            source, target = whole_set[rating.item]
            if _texts_of(rating) != (_plain(source), _plain(target)):
                changed[place] = "the calibration set has"
        elif whole_set:
            changed[place] = "any in the calibration set"
        elif _texts_of(rating) != _texts_of(first):
            changed[place] = f"at {first.file}:{first.line}"
    for direction, rows in groups.calibration.items():
        rated = {row.item: row for row in rows}
        whole = size or len(studies[direction.study])
        strata = Counter(row.stratum for row in rated.values() if row.stratum is not None)
        other = next((row for row in rows if (row.file, row.line) in changed), None)
        at = other or next(iter(rated.values()), _first(groups, direction))
        if not rated:
            reason = "its raters rated no calibration items"
        elif len(rated) < MIN_CALIBRATION_SHARE * whole:
            reason = f"only {len(rated)} of {whole} calibration items were rated"
        elif other is not None:
            than = changed[other.file, other.line]
            reason = f"calibration item {other.item!r} has other texts than {than}"
        elif strata and max(strata.values()) > _MAX_IMBALANCE * min(strata.values()):
            listed = ", ".join(f"{step}: {strata[step]}" for step in sorted(strata))
            reason = f"the calibration strata are unbalanced ({listed})"
        else:
            continue
        state.withheld[direction] = reason
        state.findings.append(finding("X08", f"{direction}: {reason}", at=at))


def _raters_against_strata(state: Checked) -> None:
    """Report raters who do not follow the strata (X12), or follow them in reverse (X03)."""
    by_rater: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in state.ratings:
        if rating.set == "calibration":
            by_rater[rating.rater].append(rating)
    for rater, rows in by_rater.items():
        if len(rows) < _MIN_COMMON:
            continue
        mean = float(np.mean([row.score for row in rows]))
        if abs(mean - 3) > 1:
            text = f"rater {rater} gives calibration items {mean:.2f} on average; 3 is expected"
            state.findings.append(finding("X12", text, at=rows[0], rater=rater))
        pairs = [(row.stratum, row.score) for row in rows if row.stratum is not None]
        order = spearman([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None
        if order is None:
            continue
        if order < _MAX_REVERSED_CORRELATION:
            text = f"rater {rater} seems to rate 1 as best (rank correlation {order:.2f})"
            state.findings.append(finding("X03", text, at=rows[0], rater=rater))
        elif order < _MIN_CORRELATION:
            text = f"rater {rater} does not follow the strata (rank correlation {order:.2f})"
            state.findings.append(finding("X12", text, at=rows[0], rater=rater))


def _texts(state: Checked) -> None:
    """Report pairs without content (X11) and scores that contradict flags or numbers (X14)."""
    kinds: dict[tuple[Direction, str, str, str], list[Rating]] = {}
    for rating in _evaluated(state):
        if not rating.source_text and not rating.target_text:
            continue
        reference = state.references.get((rating.source, rating.target, rating.source_text))
        target = _plain(rating.target_text)
        if not target:
            kind = ("X11", "an empty translation")
        elif target == _plain(rating.source_text):
            kind = ("X11", "a translation equal to its source")
        elif reference is not None and target == _plain(reference):
            kind = ("X11", "a translation equal to the reference")
        elif rating.score >= 4 and rating.target_incoherent:
            kind = ("X14", "a score of 4 or 5 with the translation flagged incoherent")
        elif rating.score == 5 and _numbers(rating.source_text) != _numbers(rating.target_text):
            kind = ("X14", "a 5 although the numbers differ")
        else:
            continue
        kinds.setdefault((rating.direction, rating.system, *kind), []).append(rating)
    for (direction, system, code, what), rows in kinds.items():
        places = ", ".join(f"{row.file}:{row.line}" for row in rows[:5])
        text = f"{_name(direction, system)}: {len(rows)} ratings of or with {what} ({places})"
        state.findings.append(finding(code, text, at=rows[0], rater=rows[0].rater))


def _languages_of_texts(state: Checked, groups: Grouped, detect: DetectLanguage) -> None:
    """Report texts that the detector does not identify as the stated language (X09)."""
    for (direction, system), ratings in groups.evaluated.items():
        rows = list({_texts_of(row): row for row in ratings}.values())[:100]
        for side, code in (("source", direction.source), ("target", direction.target)):
            long_enough = [row for row in rows if len(getattr(row, f"{side}_text")) > 20]
            labels = detect([getattr(row, f"{side}_text") for row in long_enough])
            found = list(zip(labels, long_enough, strict=True))
            other = [(label, row) for label, row in found if label not in (code, "und")]
            if len(other) > len(found) / 2:
                label, count = Counter(label for label, _ in other).most_common(1)[0]
                name = _name(direction, system)
                text = f"{name}: {count} of {len(found)} {side} texts look like {label}"
                state.findings.append(finding("X09", text, at=other[0][1], severity="warn"))


def _few_items(state: Checked, groups: Grouped) -> None:
    """Report directions with too few items to rank systems by (X13)."""
    for (direction, system), rows in groups.evaluated.items():
        number = len({row.item for row in rows})
        if number < MIN_ITEMS:
            state.unrankable.add(direction)
            text = f"{_name(direction, system)}: {number} items; a ranking needs {MIN_ITEMS}"
            state.findings.append(finding("X13", text, at=rows[0]))


def _studies(state: Checked) -> None:
    """Report studies that are not linked, and mixed versions of the protocol (X15)."""
    raters: defaultdict[str, set[str]] = defaultdict(set)
    items: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    versions: defaultdict[str, set[str]] = defaultdict(set)
    first: dict[tuple[str, str], Rating] = {}
    for rating in state.ratings:
        if rating.set not in _SENTENCE_SETS:
            continue
        raters[rating.study].add(rating.rater)
        items[rating.study].add((rating.set, _plain(rating.source_text) or rating.item))
        if rating.protocol:
            versions[rating.study].add(rating.protocol)
        first.setdefault((rating.study, rating.protocol), rating)
    for study, found in versions.items():
        if len(found) > 1:
            text = f"study {study or '-'} mixes protocol versions {', '.join(sorted(found))}"
            state.findings.append(finding("X15", text, at=first[study, max(found)]))
    for one, other in combinations(sorted(raters), 2):
        sets = [{item for role, item in items[study] if role == "calibration"}
                for study in (one, other)]  # fmt: skip
        same = sets[0] == sets[1] and versions[one] == versions[other]
        if same or raters[one] & raters[other] or items[one] & items[other]:
            continue
        text = (
            f"studies {one or '-'} and {other or '-'} have other calibration sets or protocol "
            "versions, and no rater or item in common"
        )
        at = next(rating for (study, _), rating in first.items() if study == other)
        state.findings.append(finding("X15", text, at=at))


def _evaluated(state: Checked) -> list[Rating]:
    return [rating for rating in state.ratings if rating.set == "eval"]


def _first(groups: Grouped, direction: Direction) -> Rating:
    return next(rows[0] for (one, _), rows in groups.evaluated.items() if one == direction)


def _texts_of(rating: Rating) -> tuple[str, str]:
    return _plain(rating.source_text), _plain(rating.target_text)


def _name(direction: Direction, system: str) -> str:
    return f"{direction} {system}" if system else str(direction)


def _with(state: Checked, ratings: list[Rating]) -> Checked:
    return Checked(
        ratings=ratings, repeated=state.repeated, findings=state.findings,
        quarantined=state.quarantined, withheld=state.withheld, unrankable=state.unrankable,
        references=state.references,
    )  # fmt: skip


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _numbers(text: str) -> Counter[str]:
    """Return the numbers of two or more digits in any script, without separators."""
    digits = "".join(
        str(unicodedata.digit(character)) if character.isdigit() else character
        for character in text
    )
    found = re.findall(r"[0-9](?:[0-9]|[.,\u00a0\u202f' ](?=[0-9]{3}))*[0-9]", digits)
    return Counter(re.sub(r"\D", "", number) for number in found)

"""Vocabulary shortlists, to which the output projection can be restricted for a target language.

A shortlist is built from training text of the language (evaluation data must not be used) and
completed with pieces of its script. Other tokens can still be generated in two cases: the tokens of
the source segment are always allowed, so that names can be copied, and a search can use the
complete vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import regex
import torch
from safetensors.torch import save_file

from nllb.errors import CheckpointError, DataError
from nllb.io.atomic import atomic_path
from nllb.io.paths import path_inside
from nllb.io.text import write_json
from nllb.languages import Language
from nllb.languages.scripts import unicode_class
from nllb.model.formats.safetensors_files import SafetensorsFile
from nllb.model.formats.settings import SETTINGS_FILE, read_settings
from nllb.model.formats.write_errors import library_write_errors
from nllb.model.tokenizer import EOS_ID, UNK_ID, Tokenizer

from .generator import Generator, SearchOptions

SHORTLIST_FILE = "shortlists.safetensors"
DEFAULT_SIZE = 16_000
HELD_OUT_EVERY = 10
"""Every n-th line is held out to measure the coverage and the loss."""
MAX_TRANSLATED_LINES = 500
"""Maximum number of held-out lines that are translated to measure the loss."""
_NEUTRAL = regex.compile(r"[\p{N}\p{P}\p{S}\p{Zs}\u2581]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortlistReport:
    """Statistics of a shortlist and its coverage of held-out text.

    Attributes:
        size: number of tokens in the shortlist.
        seen: number of its tokens that occur in the text; the others are digits, punctuation marks
            and pieces of the script.
        lines: number of lines from which the shortlist was built.
        held_out_lines: number of held-out lines on which the coverage was measured.
        token_coverage: fraction of the held-out tokens that the shortlist contains.
        line_coverage: fraction of the held-out lines all of whose tokens the shortlist contains.
        chrf_loss: loss in chrF++ on held-out lines due to the shortlist; None if it was not
            measured.
    """

    size: int
    seen: int
    lines: int
    held_out_lines: int
    token_coverage: float
    line_coverage: float
    chrf_loss: float | None = None


def build_shortlist(
    lines: Iterable[str], tokenizer: Tokenizer, language: Language, *, size: int = DEFAULT_SIZE
) -> tuple[np.ndarray, ShortlistReport]:
    """Return the ids in ascending order and the report.

    The shortlist always contains the end token, digits, punctuation and the single characters of
    the script. Tokens of the text follow by descending frequency, and then other pieces of the
    script in vocabulary order, which approximates their frequency.

    Raises:
        DataError: there is too little text for a held-out set.
    """
    counts: Counter[int] = Counter()
    held_out = []
    num_lines = 0
    for number, line in enumerate(lines):
        ids = tokenizer.encode(line)
        if not ids:
            continue
        if _is_held_out(number):
            held_out.append(ids)
        else:
            num_lines += 1
            counts.update(ids)
    if not counts or not held_out:
        raise DataError(
            f"{num_lines + len(held_out)} lines of text are too few for a shortlist: provide at "
            f"least several hundred lines, and preferably 100,000 or more"
        )
    always, script = _pieces_of(tokenizer, language)
    chosen = dict.fromkeys(always)
    for source in ((token for token, _ in counts.most_common()), script):
        for token in source:
            if len(chosen) >= size:
                break
            chosen[token] = None
    held_tokens = [token for ids in held_out for token in ids]
    report = ShortlistReport(
        size=len(chosen),
        seen=sum(token in counts for token in chosen),
        lines=num_lines,
        held_out_lines=len(held_out),
        token_coverage=sum(token in chosen for token in held_tokens) / len(held_tokens),
        line_coverage=sum(all(t in chosen for t in ids) for ids in held_out) / len(held_out),
    )
    return np.array(sorted(chosen), np.int64), report


def _is_held_out(number: int) -> bool:
    return number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1


def measure_loss(
    report: ShortlistReport,
    generator: Generator,
    *,
    sources: Sequence[str],
    references: Sequence[str],
    source: Language,
    target: Language,
) -> ShortlistReport:
    """Translate held-out lines with and without the shortlist; return the report with the loss.

    Raises:
        DataError: the numbers of sources and references differ.
    """
    from sacrebleu.metrics.chrf import CHRF

    if len(sources) != len(references):
        raise DataError(
            f"there are {len(sources)} source lines, but {len(references)} target lines; the files "
            f"must be line-aligned"
        )
    pairs = [
        pair
        for number, pair in enumerate(zip(sources, references, strict=True))
        if _is_held_out(number) and all(map(str.strip, pair))
    ][:MAX_TRANSLATED_LINES]
    scores = []
    for use_shortlist in (False, True):
        found = generator.generate(
            [text for text, _ in pairs],
            source=source,
            target=target,
            search=SearchOptions(shortlist=use_shortlist),
        )
        texts = [hypotheses[0].text for hypotheses in found]
        scores.append(CHRF(word_order=2).corpus_score(texts, [[text for _, text in pairs]]).score)
    return replace(report, chrf_loss=scores[0] - scores[1])


def _pieces_of(tokenizer: Tokenizer, language: Language) -> tuple[list[int], list[int]]:
    """Return the ids that all shortlists contain, and the other pieces of the script."""
    letters = _script_pattern(language.script)
    always, script = [EOS_ID, UNK_ID], []
    for token in range(UNK_ID + 1, tokenizer.layout.num_pieces + 1):
        piece = tokenizer.token(token)
        rest = _NEUTRAL.sub("", piece)
        if not rest or (len(rest) == 1 and len(piece) == 1 and letters.fullmatch(rest)):
            always.append(token)
        elif letters.fullmatch(rest):
            script.append(token)
    return always, script


def _script_pattern(script: str) -> "regex.Pattern[str]":
    return regex.compile(rf"[{unicode_class(script)}\p{{M}}]+")


def check_shortlist(ids: np.ndarray, vocabulary_size: int, *, where: str) -> None:
    """Check that a shortlist consists of ids of the vocabulary in ascending order.

    Raises:
        CheckpointError: the shortlist is invalid.
    """
    if ids.ndim != 1 or not len(ids) or ids.dtype != np.int64:
        wrong = f"is {ids.dtype} of shape {list(ids.shape)}, not a list of token ids"
    elif ids[0] < 0 or ids.max() >= vocabulary_size:
        wrong = f"has ids from {ids.min()} to {ids.max()}"
    elif (np.diff(ids) <= 0).any():
        wrong = "has ids that are not ascending"
    else:
        return
    raise CheckpointError(
        f"the shortlist {where} {wrong}; the model's token ids are 0 to {vocabulary_size - 1}: "
        f"build the shortlist again with `nllb shortlist`"
    )


class Shortlists:
    """The shortlists of a model by language code."""

    def __init__(self, lists: dict[str, np.ndarray]):
        self._lists = lists

    @classmethod
    def read(cls, directory: Path, *, vocabulary_size: int) -> "Shortlists":
        """Read the shortlists in a model directory, which may have none.

        Raises:
            CheckpointError: the file is damaged, or a shortlist does not match the vocabulary.
        """
        found = {}
        for code, tensor in _read_lists(directory).items():
            found[code] = ids = tensor.long().numpy()
            where = f"of {code} in {directory / SHORTLIST_FILE}"
            check_shortlist(ids, vocabulary_size, where=where)
        return cls(found)

    def __contains__(self, language: Language) -> bool:
        """Return whether the language has a shortlist."""
        return language.code in self._lists

    def ids(self, language: Language) -> np.ndarray:
        """Return the ids in a language's shortlist in ascending order."""
        return self._lists[language.code]

    def with_list(self, language: Language, ids: np.ndarray) -> "Shortlists":
        """Return a copy with the shortlist of a language added or replaced."""
        return Shortlists(self._lists | {language.code: ids})


def _read_lists(directory: Path) -> dict[str, torch.Tensor]:
    if not (directory / SHORTLIST_FILE).is_file():
        return {}
    path = path_inside(directory, SHORTLIST_FILE)
    try:
        file = SafetensorsFile(path)
        lists = {code: file.read(code) for code in file.names()}
    except CheckpointError as error:
        raise CheckpointError(f"{error}; or build it again with `nllb shortlist`") from error
    for code, ids in lists.items():
        if ids.dim() != 1 or ids.dtype not in (torch.int32, torch.int64):
            raise CheckpointError(
                f"{path}: the shortlist of {code[:40]!r} has the shape {tuple(ids.shape)} and the "
                f"type {ids.dtype}, so it is not a list of ids; build it again with "
                f"`nllb shortlist`"
            )
    return lists


def write_shortlist(
    directory: Path, language: Language, ids: np.ndarray, report: ShortlistReport
) -> None:
    """Store a shortlist in the model directory, and its report in the model's settings."""
    path = directory / SHORTLIST_FILE
    lists = _read_lists(directory)
    lists[language.code] = torch.from_numpy(ids).int()
    with atomic_path(path) as beside, library_write_errors():
        save_file(lists, beside)
    settings = read_settings(directory)
    settings.setdefault("shortlists", {})[language.code] = asdict(report)
    write_json(directory / SETTINGS_FILE, settings)


def extra_tokens(sources: Sequence[Sequence[int]], ids: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the tokens of each source that are not in the shortlist, both in ascending order."""
    found = []
    for source in sources:
        tokens = np.unique(np.array(source, np.int64))
        places = np.searchsorted(ids, tokens)
        found.append(tokens[(places == len(ids)) | (ids.take(places, mode="clip") != tokens)])
    return tuple(found)

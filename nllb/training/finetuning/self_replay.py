"""Replay without old training data: the model's own translations of the new text.

Fine-tuning on a few directions makes a model forget the others. Where no old bitext is given, the
original model translates lines of the new text into languages that it already knows. Training on
these pairs in both directions keeps it close to its former behaviour (as in "Learning without
forgetting", Li and Hoiem 2016, with sequences instead of probabilities).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from nllb.io.progress import Progress
from nllb.io.text import write_lines
from nllb.training.finetune_config import TextPairs
from nllb.training.finetuning.text_shards import read_pairs
from nllb.training.translating import Translate

DEFAULT_LANGUAGES: Final = (
    "fra_Latn",
    "spa_Latn",
    "deu_Latn",
    "rus_Cyrl",
    "zho_Hans",
    "arb_Arab",
    "hin_Deva",
    "swh_Latn",
)
"""Languages of several families and scripts that most models know."""


def replay_languages(
    configured: Sequence[str], known: Sequence[str], used: Sequence[str]
) -> list[str]:
    """Return the languages to translate into: the configured ones, or the default ones.

    Args:
        configured: languages that the configuration names.
        known: languages of the original model.
        used: languages of the new text, which need no replay.
    """
    return [code for code in configured or DEFAULT_LANGUAGES if code in known and code not in used]


def replay_sources(
    files: Sequence[TextPairs], known: Sequence[str], max_lines: int
) -> Iterator[tuple[str, list[str]]]:
    """Yield each known language of the new text with up to `max_lines` different lines of it."""
    lines: dict[str, dict[str, None]] = {}
    for pairs in files:
        for source, target in read_pairs(pairs):
            for code, text in ((pairs.source, source), (pairs.target, target)):
                if code in known:
                    lines.setdefault(code, {})[text] = None
    for code, texts in lines.items():
        yield code, list(texts)[:max_lines]


def write_self_replay(
    files: Sequence[TextPairs],
    languages: Sequence[str],
    known: Sequence[str],
    translate: Translate,
    folder: Path,
    *,
    max_lines: int,
    quiet: bool = False,
) -> list[TextPairs]:
    """Translate lines of the new text with the original model, and write them as replay files."""
    written = []
    sources = list(replay_sources(files, known, max_lines))
    jobs = [(code, texts, target) for code, texts in sources for target in languages]
    total = sum(len(texts) for _, texts, _ in jobs)
    with Progress("replay", total=total, unit="lines", quiet=quiet) as progress:
        for code, texts, target in jobs:
            path = folder / f"{code}-{target}.tsv"
            if not path.is_file():
                rows = [
                    f"{source}\t{' '.join(output.split())}"
                    for source, output in zip(texts, translate(texts, code, target), strict=True)
                    if output is not None and output.strip()
                ]
                write_lines(path, rows)
            progress.advance(len(texts))
            if path.stat().st_size:
                written.append(TextPairs(path=path, source=code, target=target, is_replay=True))
    return written

"""Replay without old training data: the model's own translations of the new text.

Fine-tuning on a few directions makes a model forget the others. If no old bitext is given, the
original model translates lines of the new text into languages that it already knows. Training on
these pairs in both directions keeps it close to its former behaviour (as in "Learning without
forgetting", Li and Hoiem 2016, with sequences instead of probabilities).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from nllb.io.progress import Progress
from nllb.io.text import write_lines
from nllb.training.finetune_config import TextPairs
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
    pairs: Sequence[tuple[TextPairs, Sequence[tuple[str, str]]]],
    known: Sequence[str],
    max_lines: int,
) -> dict[str, list[str]]:
    """Return up to `max_lines` different lines of each language that the original model knows.

    Args:
        pairs: files with their training pairs; held-out pairs must not be replayed.
        known: languages of the original model.
        max_lines: maximum number of lines of each language.
    """
    lines: dict[str, dict[str, None]] = {}
    for file, rows in pairs:
        for column, code in enumerate((file.source, file.target)):
            if code in known:
                lines.setdefault(code, {}).update(dict.fromkeys(row[column] for row in rows))
    return {code: list(texts)[:max_lines] for code, texts in lines.items()}


def write_self_replay(
    sources: Mapping[str, Sequence[str]],
    languages: Sequence[str],
    translate: Translate,
    folder: Path,
    *,
    quiet: bool = False,
) -> list[TextPairs]:
    """Translate lines with the original model, and write the results as replay files.

    Files that exist already are kept, so that an interrupted call resumes.
    """
    written = []
    jobs = [(code, texts, target) for code, texts in sources.items() for target in languages]
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

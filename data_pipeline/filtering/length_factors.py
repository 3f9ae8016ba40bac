"""Length factors: characters of English divided by characters of a language, on aligned text.

`python -m data_pipeline.filtering.length_factors DATA_DIR > length_factors.tsv` recomputes the
table from NLLB-Seed, TICO-19, Tatoeba, UDHR and MediaWiki messages. NLLB computed its factors from
FLORES-200 dev, which is evaluation text.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from nllb.errors import DataError
from nllb.io.corpora import open_corpus
from nllb.io.text import read_table
from nllb.languages import languages

FACTORS_PATH: Final = Path(__file__).with_name("length_factors.tsv")
SOURCES: Final = ("nllb_seed", "tico19", "tatoeba", "udhr", "mediawiki")
"""Best first: the first corpus with enough characters provides a language's factor."""
MIN_CHARACTERS: Final = 8000
_PIVOT = "eng_Latn"


@lru_cache(maxsize=4)
def read_length_factors(path: Path) -> dict[str, float]:
    """Return the factor of each language.

    Raises:
        DataError: if a factor is not a positive number.
    """
    factors: dict[str, float] = {}
    for row in read_table(path):
        try:
            factors[row["language"]] = float(row["factor"])
        except (KeyError, ValueError):
            raise DataError(
                f"{path}: expected the columns language and factor (a number), got {row}"
            ) from None
        if not factors[row["language"]] > 0:
            raise DataError(
                f"{path}: the factor of {row['language']} must be above 0, got {row['factor']}"
            )
    return factors


def compute_length_factors(
    data_dir: Path, sources: Sequence[str] = SOURCES
) -> Iterator[tuple[str, float, str, int]]:
    """Yield language, factor, the corpus that it was computed from, and its number of pairs."""
    corpora = [open_corpus(data_dir / name) for name in sources if (data_dir / name).is_dir()]
    known = {corpus.name: set(corpus.languages()) for corpus in corpora}
    for language in languages():
        if language.code == _PIVOT:
            yield _PIVOT, 1.0, "definition", 0
            continue
        for corpus in corpora:
            if not {language.code, _PIVOT} <= known[corpus.name]:
                continue
            ours = theirs = pairs = 0
            for pair in corpus.pairs(_PIVOT, language.code):
                # Untranslated messages and templates carry no information about the language.
                if pair.source.text != pair.target.text and "{{" not in pair.source.text:
                    ours += len(pair.source.text)
                    theirs += len(pair.target.text)
                    pairs += 1
            if theirs >= MIN_CHARACTERS:
                yield language.code, round(ours / theirs, 4), corpus.name, pairs
                break


def main(data_dir: str) -> None:
    """Print the table."""
    print("# SOURCE: computed by data_pipeline/filtering/length_factors.py from aligned text.")
    print("# A language that is not listed has no aligned text with English; its factor is 1.")
    print("language\tfactor\tcorpus\tpairs")
    for row in compute_length_factors(Path(data_dir)):
        print(*row, sep="\t")


if __name__ == "__main__":
    main(sys.argv[1])

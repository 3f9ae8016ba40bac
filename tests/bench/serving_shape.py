"""A stand-in model with the cost of NLLB 600M: its engine computes random weights.

The outputs of random weights would all be flagged and retried. The engine therefore generates a
fixed number of tokens for each segment, and the answer is that of the stand-in of the tests, so
that every answer of the server can be checked.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from nllb.inference.generator import Hypothesis, SearchOptions, Terms
from nllb.languages import Language
from nllb.translation.translator import Translator
from tests.bench.translation import Ours
from tests.bench.translation_models import END, SOURCE_LANGUAGE
from tests.serving_stand_in import ShiftGenerator, WordDetector, run_server

BATCH = 16
_FIRST_WORD, _NUM_WORDS = 4, 255_000


class ShapeGenerator(ShiftGenerator):
    """Runs the engine over the words of each segment, and answers with shifted letters."""

    def __init__(self, folder: Path, *, num_threads: int) -> None:
        super().__init__()
        self._ours = Ours(folder, num_threads)

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
        terms: Sequence[Terms] | None = None,
    ) -> list[list[Hypothesis]]:
        sources = [
            [
                SOURCE_LANGUAGE,
                *(_FIRST_WORD + crc32(word.encode()) % _NUM_WORDS for word in segment.split()),
                END,
            ]
            for segment in sorted(segments, key=len)
        ]
        batches = [sources[first : first + BATCH] for first in range(0, len(sources), BATCH)]
        if len(batches) < 2 * self._ours.engine.num_workers:
            for batch in batches:
                self._ours(batch, listed=True)
        else:
            self._ours.bulk(batches, listed=True)
        return super().generate(
            segments, source=source, target=target, search=search, prefixes=prefixes, terms=terms
        )


def shape_translator(folder: Path, *, num_threads: int) -> Translator:
    """Return a translator with the random model."""
    return Translator(ShapeGenerator(folder, num_threads=num_threads), detector=WordDetector())


def main() -> None:
    """Serve the model of the folder that the first argument names until stdin ends."""
    folder, num_threads = Path(sys.argv[1]), int(sys.argv[2])
    generator = ShapeGenerator(folder, num_threads=num_threads)
    with run_server(generator, workers=1, threads=num_threads, cached_segments=0) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""Measure mining: hidden pairs among distractors, ANN against exact, LASER2-sized speed.

Run from the repository root: `python tests/bench/mining.py DATA [hidden|index|laser]...`.
Ratios come from interleaved runs in one process; the figures stand in data_pipeline/README.md.
"""

import copy
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch

from data_pipeline.mining.encoders import encode_in_batches, load_encoder, normalized
from data_pipeline.mining.laser import Laser2
from data_pipeline.mining.margins import retrieve
from data_pipeline.mining.neighbours import build_index, find_neighbours, search_index
from data_pipeline.mining.training_hashes import overlap, read_hashes
from nllb.corpora import open_corpus
from nllb.textio import read_lines

HASHES = Path("data_pipeline/_models/encoder/training_hashes.bin.zst")
LANGUAGES = "fra deu spa rus ara hin fin tur ind cmn jpn ukr ita por nld pol heb ell hun".split()
DISTRACTORS = 10
THRESHOLD = 1.06


def english(data_dir: Path) -> list[str]:
    """Return the English lines of Tatoeba, each once."""
    corpus = open_corpus(data_dir / "tatoeba")
    return list(dict.fromkeys(text.text.strip() for text in corpus.texts("eng_Latn")))


def hidden(data_dir: Path) -> None:
    """Hide LASER's Tatoeba pairs among ten times as many English lines; find them again."""
    encoder, trained = load_encoder(), read_hashes(HASHES)
    pool = english(data_dir)
    print("language  pairs  distractors  precision  recall  F1 (threshold), best F1")
    for language in LANGUAGES:
        stem = data_dir / "laser_tatoeba" / f"tatoeba.{language}-eng"
        own = list(read_lines(stem.with_name(f"{stem.name}.{language}")))
        targets = list(read_lines(stem.with_name(f"{stem.name}.eng")))
        assert not overlap(trained, own), "scored lines were trained on"
        assert not overlap(trained, targets), "scored lines were trained on"
        known = set(targets)
        chosen = numpy.random.default_rng(0).permutation(len(pool)).tolist()
        others = [pool[n] for n in chosen if pool[n] not in known][: DISTRACTORS * len(own)]
        sources, base = encoder.encode(own, ""), encoder.encode([*targets, *others], "")
        found = retrieve(
            [find_neighbours(sources, base, 4)],
            [find_neighbours(base, sources, 4)],
            margin="ratio",
            retrieval="max",
        )
        texts = [*targets, *others]
        right = numpy.array(
            [texts[t] == targets[s] for s, t in zip(found.source, found.target, strict=True)]
        )
        # Best first, so every threshold is a prefix.
        hits = numpy.cumsum(right)
        precision, recall = hits / numpy.arange(1, len(hits) + 1), hits / len(own)
        scores = 2 * precision * recall / numpy.maximum(precision + recall, 1e-9)
        at = max(int((found.margin >= THRESHOLD).sum()) - 1, 0)
        print(
            f"{language}  {len(own)}  {len(others)}  {precision[at]:.3f}  {recall[at]:.3f}  "
            f"{scores[at]:.3f}  {scores.max():.3f}",
            flush=True,
        )


def index(data_dir: Path) -> None:
    """Compare the default index with the exact product on real vectors."""
    encoder = load_encoder()
    base = encoder.encode(english(data_dir)[:120_000], "eng_Latn")
    own = open_corpus(data_dir / "tatoeba").texts("fra_Latn")
    queries = encoder.encode(list(dict.fromkeys(text.text for text in own))[:4000], "fra_Latn")
    start = time.process_time()
    built = build_index(base, "IVF2048,SQ8")
    print(f"{len(base):,} vectors, index built in {time.process_time() - start:.1f} CPU s")
    for probes in (16, 32, 64, 128):
        start = time.process_time()
        exact = find_neighbours(queries, base, 16, method="exact")
        middle = time.process_time()
        found = search_index(built, queries, 16, probes=probes)
        end = time.process_time()
        nearest = (exact.indices[:, 0] == found.indices[:, 0]).mean()
        strong = exact.similarities[:, 0] / exact.similarities.mean(axis=1) >= THRESHOLD
        agree = (exact.indices[:, 0] == found.indices[:, 0])[strong].mean()
        print(
            f"probes {probes}: nearest {nearest:.4f}, of those above the threshold {agree:.4f}, "
            f"{(middle - start) / (end - middle):.1f} times as fast",
            flush=True,
        )


def laser(_: Path) -> None:
    """Encode with a random LASER2 of full size: batches by length against one at a time."""
    torch.manual_seed(0)
    full = Laser2(vocabulary=50_004, embedding=320, hidden=512, layers=5).eval()
    half = copy.deepcopy(full).bfloat16()
    generator = numpy.random.default_rng(0)
    lengths = numpy.clip(generator.lognormal(3.1, 0.6, 600), 4, 120).astype(int)
    lists = [generator.integers(4, 50_004, length).tolist() for length in lengths]

    @torch.inference_mode()
    def forward(model: Laser2, batch: list[Any]) -> Any:
        widest = max(map(len, batch))
        tokens = torch.tensor([[*row, *[1] * (widest - len(row))] for row in batch])
        return model(tokens, torch.tensor([len(row) for row in batch])).float().numpy()

    def timed(model: Laser2, count: int, max_sentences: int) -> tuple[float, Any]:
        start = time.process_time()
        found = encode_in_batches(
            lists[:count], 1024, partial(forward, model), max_sentences=max_sentences
        )
        return lengths[:count].sum() / (time.process_time() - start), found

    for _ in range(3):
        alone, expected = timed(full, 60, 1)
        rate, found = timed(full, 600, 512)
        numpy.testing.assert_allclose(found[:60], expected, atol=1e-5)
        fast, near = timed(half, 600, 512)
        cosines = (normalized(near[:60]) * normalized(expected)).sum(axis=1)
        print(
            f"{rate:,.0f} tokens/s against {alone:,.0f}: {rate / alone:.1f} times; bfloat16 "
            f"{fast:,.0f}: {fast / alone:.1f} times, least cosine {cosines.min():.5f}",
            flush=True,
        )


if __name__ == "__main__":
    PARTS = {"hidden": hidden, "index": index, "laser": laser}
    for name in sys.argv[2:] or PARTS:
        PARTS[name](Path(sys.argv[1]))

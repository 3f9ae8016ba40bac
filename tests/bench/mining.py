"""Measures mining: hidden pairs, documents, ANN compared with exact search, speed of LASER2.

Run it from the repository root, with no arguments or with the names of some parts:
`python tests/bench/mining.py DATA [hidden|messages|documents|index|laser]...`.
Ratios are from interleaved runs in one process; docs/benchmarks/mining.md lists the results.
"""

import copy
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch

from data_pipeline.mining.document_alignment import align
from data_pipeline.mining.encoder_training.train_encoder import read_training_text
from data_pipeline.mining.encoder_training.trained_encoder import MIN_HELD_OUT_PAIRS
from data_pipeline.mining.encoder_training.training_hashes import overlap, read_hashes
from data_pipeline.mining.encoders.encoder import encode_in_batches, normalized
from data_pipeline.mining.encoders.laser import Laser2
from data_pipeline.mining.encoders.load_encoder import load_encoder
from data_pipeline.mining.margins import retrieve
from data_pipeline.mining.mining_config import EncoderTrainingConfig
from data_pipeline.mining.neighbours import (
    Neighbours,
    build_index,
    find_neighbours,
    index_name,
    search_index,
)
from nllb.config import find_config, load_config
from nllb.io.corpora import open_corpus
from nllb.io.text import read_lines

HASHES = Path("data_pipeline/_models/encoder/training_hashes.bin.zst")
LANGUAGES = "fra deu spa rus ara hin fin tur ind cmn jpn ukr ita por nld pol heb ell hun".split()
DISTRACTORS = 10
THRESHOLD = 1.06
ALIGNED, LAST_TRAINED = 0.9, 20
HEADER = "language  pairs  distractors  precision  recall  F1 (threshold), best F1"


def english(data_dir: Path) -> list[str]:
    """Return the distinct English lines of Tatoeba."""
    return distinct(data_dir, "tatoeba", "eng_Latn")


def distinct(data_dir: Path, corpus: str, language: str) -> list[str]:
    """Return the distinct lines of a language."""
    texts = open_corpus(data_dir / corpus).texts(language)
    return list(dict.fromkeys(text.text.strip() for text in texts))


def find_hidden(name: str, sources: list[str], targets: list[str], others: list[str]) -> None:
    """Hide pairs among other targets, and print the number retrieved."""
    encoder = load_encoder()
    texts = [*targets, *others]
    queries, base = encoder.encode(sources, ""), encoder.encode(texts, "")
    found = retrieve(
        [find_neighbours(queries, base, 4)],
        [find_neighbours(base, queries, 4)],
        margin="ratio",
        retrieval="max",
    )
    right = numpy.array(
        [
            texts[t] == targets[s]
            for s, t in zip(found.source.tolist(), found.target.tolist(), strict=True)
        ]
    )
    # The pairs are sorted best first, so every threshold selects a prefix.
    hits = numpy.cumsum(right)
    precision, recall = hits / numpy.arange(1, len(hits) + 1), hits / len(sources)
    scores = 2 * precision * recall / numpy.maximum(precision + recall, 1e-9)
    at = max(int((found.margin >= THRESHOLD).sum()) - 1, 0)
    print(
        f"{name}  {len(sources)}  {len(others)}  {precision[at]:.3f}  {recall[at]:.3f}  "
        f"{scores[at]:.3f}  {scores.max():.3f}",
        flush=True,
    )


def hidden(data_dir: Path) -> None:
    """Hide LASER's Tatoeba pairs among ten times as many English lines, and retrieve them."""
    trained, pool = read_hashes(HASHES), english(data_dir)
    print(HEADER)
    for language in LANGUAGES:
        stem = data_dir / "laser_tatoeba" / f"tatoeba.{language}-eng"
        own = list(read_lines(stem.with_name(f"{stem.name}.{language}")))
        targets = list(read_lines(stem.with_name(f"{stem.name}.eng")))
        assert not overlap(trained, [*own, *targets]), "scored lines were trained on"
        others = drawn(pool, targets, DISTRACTORS * len(own))
        find_hidden(language, own, targets, others)


def messages(data_dir: Path) -> None:
    """Hide the held-out pairs of Tatoeba and of MediaWiki among ten times as many distractors.

    The distractors are English lines of the same corpus, including training lines.
    """
    trained = read_hashes(HASHES)
    print(HEADER)
    for corpus in ("tatoeba", "mediawiki"):
        config = load_config(
            EncoderTrainingConfig,
            find_config("encoder-mediawiki", "mine"),
            [f"data_dir={data_dir}"],
        )
        sources = tuple(source for source in config.sources if source.name == corpus)
        held_out = read_training_text(replace(config, sources=sources), quiet=True).held_out
        pool = distinct(data_dir, corpus, "eng_Latn")
        for language, pairs in sorted(held_out.items()):
            # The encoder may have been trained on the same short line of the other corpus.
            met = {
                *overlap(trained, [p[0] for p in pairs]),
                *overlap(trained, [p[1] for p in pairs]),
            }
            fresh = [pair for place, pair in enumerate(pairs) if place not in met]
            if len(fresh) < MIN_HELD_OUT_PAIRS:
                continue
            own, targets = [pair[0] for pair in fresh], [pair[1] for pair in fresh]
            others = drawn(pool, targets, DISTRACTORS * len(own))
            find_hidden(f"{corpus} {language}", own, targets, others)


def drawn(pool: list[str], known: list[str], count: int) -> list[str]:
    """Return some lines of the pool that are not among the known ones."""
    chosen = numpy.random.default_rng(0).permutation(len(pool)).tolist()
    excluded = set(known)
    return [pool[n] for n in chosen if pool[n] not in excluded][:count]


def index(data_dir: Path) -> None:
    """Compare mining with the default index and with exact search, on real vectors."""
    encoder = load_encoder()
    # Sentences that differ only in punctuation have equal vectors, so either may be found.
    base = numpy.unique(encoder.encode(english(data_dir)[:130_000], "eng_Latn"), axis=0)
    own = distinct(data_dir, "tatoeba", "fra_Latn")[:4000]
    queries = numpy.unique(encoder.encode(own, "fra_Latn"), axis=0)
    start = time.process_time()
    built = build_index(base, index_name(len(base)))
    print(f"{len(base):,} vectors, index built in {time.process_time() - start:.1f} CPU s")
    backward = [find_neighbours(base, queries, 16, method="exact")]

    def mined(forward: Neighbours) -> set[tuple[int, int]]:
        found = retrieve([forward], backward, margin="ratio", retrieval="max")
        kept = found.take(numpy.flatnonzero(found.margin >= THRESHOLD))
        return set(zip(kept.source.tolist(), kept.target.tolist(), strict=True))

    for probes in (32, 64, 128, 256):
        start = time.process_time()
        exact = find_neighbours(queries, base, 16, method="exact")
        middle = time.process_time()
        found = search_index(built, queries, 16, probes=probes, base=base)
        end = time.process_time()
        nearest = (exact.indices[:, 0] == found.indices[:, 0]).mean()
        wanted = mined(exact)
        recall = len(wanted & mined(found)) / len(wanted)
        print(
            f"probes {probes}: nearest {nearest:.4f}, of {len(wanted):,} mined pairs {recall:.4f}, "
            f"{(middle - start) / (end - middle):.1f} times as fast",
            flush=True,
        )


def documents(data_dir: Path) -> None:
    """Align the Universal Declaration with English, and count the retrieved pairs of equal keys.

    Articles up to 20 were training data, so the second figure is for articles from 21 on.
    """
    encoder, corpus = load_encoder(), open_corpus(data_dir / "udhr")
    english = {text.key: text.text for text in corpus.texts("eng_Latn")}
    places = {key: place for place, key in enumerate(english)}
    found = {}
    for language in corpus.languages():
        own = list(corpus.texts(language))
        keys = [text.key.split(".") for text in own]
        # English counts the preamble as 1; sixteen others count it as 0.
        shift = int(keys[0][0] == "0")
        gold = [
            (place, places[key])
            for place, (article, part) in enumerate(keys)
            if article.isdigit() and (key := f"{int(article) + shift}.{part}") in places
        ]
        pairs = align(
            [text.text for text in own], list(english.values()), encoder, language, "eng_Latn"
        )
        links = {(i, j) for pair in pairs for i in pair.source for j in pair.target}
        late = [(i, j) for i, j in gold if int(list(english)[j].partition(".")[0]) > LAST_TRAINED]
        if language != "eng_Latn" and late:
            found[language] = tuple(
                sum(g in links for g in part) / len(part) for part in (gold, late)
            )
    for place, name in enumerate(("all", "from article 21")):
        good = sum(recalls[place] >= ALIGNED for recalls in found.values())
        mean = numpy.mean([recalls[place] for recalls in found.values()])
        print(f"{name}: {good} of {len(found)} languages at {ALIGNED} or more, mean {mean:.3f}")
    print("  ".join(f"{name} {all_:.2f}/{late:.2f}" for name, (all_, late) in found.items()))


def laser(_: Path) -> None:
    """Encode with a random LASER2 of full size, in batches by length and one at a time."""
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
    PARTS = {
        "hidden": hidden,
        "messages": messages,
        "documents": documents,
        "index": index,
        "laser": laser,
    }
    for name in sys.argv[2:] or PARTS:
        PARTS[name](Path(sys.argv[1]))

import pickle

import numpy as np
import pytest

from nllb.inference import word_alignment
from nllb.inference.sentence_encoder import SentenceEncoder
from nllb.inference.word_alignment import ShippedAligner, WordAligner, link_weights
from nllb.model.shipped_encoder import SHIPPED_ENCODER


def test_weights_are_high_for_mutual_best_matches_only() -> None:
    states = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    order = [2, 0, 3, 1]
    weights = link_weights(states, states[order] * 3, temperature=0.05)
    assert weights.argmax(0).tolist() == order
    assert weights.max() <= 1 + 1e-6
    assert np.delete(weights, [2 * 4, 3, 4 + 3, 3 * 4 + 2]).max() < 1
    assert link_weights(states[:0], states, temperature=0.1).shape == (0, 4)


@pytest.mark.parametrize("number", [0, 1])
def test_a_text_without_pieces_has_no_links(encoder_dir, number) -> None:
    aligner = WordAligner(SentenceEncoder.load(encoder_dir, num_threads=1), layer=1)
    pair = ["the old house", "the old house"]
    pair[number] = ""
    assert aligner.align([tuple(pair)]) == [[]]


def test_links_have_the_places_of_pieces_and_do_not_depend_on_groups(
    encoder_dir, monkeypatch
) -> None:
    aligner = WordAligner(SentenceEncoder.load(encoder_dir, num_threads=1), layer=1)
    pairs = [("the old house", "house the old"), ("the river", "the river"), ("a", "a " * 900)]
    found = aligner.align(pairs)
    for (source, target), links in zip(pairs, found, strict=True):
        assert all(0 <= link.source_start < link.source_end <= len(source) for link in links)
        assert all(0 <= link.target_start < link.target_end <= len(target) for link in links)
    monkeypatch.setattr(word_alignment, "_GROUP_PAIRS", 1)
    alone = aligner.align(pairs)
    assert [len(links) for links in alone] == [len(links) for links in found]


def test_without_the_encoder_nothing_is_linked(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("nllb.model.shipped_encoder.SHIPPED_ENCODER", tmp_path / "missing")
    assert ShippedAligner().align([("a", "b")]) == [[]]


def test_the_shipped_encoder_aligns_a_sentence_with_its_translation() -> None:
    if not SHIPPED_ENCODER.is_dir():
        pytest.skip("the encoder does not ship here")
    source = "The red car of Mr. Müller costs 3500 euros in Berlin."
    target = "In Berlin kostet das rote Auto von Herrn Müller 3500 Euro."
    [links] = pickle.loads(pickle.dumps(ShippedAligner(num_threads=1))).align([(source, target)])
    strong = {
        (
            source[a.source_start : a.source_end].strip(),
            target[a.target_start : a.target_end].strip(),
        )
        for a in links
        if a.weight > 0.5
    }
    assert {("car", "Auto"), ("Berlin", "Berlin"), ("costs", "kostet")} <= strong

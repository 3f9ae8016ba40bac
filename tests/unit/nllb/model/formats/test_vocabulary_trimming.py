"""What is kept: special tokens, characters, and the pieces that languages use most."""

import numpy as np
import pytest

from nllb.errors import DataError
from nllb.model.formats.vocabulary_trimming import PieceCounts, choose_pieces, measure_importance

PIECES = ["<s>", "<unk>", "▁", "a", "b", "▁common", "▁big", "▁small", "▁never"]


def counts(**by_language: dict[str, int]) -> PieceCounts:
    uses = {
        language: np.array([found.get(piece, 0) for piece in PIECES])
        for language, found in by_language.items()
    }
    return PieceCounts(
        by_language=uses, characters=frozenset("a"), lines=dict.fromkeys(uses, 1), samples={}
    )


def choose(found: PieceCounts, always: list[int], limit: int) -> list[int]:
    importance = measure_importance(found, np.zeros(len(PIECES), np.float32))
    return choose_pieces(PIECES, found.characters, importance, always, limit=limit)


def kept(found: PieceCounts, limit: int) -> set[str]:
    return {PIECES[number] for number in choose(found, [0, 1], limit)}


def test_special_tokens_spaces_and_characters_are_kept() -> None:
    found = counts(x={"▁big": 1000})
    assert kept(found, 4) == {"<s>", "<unk>", "▁", "a"}
    with pytest.raises(DataError, match="4 special tokens and single characters"):
        kept(found, 3)


def test_pieces_that_no_text_uses_are_never_kept() -> None:
    assert kept(counts(x={"▁big": 5}), 9) == {"<s>", "<unk>", "▁", "a", "▁big"}


def test_a_language_weighs_as_the_square_root_of_its_tokens() -> None:
    """10 % of 100 tokens are worth more than 1 % of 1,000, and less than 10 % of 1,000."""
    small = {"▁small": 10, "b": 90}
    assert "▁small" in kept(counts(x=small, y={"▁big": 10, "b": 990}), 6)
    assert "▁small" not in kept(counts(x=small, y={"▁big": 100, "b": 900}), 6)


def test_languages_that_share_a_piece_add_up() -> None:
    languages = {name: {"▁common": 6, f"▁{name}": 8, "b": 86} for name in ("big", "small")}
    assert "▁common" in kept(counts(**languages), 6)


def test_ids_rise_and_do_not_depend_on_the_order_of_languages() -> None:
    languages = {name: {"▁common": 6, f"▁{name}": 8, "b": 86} for name in ("big", "small")}
    ids = choose(counts(**languages), [1, 0], 7)
    assert ids == sorted(ids)
    assert ids == choose(counts(**dict(reversed(languages.items()))), [0, 1], 7)


def test_scores_keep_likely_pieces_that_the_text_at_hand_lacks() -> None:
    found = counts(x={"▁big": 50, "b": 50})
    scores = np.array([0, 0, -3, -4, -4, -5, -6, -7, -1], np.float32)
    ids = choose_pieces(PIECES, "a", measure_importance(found, scores), [0, 1], limit=5)
    assert {PIECES[number] for number in ids} == {"<s>", "<unk>", "▁", "a", "▁never"}

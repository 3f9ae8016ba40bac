"""Hypotheses with known problems, and a small SentencePiece model, for the tests of scores."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Perturb = Callable[..., list[str]]


@pytest.fixture(scope="session")
def perturb() -> Perturb:
    """Return a function that makes bad translations: words swapped, lost and repeated."""

    def bad_translation(
        sentences: Sequence[str], *, seed: int = 1, share: float = 0.35
    ) -> list[str]:
        rng = random.Random(seed)
        pool = [word for sentence in sentences for word in sentence.split()] or ["word"]
        lines = []
        for sentence in sentences:
            words = []
            for word in sentence.split():
                draw = rng.random()
                if draw < share / 2:
                    words.append(rng.choice(pool))
                elif draw < share * 0.8:
                    words.extend((word, word))
                elif draw >= share:
                    words.append(word)
            text = " ".join(words)
            if len(words) < 6:  # scripts without spaces: spoil characters instead
                text = "".join(
                    rng.choice(sentence) if rng.random() < share / 2 else c for c in text
                )
            lines.append(text)
        return lines

    return bad_translation


@pytest.fixture(scope="session")
def spm_standin(
    train_vocabulary: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a tiny SentencePiece model; never to be taken for the one of FLORES."""
    rng = random.Random(7)
    syllables = [a + b for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "u", "é", "я", "中")]
    lines = [
        " ".join("".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(12)) + "."
        for _ in range(1500)
    ]
    folder = tmp_path_factory.mktemp("spm")
    return train_vocabulary(lines, folder, vocab_size=400, model_type="unigram")

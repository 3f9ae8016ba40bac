import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from lid.characters import scripts
from lid.decision import Decider
from lid.ngrams import NgramSets
from lid.train.acceptance_calibration import (
    acceptance_scores,
    calibrate,
    expected_shares,
    fit_acceptance,
    num_letters,
    shares_with_little_text,
)
from lid.train.lid_config import CalibrationConfig

CONFIG = CalibrationConfig(
    target_precision=0.9,
    out_of_set_odds=2,
    max_rejected_fraction=0.2,
)


class EchoEngine:
    """Reads the probabilities of three labels from the text: `0.7 0.2 0.1`."""

    labels = ("deu_Latn", "fra_Latn", "spa_Latn")

    def score(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        values = np.log([[float(word) for word in text.split()] for text in texts])
        letters = np.zeros((len(texts), len(scripts())), np.int32)
        letters[:, scripts().index("Latn")] = 100
        return values.astype(np.float32), letters


class PaddedEngine(EchoEngine):
    """Reads probabilities likewise, and uses 0.5 for truncated words."""

    def score(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        return super().score([" ".join([*text.split(), "0.5", "0.5"][:3]) for text in texts])


DECIDER = Decider(EchoEngine(), {}, EchoEngine.labels)
PADDED = Decider(PaddedEngine(), {}, PaddedEngine.labels)


def text_with(probability: float) -> str:
    rest = (1 - probability) / 2
    return f"{probability} {rest} {rest}"


def test_acceptance_scores_are_in_the_order_of_the_texts() -> None:
    best, support = acceptance_scores(DECIDER, [text_with(0.9), text_with(0.1)] * 600)
    assert len(best) == 1200 and best[0] == 0 and support[0] == np.float32(0.9)
    assert acceptance_scores(DECIDER, [])[0].shape == (0,)


def test_threshold_is_the_default_if_it_reaches_the_target_precision() -> None:
    held_out = {"deu_Latn": [text_with(0.97)] * 50, "fra_Latn": ["0.3 0.4 0.3"] * 50}
    thresholds = calibrate(DECIDER, held_out, [], CONFIG)
    assert thresholds == {"deu_Latn": 0.5, "fra_Latn": 0.5, "spa_Latn": 0.5}


def test_label_that_attracts_out_of_set_text_gets_a_higher_threshold() -> None:
    own = [text_with(value) for value in np.linspace(0.5, 0.99, 100)]
    out_of_set = [text_with(value) for value in np.linspace(0.4, 0.58, 50)]
    raised = calibrate(DECIDER, {"deu_Latn": own}, out_of_set, CONFIG)["deu_Latn"]
    assert 0.53 < raised <= 0.6
    lost = calibrate(DECIDER, {"deu_Latn": own}, [text_with(0.98)] * 100, CONFIG)["deu_Latn"]
    assert np.mean(np.linspace(0.5, 0.99, 100) < lost) <= CONFIG.max_rejected_fraction + 0.01


def test_acceptance_is_fitted_on_complete_and_truncated_texts() -> None:
    own = {"deu_Latn": ["0.9 0.05 0.05"] * 40, "fra_Latn": ["0.1 0.8 0.1"] * 40}
    out_of_set = ["0.5 0.3 0.2", "0.4 0.2 0.4"] * 20
    acceptance = fit_acceptance(PADDED, own, out_of_set, CONFIG)
    evidence, _, _ = PADDED.evidence_for(["0.9 0.05 0.05", "0.4 0.2 0.4"])
    scores = acceptance.score(evidence)
    assert scores[0] >= 0.5 > scores[1]


def test_expected_shares_come_from_held_out_sources_of_the_same_variety(
    sentences: dict[str, list[str]],
) -> None:
    lines = {code: {"own": [t.lower() for t in texts[:7]]} for code, texts in sentences.items()}
    ngrams = NgramSets.build(lines, max_ngrams=2000, size_bytes=65_536)
    line_texts = {code: texts[:7] for code, texts in sentences.items()}
    source_texts = {code: texts[7:] for code, texts in sentences.items() if code != "fra_Latn"}
    shares = expected_shares(ngrams, line_texts, source_texts)
    assert all(0 < shares[code] < 1 for code in sentences)
    own = ngrams.count(
        source_texts["deu_Latn"], np.full((3, 1), ngrams.index["deu_Latn"], np.int32)
    )
    assert shares["deu_Latn"] == pytest.approx(own[0].sum() / own[1].sum(), abs=1e-4)
    mislabelled = expected_shares(
        ngrams, line_texts, {**source_texts, "deu_Latn": sentences["rus_Cyrl"]}
    )
    assert mislabelled["deu_Latn"] == pytest.approx(mislabelled["fra_Latn"], abs=1e-3)


def test_label_with_little_text_is_expected_to_know_few_ngrams_of_other_text(
    sentences: dict[str, list[str]],
) -> None:
    lines = {code: {"own": [t.lower() for t in texts[:7]]} for code, texts in sentences.items()}
    ngrams = NgramSets.build(lines, max_ngrams=2000, size_bytes=65_536)
    line_texts = {code: texts[:7] for code, texts in sentences.items()}
    source_texts = {code: texts[7:] for code, texts in sentences.items() if code != "fra_Latn"}
    letters = {code: num_letters(texts["own"]) for code, texts in lines.items()}
    by_lines = expected_shares(ngrams, line_texts, source_texts)
    curve = {letters["fra_Latn"] // 10: 0.02, letters["fra_Latn"] * 10: 0.1}
    by_size = expected_shares(ngrams, line_texts, source_texts, curve, letters)
    assert by_size["fra_Latn"] == pytest.approx(0.06, abs=0.001)
    assert {**by_size, "fra_Latn": 0} == {**by_lines, "fra_Latn": 0}
    generous = dict.fromkeys(curve, 0.99)
    assert expected_shares(ngrams, line_texts, source_texts, generous, letters) == by_lines


def test_share_of_known_ngrams_grows_with_the_text_of_a_label() -> None:
    syllables = [a + b for a in "bcdfghklmnprst" for b in "aeiou"]
    rng = random.Random(1)
    labels = ("deu_Latn", "fra_Latn", "spa_Latn", "ita_Latn", "por_Latn", "eng_Latn", "zho_Hans")

    def text(label: str, lines: int) -> list[str]:
        own = random.Random(label).sample(syllables, 12)
        words = ["".join(rng.choices(own, k=rng.randint(2, 4))) for _ in range(6 * lines)]
        return [" ".join(words[start : start + 6]) for start in range(0, len(words), 6)]

    lines = {label: {"large": text(label, 400), "small": text(label, 3)} for label in labels}
    held_out = {label: text(label, 10) for label in labels}
    shares = shares_with_little_text(lines, held_out, max_ngrams=12_000)
    assert list(shares) == [1000, 3000, 10_000]
    assert 0 < shares[1000] < shares[3000] < shares[10_000] < 1
    few_labels = {label: held_out[label] for label in labels[:3]}
    assert shares_with_little_text(lines, few_labels, max_ngrams=12_000) == {}

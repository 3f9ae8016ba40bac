import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lid.calibration import calibrate, certainties
from lid.characters import scripts
from lid.config import CalibrationConfig
from lid.decision import Decider

CONFIG = CalibrationConfig(
    precision=0.9,
    foreign_odds=2,
    most_rejected=0.05,
    most_rejected_if_imprecise=0.2,
    lowest=0.3,
    highest=0.95,
)


class SpokenEngine:
    """Takes the probabilities of three labels from the text itself: `0.7 0.2 0.1`."""

    labels = ("deu_Latn", "fra_Latn", "spa_Latn")

    def score(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        values = np.log([[float(word) for word in text.split()] for text in texts])
        letters = np.zeros((len(texts), len(scripts())), np.int32)
        letters[:, scripts().index("Latn")] = 100
        return values.astype(np.float32), letters


DECIDER = Decider(SpokenEngine(), {}, SpokenEngine.labels)


def said(probability: float) -> str:
    rest = (1 - probability) / 2
    return f"{probability} {rest} {rest}"


def test_certainties_reads_every_text_in_order() -> None:
    best, support = certainties(DECIDER, [said(0.9), said(0.1)] * 600)
    assert len(best) == 1200 and best[0] == 0 and support[0] == np.float32(0.9)
    assert certainties(DECIDER, [])[0].shape == (0,)


def test_a_sure_label_gets_a_high_threshold_and_an_unsure_one_a_low_one() -> None:
    held_out = {"deu_Latn": [said(0.97)] * 50, "fra_Latn": ["0.3 0.4 0.3"] * 50}
    thresholds = calibrate(DECIDER, held_out, [], CONFIG)
    assert thresholds["deu_Latn"] == CONFIG.highest
    assert 0.39 < thresholds["fra_Latn"] < 0.41
    assert thresholds["spa_Latn"] == CONFIG.highest  # nothing is known of it


def test_a_label_that_attracts_foreign_text_gets_a_higher_threshold() -> None:
    own = [said(value) for value in np.linspace(0.5, 0.99, 100)]
    usual = calibrate(DECIDER, {"deu_Latn": own}, [], CONFIG)["deu_Latn"]
    foreign = [said(value) for value in np.linspace(0.4, 0.58, 50)]
    raised = calibrate(DECIDER, {"deu_Latn": own}, foreign, CONFIG)["deu_Latn"]
    assert usual < 0.53 < raised <= 0.6
    lost = calibrate(DECIDER, {"deu_Latn": own}, [said(0.98)] * 100, CONFIG)["deu_Latn"]
    assert np.mean(np.linspace(0.5, 0.99, 100) < lost) <= CONFIG.most_rejected_if_imprecise + 0.01


def test_short_texts_are_asked_less_and_single_words_more() -> None:
    decision = DECIDER.decide([said(0.9)] * 5)
    lengths = np.array([0, 3, 10, 30, 100])
    certain = dataclasses.replace(decision, letters=lengths).certainty()
    assert certain[0] == 0 and certain[1] < certain[2] < certain[4] < certain[3] < 1
    assert certain[4] == np.float32(0.9)

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lid.calibration import calibrate, supports
from lid.characters import scripts
from lid.config import CalibrationConfig
from lid.decision import Decider

CONFIG = CalibrationConfig(precision=0.9, foreign_odds=2, most_rejected=0.05, lowest=0.3)


class SpokenEngine:
    """Takes the probabilities of three labels from the text itself: `0.7 0.2 0.1`."""

    labels = ("deu_Latn", "fra_Latn", "spa_Latn")

    def score(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        values = np.log([[float(word) for word in text.split()] for text in texts])
        letters = np.zeros((len(texts), len(scripts())), np.int32)
        letters[:, scripts().index("Latn")] = 1
        return values.astype(np.float32), letters


DECIDER = Decider(SpokenEngine(), {}, SpokenEngine.labels)


def said(probability: float) -> str:
    rest = (1 - probability) / 2
    return f"{probability} {rest} {rest}"


def test_supports_reads_every_text_in_order() -> None:
    best, support = supports(DECIDER, [said(0.9), said(0.1)] * 600)
    assert len(best) == 1200 and best[0] == 0 and support[0] == np.float32(0.9)
    assert supports(DECIDER, [])[0].shape == (0,)


def test_a_label_that_attracts_foreign_text_gets_a_high_threshold() -> None:
    held_out = {"deu_Latn": [said(0.97)] * 50, "fra_Latn": ["0.02 0.96 0.02"] * 50}
    thresholds = calibrate(DECIDER, held_out, [said(0.62)] * 100, CONFIG)
    assert thresholds["deu_Latn"] > 0.62
    assert thresholds["fra_Latn"] == thresholds["spa_Latn"] == CONFIG.lowest


def test_a_threshold_does_not_cost_the_label_its_own_text() -> None:
    held_out = {"deu_Latn": [said(value) for value in np.linspace(0.5, 0.99, 100)]}
    thresholds = calibrate(DECIDER, held_out, [said(0.98)] * 100, CONFIG)
    kept = np.mean(np.linspace(0.5, 0.99, 100) >= thresholds["deu_Latn"])
    assert kept >= 1 - CONFIG.most_rejected - 0.011

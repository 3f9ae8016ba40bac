from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from lid.acceptance import AcceptanceRegression
from lid.characters import scripts
from lid.decision import AcceptanceModel, Decider, GroupClassifier
from lid.ngrams import NgramSets
from lid.word_frequencies import WordFrequencies


class FixedEngine:
    """Returns fixed scores; each word of a text is a script, which counts as one letter of it."""

    def __init__(self, labels: Sequence[str], scores: Sequence[float]) -> None:
        self.labels = tuple(labels)
        self._scores = np.array(scores, np.float32)

    def score(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        letters = np.zeros((len(texts), len(scripts())), np.int32)
        for row, text in enumerate(texts):
            for script in text.split():
                letters[row, scripts().index(script)] += 1
        return np.tile(self._scores, (len(texts), 1)), letters


def make_decider(
    labels: Sequence[str], scores: Sequence[float], **group_classifiers: GroupClassifier
) -> Decider:
    return Decider(FixedEngine(labels, scores), group_classifiers, tuple(labels))


def test_only_labels_in_the_main_script_are_chosen() -> None:
    labels = ["deu_Latn", "rus_Cyrl", "jpn_Jpan", "zho_Hans", "other_xyz"]
    decider = make_decider(labels, [5, 4, 3, 2, -9])
    texts = ["Latn", "Cyrl Cyrl Latn", "Hani", "Hani Hira", "Hani Hani Latn Latn Latn"]
    best = [decider.labels[i] for i in decider.decide(texts).best]
    assert best == ["deu_Latn", "rus_Cyrl", "jpn_Jpan", "jpn_Jpan", "jpn_Jpan"]
    assert decider.decide([""]).letters[0] == 0


def test_candidates_are_a_closed_set() -> None:
    labels = ["deu_Latn", "fra_Latn", "rus_Cyrl", "other_xyz"]
    decider = make_decider(labels, [0, 1, 2, 9])
    allowed = np.array([True, True, False])
    decision = decider.decide(["Latn", "Cyrl"], allowed)
    assert [decider.labels[i] for i in decision.best] == ["fra_Latn", "fra_Latn"]
    assert decision.probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert decider.decide(["Latn"], allowed).probabilities[0] == pytest.approx(
        decision.probabilities[0]
    )


def test_a_single_letter_is_not_accepted_but_a_single_ideograph_may_be() -> None:
    decider = make_decider(["deu_Latn", "zho_Hans"], [5, 5])
    scores = decider.decide(["Latn", "Latn Latn", "Hani"]).acceptance_score
    assert scores[0] == 0 and scores[1] > 0.9 and scores[2] > 0.9


def test_word_frequencies_decide_between_labels_on_short_texts() -> None:
    lines = {"deu_Latn": {"own": ["latn"] * 9}, "fra_Latn": {"own": ["latn livre"] * 9}}
    lines["fra_Latn"]["own"] += ["livre"] * 90
    acceptance_model = AcceptanceModel(
        ngrams=NgramSets.build(lines, max_ngrams=50, size_bytes=4096),
        expected_shares={"deu_Latn": 0.7, "fra_Latn": 0.7},
        regression=AcceptanceRegression(),
        words=WordFrequencies.build(lines, max_words=10),
    )
    engine = FixedEngine(["deu_Latn", "fra_Latn", "other_xyz"], np.log([0.4, 0.5, 0.1]))
    decider = Decider(engine, {}, engine.labels, acceptance_model)
    best = [decider.labels[i] for i in decider.decide(["Latn Latn", "Latn " * 70]).best]
    assert best == ["deu_Latn", "fra_Latn"]  # the words of long texts are not looked up
    evidence, probabilities, _ = decider.evidence_for(["Latn Latn"])
    assert evidence.word_score[0] > 5
    assert probabilities[0].sum() < 1  # the out-of-set probability is kept


def test_out_of_set_probability_is_not_assigned_to_labels() -> None:
    decider = make_decider(["deu_Latn", "fra_Latn", "other_xyz"], [0, 0, np.log(2)])
    decision = decider.decide(["Latn"])
    assert decider.labels == ("deu_Latn", "fra_Latn")
    assert decision.probabilities[0] == pytest.approx([0.25, 0.25])
    assert decision.support[0] == pytest.approx(0.25)


def test_support_is_the_probability_of_the_macro_group() -> None:
    decider = make_decider(["bos_Latn", "hrv_Latn", "deu_Latn"], np.log([0.5, 0.3, 0.2]))
    decision = decider.decide(["Latn"])
    assert decision.support[0] == pytest.approx(0.8)


def test_group_classifier_redistributes_the_probability_of_its_group() -> None:
    classifier = GroupClassifier(
        engine=FixedEngine(["hrv_Latn", "bos_Latn"], np.log([0.9, 0.1])), weight=1.0
    )
    labels = ["bos_Latn", "hrv_Latn", "deu_Latn"]
    decider = make_decider(labels, np.log([0.5, 0.3, 0.2]), **{"bosnian-croatian": classifier})
    decision = decider.decide(["Latn", "Latn"])
    assert [decider.labels[i] for i in decision.best] == ["hrv_Latn"] * 2
    assert decision.probabilities[0] == pytest.approx([0.08, 0.72, 0.2], abs=1e-5)
    assert decision.support[0] == pytest.approx(0.8)


def test_group_classifier_respects_candidates() -> None:
    classifier = GroupClassifier(
        engine=FixedEngine(["hrv_Latn", "bos_Latn"], np.log([0.9, 0.1])), weight=1.0
    )
    labels = ["bos_Latn", "hrv_Latn", "deu_Latn"]
    decider = make_decider(labels, np.log([0.5, 0.3, 0.2]), **{"bosnian-croatian": classifier})
    decision = decider.decide(["Latn"], np.array([True, False, True]))
    assert decider.labels[decision.best[0]] == "bos_Latn"
    assert decision.probabilities[0, 1] == pytest.approx(0, abs=1e-6)


def test_known_ngrams_rerank_labels_and_keep_the_out_of_set_probability() -> None:
    lines = {"deu_Latn": {"own": ["bibliothek"]}, "fra_Latn": {"own": ["latn library"]}}
    acceptance_model = AcceptanceModel(
        ngrams=NgramSets.build(lines, max_ngrams=50, size_bytes=4096),
        expected_shares={"deu_Latn": 0.7, "fra_Latn": 0.7},
        regression=AcceptanceRegression(),
    )
    engine = FixedEngine(["deu_Latn", "fra_Latn", "other_xyz"], np.log([0.5, 0.3, 0.2]))
    decision = Decider(engine, {}, engine.labels, acceptance_model).decide(["Latn Latn"])
    assert decision.best[0] == 1
    assert decision.probabilities[0].sum() == pytest.approx(0.8)
    assert (
        decision.acceptance_score[0] == pytest.approx(decision.support[0])
        and decision.support[0] > 0.7
    )

"""The recall self-test on real text, and that it would notice a broken matcher."""

from pathlib import Path

import pytest

from eval.toxicity import self_test as toxicity_self_test
from eval.toxicity.self_test import noisy_entries, self_test
from nllb.io.wordlists import WordList

# One language of each script and habit that published detectors lose words in.
CODES = (
    "arb_Arab asm_Beng bod_Tibt cat_Latn dzo_Tibt ell_Grek fon_Latn heb_Hebr hin_Deva jpn_Jpan "
    "kan_Knda khm_Khmr kor_Hang lao_Laoo mal_Mlym mlt_Latn mni_Beng mya_Mymr nus_Latn sat_Olck "
    "shn_Mymr smo_Latn tam_Taml tha_Thai tur_Latn vie_Latn yor_Latn yue_Hant zho_Hans"
).split()
NUM_LINES = 120


def flores(data_dir: Path, code: str) -> list[str]:
    path = data_dir / "flores200_dataset" / "devtest" / f"{code}.devtest"
    return path.read_text(encoding="utf-8").split("\n")[:NUM_LINES]


@pytest.mark.parametrize("code", CODES)
def test_words_of_a_language_are_found(data_dir: Path, code: str) -> None:
    result = self_test(flores(data_dir, code), language=code, num_probes=100)
    assert result.recall.total >= 100
    assert (result.recall.share or 0) >= 0.99, result.missed
    assert (result.false_alarms.share or 0) <= 0.001
    assert result.failure is None


def test_a_matcher_that_deletes_marks_is_caught(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MarkDeleting(WordList):
        def matches(self, text):  # what the published demo does to its text, and not to its list
            return super().matches("".join(c if c.isalnum() else " " for c in text))

    monkeypatch.setattr(toxicity_self_test, "WordList", MarkDeleting)
    result = self_test(flores(data_dir, "hin_Deva"), language="hin_Deva", num_probes=100)
    assert (result.recall.share or 0) < 0.5
    assert "only" in (result.failure or "")


def test_a_matcher_without_boundaries_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def alarms() -> int:
        tests = (self_test(["at cat catch"] * 9, language="eng_Latn", num_probes=1, seed=seed)
                 for seed in range(6))  # fmt: skip
        return sum(test.false_alarms.count for test in tests)

    assert alarms() == 0
    monkeypatch.setattr("nllb.io.wordlists._stands", lambda *_: True)
    assert alarms() > 0


def test_noise_is_what_fires_on_clean_text() -> None:
    words = WordList.from_entries(["net", "crikey", "zounds"], language="eng_Latn")
    clean = ["the net result"] * 5 + ["nothing here"] * 995 + ["zounds"]
    assert noisy_entries(words, clean) == ("n…",)

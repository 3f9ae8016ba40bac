"""Shortlists: what is always in, coverage of held-out lines, storage beside the model."""

import numpy as np
import pytest

from nllb.errors import CheckpointError, DataError
from nllb.inference.shortlist import (
    SHORTLIST_FILE,
    Shortlists,
    build_shortlist,
    extra_tokens,
    measure_loss,
    write_shortlist,
)
from nllb.io.text import read_json
from nllb.languages import parse_language
from nllb.model.tokenizer import Tokenizer

FRENCH, RUSSIAN = parse_language("fra_Latn"), parse_language("rus_Cyrl")
LATIN = [
    f"the {a} {b} number {n}, again!"
    for n in range(10)
    for a in ("red", "blue", "orange", "yellow")
    for b in ("cat", "dog", "elephant", "tortoise")
]
CYRILLIC = [f"{a} {b} {n}" for n in range(10) for a in ("кошка", "собака") for b in ("спит", "ест")]


@pytest.fixture(scope="module")
def tokenizer(train_vocabulary, tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    lines = LATIN * 3 + CYRILLIC * 3
    path = train_vocabulary(lines, folder, vocab_size=150, hard_vocab_limit=False)
    return Tokenizer.build(path, ["eng_Latn", "fra_Latn", "rus_Cyrl"])


def test_the_list_has_the_texts_tokens_and_no_other_script(tokenizer) -> None:
    ids, report = build_shortlist(CYRILLIC, tokenizer, RUSSIAN, size=1000)
    names = [tokenizer.token(number) for number in ids.tolist()]
    assert ids.tolist() == sorted(set(ids.tolist())) and report.size == len(ids)
    assert 2 in ids and 3 in ids
    digits = [n for n in range(4, tokenizer.layout.num_pieces + 1) if tokenizer.token(n).isdigit()]
    assert digits and set(digits) <= set(ids.tolist())
    assert not any("a" <= character <= "z" for name in names[2:] for character in name)
    assert report.token_coverage == report.line_coverage == 1.0
    assert report.lines + report.held_out_lines == len(CYRILLIC)
    assert report.held_out_lines == len(CYRILLIC) // 10


def test_coverage_is_measured_on_lines_the_list_was_not_made_from(tokenizer) -> None:
    lines = ["кошка спит"] * 9 + ["the red cat"]  # the tenth line is held out
    _, report = build_shortlist(lines * 3, tokenizer, RUSSIAN, size=1000)
    assert report.line_coverage == 0.0 and report.token_coverage < 0.5
    with pytest.raises(DataError, match="too few for a shortlist"):
        build_shortlist(["кошка"], tokenizer, RUSSIAN)


def test_the_size_is_a_bound_and_frequent_tokens_come_first(tokenizer) -> None:
    whole, _ = build_shortlist(LATIN, tokenizer, FRENCH, size=1000)
    fewer, report = build_shortlist(LATIN, tokenizer, FRENCH, size=len(whole) - 3)
    assert report.size == len(fewer) == len(whole) - 3
    assert set(fewer.tolist()) < set(whole.tolist())


def test_lists_are_stored_beside_the_model_and_read_back(tokenizer, tmp_path) -> None:
    assert FRENCH not in Shortlists.read(tmp_path, vocabulary_size=tokenizer.vocabulary_size)
    for language, lines in ((FRENCH, LATIN), (RUSSIAN, CYRILLIC)):
        ids, report = build_shortlist(lines, tokenizer, language)
        write_shortlist(tmp_path, language, ids, report)
    found = Shortlists.read(tmp_path, vocabulary_size=tokenizer.vocabulary_size)
    assert FRENCH in found and RUSSIAN in found
    assert (found.ids(RUSSIAN) == build_shortlist(CYRILLIC, tokenizer, RUSSIAN)[0]).all()
    stored = read_json(tmp_path / "nllb.json")["shortlists"]
    assert stored["rus_Cyrl"]["size"] == len(found.ids(RUSSIAN))
    (tmp_path / SHORTLIST_FILE).write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="build it again"):
        Shortlists.read(tmp_path, vocabulary_size=tokenizer.vocabulary_size)


def test_extra_tokens_are_the_sources_own() -> None:
    found = extra_tokens([[5, 9, 9, 2], [3]], np.array([2, 3, 5]))
    assert [ids.tolist() for ids in found] == [[9], []]


def test_the_loss_is_the_difference_in_chrf(tokenizer, make_stand_in_for_loss) -> None:
    _, report = build_shortlist(LATIN, tokenizer, FRENCH)
    found = measure_loss(
        report,
        make_stand_in_for_loss,
        sources=LATIN,
        references=LATIN,
        source=FRENCH,
        target=FRENCH,
    )
    assert found.chrf_loss is not None and 40 < found.chrf_loss < 90  # listed outputs lose words
    with pytest.raises(DataError, match="must be line-aligned"):
        measure_loss(
            report,
            make_stand_in_for_loss,
            sources=LATIN[1:],
            references=LATIN,
            source=FRENCH,
            target=FRENCH,
        )


@pytest.fixture
def make_stand_in_for_loss():
    from nllb.inference.generator import Hypothesis

    class Copies:
        """Returns the segment, and half of it where the shortlist is on."""

        def generate(self, segments, *, source, target, search, prefixes=None):
            texts = [s[: len(s) // 2] if search.shortlist else s for s in segments]
            return [
                [
                    Hypothesis(
                        source=segment,
                        text=text,
                        token_ids=(),
                        log_probability=0.0,
                        score=0.0,
                        num_tokens=1,
                    )
                ]
                for segment, text in zip(segments, texts, strict=True)
            ]

    return Copies()

"""Each filter on lines made for it; scores that are kept; reasons in order."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars
import pytest
import regex

from data_pipeline.blocks import read_columns, read_facts
from data_pipeline.data_config import (
    CorpusConfig,
    DataConfig,
    FilterConfig,
    LanguageFilterConfig,
    ToxicityConfig,
)
from data_pipeline.filtering import filters
from data_pipeline.filtering.filter_stage import FilterChain, filter_bitext
from data_pipeline.filtering.filters import Pair, longest_runs
from data_pipeline.filtering.length_factors import FACTORS_PATH, read_length_factors
from data_pipeline.filtering.presets import threshold_errors
from data_pipeline.filtering.toxicity import count_entries, word_list
from data_pipeline.stages import Machine
from nllb.errors import DataError
from nllb.io.wordlists import WordList
from nllb.languages import languages, parse_language

PAIR = Pair(source="eng_Latn", target="fra_Latn", corpus="own")


def rows(*pairs: tuple[str, str]) -> polars.DataFrame:
    sources, targets = zip(*pairs, strict=True)
    frame = polars.DataFrame({"source": sources, "target": targets})
    return frame.with_columns(margin=polars.lit(None, dtype=polars.Float32))


def judge(
    frame: polars.DataFrame, config: FilterConfig, pair: Pair = PAIR, **more: Any
) -> list[Any]:
    before = polars.Series("reason", [None] * len(frame), dtype=polars.String)
    return FilterChain(config, more.get("detector")).run(frame, pair, before)[1].to_list()


STRICT = FilterConfig(preset="strict")


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("A good sentence.", "Une bonne phrase.", None),
        ("", "Une phrase.", "empty"),
        ("word " * 300, "mot " * 300, "too_long"),
        ("Yes.", "Oui, mais il faut dire que cela dépend de beaucoup de choses.", "length_ratio"),
        ("Hello world!", "hello World", "copy"),
        ("Привет, как дела?", "Salut, ça va ?", "source_script"),
        ("Hi, how are you?", "Привет, как дела?", "target_script"),
        ("12:30 - 14:45", "12:30 - 14:46", "source_script"),
        ("You have %d messages.", "Vous avez des messages.", "placeholders"),
        ("Hello {name}!", "Bonjour {name} !", None),
        ("It costs $5 here.", "Cela coûte 5 dollars ici.", None),
        ("See https://a.org/x now.", "Voir https://b.org/y là.", "urls"),
        ("Born in 1912 there.", "Né là en 1914 dit-on.", "numbers"),
        ("It has 3 rooms.", "Il a trois pièces.", None),
        ("About 12,500 people.", "Environ 12 500 personnes.", None),
        (
            "no no no no no no no no no no no",
            "non non non non non non non non non non",
            "repetition",
        ),
        ("Aaaaaaaaaaaaaaaaaaaaaah, no.", "Aaah, non, pas ça du tout.", "repetition"),
    ],
)
def test_the_strict_set(source: str, target: str, reason: str | None) -> None:
    assert judge(rows((source, target)), STRICT) == [reason]


def test_dollar_numbers_are_placeholders_in_interface_messages_only() -> None:
    frame = rows(("Delete $1 now.", "Supprimer maintenant."))
    interface = Pair(source="eng_Latn", target="fra_Latn", corpus="ui", interface=True)
    assert judge(frame, STRICT) == [None]
    assert judge(frame, STRICT, interface) == ["placeholders"]


def test_digits_of_all_scripts_are_equal() -> None:
    pair = Pair(source="eng_Latn", target="hin_Deva", corpus="own")
    frame = rows(("In 1947 it was so.", "१९४७ में ऐसा ही था।"), ("In 1947 it was.", "१९४८ में ऐसा था।"))
    assert judge(frame, STRICT, pair) == [None, "numbers"]


def test_every_script_of_the_table_has_its_letters() -> None:
    for language in languages():
        name = language.own_name
        if regex.search(r"\p{L}", name):
            pair = Pair(source=language.code, target="eng_Latn", corpus="own")
            score = filters.script_filter().measure(rows((name, "English")), pair)
            assert score["source_script_share"][0] >= 0.5, (language.code, name)


def test_margins_are_used_where_there_are_any() -> None:
    frame = rows(("A good line.", "Une bonne ligne."), ("Another one.", "Une autre ici."))
    frame = frame.with_columns(margin=polars.Series([1.2, 1.01], dtype=polars.Float32))
    assert judge(frame, STRICT) == [None, "margin"]


def test_empty_and_short_text_never_divides_by_zero() -> None:
    # Defect 8 of the anchors: their share of different n-grams fails on empty text and has an
    # order of at most one.
    repetition = filters.RepetitionFilter()
    scores = repetition.measure(rows(("", ""), ("a", ""), ("a b c", "a b c")), PAIR)
    assert scores["unique_words"].to_list() == [1.0, 1.0, 1.0]
    assert scores["longest_run"].to_list() == [0, 0, 0]


def test_longest_runs_are_those_of_a_loop() -> None:
    generator = random.Random(3)
    texts = [
        "",
        "a",
        "aab",
        "    x",
        "zzzzz yy",
        "ééé\n\n",
        "語語語語",
        "😀😀😀",
        "aaa",
        "éé",
        "語" * 9,
    ]
    texts += ["".join(generator.choices("ab é語😀\n", k=12)) for _ in range(3000)]
    runs = [[len(match.group()) for match in regex.finditer(r"(\S)\1*", text)] for text in texts]
    expected = [max((run for run in found if run >= 3), default=0) for found in runs]
    assert longest_runs(polars.Series(texts)).tolist() == expected
    assert longest_runs(polars.Series([], dtype=polars.String)).tolist() == []


def test_repetition_costs_no_more_than_a_share_of_the_rest() -> None:
    # Defect 12 of the anchors: a backtracking pattern took 85 % of a run of cheap filters.
    texts = [
        f"A sentence number {n} of some ordinary length about nothing much." for n in range(5000)
    ]
    frame = polars.DataFrame({"source": texts, "target": texts})
    pattern = regex.compile(r"(\S.{2,}?)(?: ?\1){3,}")

    def seconds(work: Callable[[], Any]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    repetition = filters.RepetitionFilter()
    repetition.measure(frame, PAIR)
    ours = min(seconds(lambda: repetition.measure(frame, PAIR)) for _ in range(3))
    theirs = seconds(lambda: [pattern.search(text) for text in [*texts, *texts]])
    assert ours * 3 < theirs


def test_language_threshold_rejects_by_default(word_detector: Any) -> None:
    # Defect 9 of the anchors: a default threshold of 0 filtered nothing.
    config = FilterConfig(preset="reference", language=LanguageFilterConfig())
    frame = rows(
        ("this is the way of it", "il est à la mer et je ne pas"),
        ("il est à la mer et je ne pas", "il est à la mer et je ne pas"),
        ("this is the way of it", "this is the way of it"),
    )
    assert judge(frame, config, detector=word_detector) == [
        None,
        "source_language",
        "target_language",
    ]
    assert len(word_detector.asked) == 2, "each different sentence is asked once"


def test_detectors_are_asked_in_batches_only(word_detector: Any) -> None:
    # Defect 2 of the anchors: with numpy 2 the stock binding fails on single texts.
    answers = word_detector.detect_batch(["il est à la mer", "this is the way"])

    class BatchOnly:
        def detect_batch(self, texts: Sequence[str]) -> list[Any]:
            assert len(texts) == len(set(texts))
            return [answers["this" in text] for text in texts]

    config = FilterConfig(preset="reference", language=LanguageFilterConfig())
    frame = rows(("this is the way", "il est à la mer"), ("this is it", "il est là"))
    assert judge(frame, config, detector=BatchOnly()) == [None, None]


def test_language_thresholds_and_exceptions(word_detector: Any) -> None:
    frame = rows(("xyz", "il est à la mer"))
    french = parse_language("fra_Latn")
    for section, reason in (
        (LanguageFilterConfig(threshold=0.6), "source_language"),
        (LanguageFilterConfig(threshold=0.6, thresholds={"eng_Latn": 0.5}), None),
        (LanguageFilterConfig(threshold=0.6, excluded_corpora=("own",)), None),
        (LanguageFilterConfig(threshold=0.999, thresholds={"eng_Latn": 0.1}), "target_language"),
        (
            LanguageFilterConfig(
                threshold=0.999, thresholds={"eng_Latn": 0.1}, excluded_languages=(french,)
            ),
            None,
        ),
    ):
        config = FilterConfig(preset="reference", language=section)
        assert judge(frame, config, detector=word_detector) == [reason]


def write_list(folder: Path, code: str, words: Sequence[str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{code}_twl.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def test_toxicity_by_imbalance_and_what_cannot_be_measured(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    write_list(lists, "eng_Latn", ["apple", "pear", "plum", "fig"])
    frame = rows(
        ("apple, pear and plum", "pomme, poire et prune"),
        ("apple and pear", "pomme et poire"),
        ("apple apple apple apple", "pomme"),
    )
    missing = FilterConfig(preset="reference", toxicity=ToxicityConfig(directory=lists))
    with pytest.raises(DataError, match=r"no toxicity list of fra_Latn.*unmeasured"):
        judge(frame, missing)
    word_list.cache_clear()
    unmeasured = FilterConfig(
        preset="reference", toxicity=ToxicityConfig(directory=lists, missing="unmeasured")
    )
    before = polars.Series("reason", [None] * 3, dtype=polars.String)
    scores, reason = FilterChain(unmeasured).run(frame, PAIR, before)
    assert reason.to_list() == [None] * 3
    assert scores["source_toxicity"].to_list() == [3, 2, 1], "different entries count, not words"
    assert scores["target_toxicity"].to_list() == [None] * 3, "no list is not 0"
    write_list(lists, "fra_Latn", ["cerise"])
    word_list.cache_clear()
    assert judge(frame, unmeasured) == ["toxicity_imbalance", None, None]
    with pytest.raises(DataError, match=r"toxicity\.directory: the folder .* does not exist"):
        judge(frame, FilterConfig(toxicity=ToxicityConfig(directory=tmp_path / "gone")))


def test_toxicity_does_not_slow_with_the_length_of_the_list(tmp_path: Path) -> None:
    # Defect 10 of the anchors: a linear scan over the list took a third of the whole run.
    texts = [f"Some ordinary sentence number {n} that holds no listed word." for n in range(4000)]

    def seconds(num_words: int) -> float:
        lists = tmp_path / str(num_words)
        write_list(lists, "eng_Latn", [f"listed{n}word" for n in range(num_words)])
        words = word_list(ToxicityConfig(directory=lists), "eng_Latn")
        assert words is not None
        times = []
        for _ in range(3):
            start = time.process_time()
            words.counts(texts)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(4000) < 5 * seconds(40) + 0.05


def test_counting_only_where_an_entry_may_stand_counts_the_same() -> None:
    generator = random.Random(4)
    entries = ["Fig", "plum tree", "l'heure", "don't", "naïve", "x-ray", "pêche", "ʻokina"]
    words = WordList.from_entries(entries, language="fra_Latn")
    pieces = [
        *entries,
        "FIG",
        "fig's",
        "dont",
        "plum  tree",
        "don`t",
        "naive",
        "and",
        "x ray",
        "Pe\u0302che",
    ]
    texts = [" ".join(generator.choices(pieces, k=4)) for _ in range(2000)] + ["", "fig"]
    counts = count_entries(words, polars.Series(texts))
    assert counts.tolist() == words.counts(texts, distinct=True).tolist()
    assert counts.sum() > 2000


@pytest.mark.parametrize("texts", [[], [""], ["क्या देश", "fig ्"], ["fig", "a fig"]])
def test_columns_where_no_text_or_every_text_folds_apart(texts: list[str]) -> None:
    words = WordList.from_entries(["fig", "देश"], language="hin_Deva")
    expected = words.counts(texts, distinct=True).tolist()
    assert count_entries(words, polars.Series(texts, dtype=polars.String)).tolist() == expected
    assert sum(expected) == (2 if len(texts) == 2 else 0)


def test_thresholds_are_checked_and_suggested() -> None:
    (error,) = threshold_errors("strict", {"max_lenght": 3})
    assert "did you mean max_length" in error and "min_unique_words (0.3)" in error
    assert not list(threshold_errors("reference", {"max_length_ratio": 4}))


def test_the_shipped_factors_cover_nearly_all_languages() -> None:
    factors = read_length_factors(FACTORS_PATH)
    known = {language.code for language in languages()}
    assert factors["eng_Latn"] == 1 and set(factors) <= known and len(factors) >= 190
    assert 2 < factors["zho_Hans"] < 5 and 0.7 < factors["deu_Latn"] < 1.1


@pytest.mark.parametrize("row", ["eng_Latn\tmany", "eng_Latn\t0", "eng_Latn\tnan"])
def test_a_factor_must_be_a_number_above_zero(tmp_path: Path, row: str) -> None:
    path = tmp_path / "factors.tsv"
    path.write_text(f"language\tfactor\n{row}\n")
    with pytest.raises(DataError, match=r"factors\.tsv"):
        read_length_factors(path)


def test_thresholds_are_applied_again_without_measuring(
    tmp_path: Path,
    make_block: Callable[..., Any],
    make_config: Callable[..., DataConfig],
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = ["A good line here.", "Short", "no " * 20, "Born in 1912 there.", "skipped"]
    targets = [
        "Une bonne ligne ici.",
        "Une bien plus longue ligne",
        "non " * 20,
        "Né en 1914 là.",
        "x",
    ]
    block = make_block(sources, targets, reasons=[None] * 4 + ["empty"])
    corpus = CorpusConfig(name="corpus", format="tsv", path="{source}-{target}.tsv")

    def run(**thresholds: float) -> tuple[list[str | None], dict[str, Any]]:
        config = make_config(
            corpora=(corpus,), filter=FilterConfig(preset="strict", thresholds=thresholds)
        )
        (done,) = filter_bitext(config, [block], tmp_path / "out", machine)
        frame = read_columns(done.path)
        return frame["reason"].cast(polars.String).to_list(), read_facts(done.path)

    reasons, facts = run()
    assert reasons == [None, None, "repetition", "numbers", None]
    assert (facts["rows_in"], facts["rows_out"]) == (4, 2)
    measured: list[int] = []
    measure = filters.ColumnFilter.measure

    def counting(self: Any, frame: polars.DataFrame, pair: Pair) -> polars.DataFrame:
        measured.append(len(frame))
        return measure(self, frame, pair)

    monkeypatch.setattr(filters.ColumnFilter, "measure", counting)
    assert run(min_script_share=0.4)[0] == reasons and measured == []
    # What an earlier filter had rejected is measured only where it now comes through.
    assert run(max_number_mismatch=1.0)[0] == [None, None, "repetition", None, None]
    assert measured == [1]


def test_swapped_sides_have_their_own_reason_and_are_reported(
    make_block: Callable[..., Any],
    make_config: Callable[..., DataConfig],
    word_detector: Any,
    tmp_path: Path,
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    russian = Pair(source="eng_Latn", target="rus_Cyrl", corpus="own")
    frame = rows(
        ("Привет, как дела?", "Hi, how are you?"),
        ("Hi, how are you?", "Привет, как дела?"),
        ("Привет, как дела?", "Как дела, привет?"),
    )
    assert judge(frame, STRICT, russian) == ["swapped_sides", None, "source_script"]
    config = FilterConfig(preset="strict", language=LanguageFilterConfig())
    french = rows(
        ("je ne suis pas un de ces gens", "i was not one of the people"),
        ("i was not one of the people", "je ne suis pas un de ces gens"),
        ("je ne suis pas un de ces gens", "il est dans le jardin et la maison"),
    )
    assert judge(french, config, detector=word_detector) == [
        "swapped_sides",
        None,
        "source_language",
    ]
    reference = FilterConfig(preset="reference", language=LanguageFilterConfig())
    assert judge(french, reference, detector=word_detector)[0] == "source_language"
    block = make_block(frame["source"], frame["target"], name="own/eng_Latn-rus_Cyrl/00000")
    filter_bitext(make_config(filter=STRICT), [block], tmp_path / "out", machine)
    assert "own/eng_Latn-rus_Cyrl: 33 % of the lines have swapped sides" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Home | News | Contact us", True),
        ("Startseite » Produkte » Kontakt", True),
        ("Home > Products > Chairs", True),
        ("Start · Forum · Hilfe · Impressum", True),
        ("The ratio of a | b | c is explained in the second chapter of this book.", False),
        ("Is 3 > 2 or 2 > 3?", False),
        ("A plain sentence without separators", False),
        ("either/or, and/or, his/her", False),
        ("He said « no » and left the room without another word to any of us", False),
    ],
)
def test_navigation_is_rejected_where_it_is_asked_for(text: str, expected: bool) -> None:
    frame = rows((text, "Une phrase qui est aussi longue que l'autre, à peu près."))
    config = FilterConfig(preset="reference", navigation=True)
    assert judge(frame, config) == ["navigation" if expected else None]
    assert judge(frame, FilterConfig(preset="reference")) == [None]


def test_language_scores_do_not_depend_on_the_texts_beside(data_dir: Path) -> None:
    """A shard that has not seen a text before gives the same bytes as a run that has."""
    import lid
    from nllb.io.corpora import open_corpus

    corpus = open_corpus(data_dir / "tatoeba")
    texts = []
    for code in ("fra_Latn", "ces_Latn", "tgl_Latn", "zho_Hans", "srp_Cyrl", "swe_Latn"):
        pairs = zip(range(120), corpus.pairs("eng_Latn", code), strict=False)
        texts += [side.text for _, pair in pairs for side in (pair.source, pair.target)]
    random.Random(0).shuffle(texts)
    detector = lid.Detector.load()
    whole = detector.detect_batch(texts, top=3)
    position, generator = 0, random.Random(1)
    while position < len(texts):
        count = generator.choice([1, 2, 3, 7, 40])
        part = detector.detect_batch(texts[position : position + count], top=3)
        assert part == whole[position : position + count]
        position += count

import random
from pathlib import Path

import pytest

from lid.train.collection import (
    clean_message,
    collect,
    evaluation_hashes,
    is_for_calibration,
    is_for_tuning,
    out_of_set_code,
    reserved_languages,
    script_share,
    withheld_languages,
)
from lid.train.lid_config import LidConfig, OutOfSetConfig, SamplingConfig, SourceConfig
from lid.train.line_sampling import (
    keywords,
    label_sizes,
    sample_label,
    split_held_out,
    without_keywords,
)
from nllb.errors import DataError
from nllb.io.benchmarks import sentence_hash
from nllb.languages import parse_language
from nllb.languages.normalization import normalize_for_detection


def config(data: Path, **changes: object) -> LidConfig:
    settings: dict[str, object] = {
        "kind": "lid",
        "data_dir": data,
        "sources": (
            SourceConfig(path="nllb_seed"),
            SourceConfig(path="udhr", licence="public"),
        ),
        "evaluation": (Path("test"),),
        "out_of_set": OutOfSetConfig(sources=(Path("udhr_other"),), min_lines=10),
    }
    return LidConfig(**{**settings, **changes})  # type: ignore[arg-type]


def test_collects_unique_lines_by_label_and_domain(
    corpora_dir: Path, sentences: dict[str, list[str]]
) -> None:
    collected = collect(config(corpora_dir), quiet=True)
    assert set(collected.lines) == set(sentences)
    lines = collected.lines["fra_Latn"]
    assert len(lines["nllb_seed"]) == 9  # 10 distinct lines, one of which is in the test set
    assert len(lines["udhr"]) == 10
    assert all(line == normalize_for_detection(line) for line in lines["nllb_seed"])
    assert collected.counts()["fra_Latn"] == {"nllb_seed": 9, "udhr": 10}


def test_lines_in_an_evaluation_set_are_dropped_and_counted(
    corpora_dir: Path, sentences: dict[str, list[str]]
) -> None:
    collected = collect(config(corpora_dir), quiet=True)
    assert collected.overlap == {"nllb_seed": 4}
    first = normalize_for_detection(sentences["fra_Latn"][0])
    assert first not in collected.lines["fra_Latn"]["nllb_seed"]
    evaluation_set_hashes = evaluation_hashes((corpora_dir / "test",))
    assert sentence_hash(sentences["deu_Latn"][0].upper()) in evaluation_set_hashes
    with pytest.raises(DataError, match="4 of nllb_seed"):
        collect(config(corpora_dir, on_overlap="refuse"), quiet=True)


def test_reserved_out_of_set_languages_are_not_collected(corpora_dir: Path) -> None:
    reserved = reserved_languages([corpora_dir / "udhr_other"])
    collected = collect(config(corpora_dir), quiet=True)
    trained = {label.removeprefix("other_") for label in collected.out_of_set}
    everything = {"ina", "vol", "epo", "tlh"}
    assert trained == {code for code in everything - {"epo"} if is_for_tuning(code)}
    assert reserved == {code for code in everything if not is_for_tuning(code)}
    assert not trained & reserved


def test_splits_of_out_of_set_languages_are_stable_and_even() -> None:
    codes = [a + b + c for a in "abcdefgh" for b in "aeiou" for c in "klmnop"]
    tuning = [code for code in codes if is_for_tuning(code)]
    assert 90 <= len(tuning) <= 150
    part = [code for code in codes if is_for_calibration(code, 0.25)]
    assert 40 <= len(part) <= 80 and not any(is_for_calibration(code, 0.0) for code in codes)
    assert out_of_set_code(Path("und__013.tsv")) == "und-013"
    assert out_of_set_code(Path("rup__rmy.tsv")) == "rup"


def test_only_languages_with_prose_are_withheld_for_calibration(corpora_dir: Path) -> None:
    codes = [code for code in ("aaa", "bbb", "ccc", "ddd", "eee") if is_for_calibration(code, 0.5)]
    settings = config(
        corpora_dir,
        out_of_set=OutOfSetConfig(sources=(Path("udhr_other"),), calibration_fraction=0.5),
    )
    assert 0 < len(codes) < 5
    out_of_set = {f"other_{code}": {"mediawiki": ["save page"]} for code in codes}
    assert withheld_languages(settings, out_of_set) == {}
    for domains in out_of_set.values():
        domains["udhr_other"] = ["all are born free"]
    withheld = withheld_languages(settings, out_of_set)
    assert withheld == {label: ["all are born free"] for label in out_of_set}
    trained = {"other_aaa", "other_bbb", "other_ccc", "other_ddd", "other_eee"} - set(out_of_set)
    assert withheld_languages(settings, {label: {"udhr_other": ["x"]} for label in trained}) == {}


def test_excluded_languages_are_not_read(corpora_dir: Path) -> None:
    sources = (
        SourceConfig(path="nllb_seed"),
        SourceConfig(path="udhr", excluded_languages=(parse_language("fra"),)),
    )
    collected = collect(config(corpora_dir, sources=sources), quiet=True)
    assert set(collected.lines["fra_Latn"]) == {"nllb_seed"}
    assert "udhr" in collected.lines["deu_Latn"]
    assert collected.dropped["udhr: not in fra_Latn"] == 10


def test_only_the_languages_of_a_source_are_read(corpora_dir: Path) -> None:
    sources = (
        SourceConfig(path="nllb_seed"),
        SourceConfig(path="udhr", languages=(parse_language("deu"),)),
    )
    collected = collect(config(corpora_dir, sources=sources), quiet=True)
    assert set(collected.lines["fra_Latn"]) == {"nllb_seed"}
    assert "udhr" in collected.lines["deu_Latn"]


def test_errors_name_languages_without_text_and_missing_folders(corpora_dir: Path) -> None:
    with pytest.raises(DataError, match="no training text for ita_Latn"):
        collect(
            config(corpora_dir, languages=(parse_language("fra"), parse_language("ita"))),
            quiet=True,
        )
    with pytest.raises(DataError, match="no evaluation text"):
        evaluation_hashes((corpora_dir / "nothing",))


def test_markup_is_removed_from_messages() -> None:
    message = (
        "{{PLURAL:$1|page|{{x}}}} of <b>[[Main page|home]]</b> &nbsp; https://a.b/c '''now''' %s"
    )
    assert normalize_for_detection(clean_message(message)) == "of home now"


def test_script_share() -> None:
    assert script_share("hello", "eng_Latn") == 1 and script_share("hello", "rus_Cyrl") == 0
    assert script_share("привет", "rus_Cyrl") == 1
    assert 0.5 < script_share("在 sars 的低浓度抑制作用后", "zho_Hans") < 1
    assert script_share("قال", "knc_Arab") == 1


def test_held_out_lines_are_not_training_lines() -> None:
    lines = {"a": {"x": [f"line {n}" for n in range(200)], "y": ["only", "two"]}}
    kept, held_out = split_held_out(lines, fraction=0.05, max_lines=60)
    assert len(held_out["a"]) == 10 and kept["a"]["y"] == ["only", "two"]
    assert not set(held_out["a"]) & set(kept["a"]["x"])
    assert split_held_out(lines, fraction=0.05, max_lines=60) == (kept, held_out)


def test_label_sizes_are_balanced_and_limited() -> None:
    sizes = label_sizes(
        {"few": 10, "some": 400, "many": 100_000},
        SamplingConfig(lines=1000, max_lines=2000, exponent=0.5, max_repeats=4),
    )
    assert sizes == {"few": 40, "some": 632, "many": 2000}


def test_sampling_balances_domains_and_repeats_only_extracts() -> None:
    rng = random.Random(1)
    news = [f"news {'word ' * 35}{n}" for n in range(900)]
    talk = [f"talk {'word ' * 35}{n}" for n in range(9)]
    settings = SamplingConfig(domain_exponent=0.0, extract_rate=0.0, join_rate=0.0)
    sampled = sample_label({"news": news, "talk": talk}, 200, settings, rng)
    assert len(sampled) == 200
    assert sum(line in set(talk) for line in sampled) == 9
    assert sum(line in set(news) for line in sampled) == 100
    assert sample_label({"news": news}, 50, settings, random.Random(3)) == sample_label(
        {"news": news}, 50, settings, random.Random(3)
    )


def test_lines_with_keywords_of_interface_messages_are_sampled_less() -> None:
    """The Fulfulde word `hello` (page) is in a fifth of the interface messages."""
    messages = [f"hello {chr(97 + n % 26) * 5}{n} ngoo yi" for n in range(40)]
    messages += [f"momtu {chr(97 + n % 26) * 5}{n} ngoo yi" for n in range(160)]
    prose = [f"ngoo jemma {n} yi" for n in range(1000)]
    domains = {"mediawiki": messages, "prose": prose}
    found = keywords(domains, "mediawiki", 0.02)
    assert found == {"hello": 0.2, "momtu": 0.8}
    assert keywords({"mediawiki": messages}, "mediawiki", 0.02) is None
    bare = without_keywords({"fuv_Latn": domains}, {"mediawiki"}, 0.02)["fuv_Latn"]
    assert bare["prose"] is prose and len(bare["mediawiki"]) == 200
    assert bare["mediawiki"][0] == "aaaaa0 ngoo yi"
    messages = [line.replace("momtu", "ngoo") for line in messages]
    settings = SamplingConfig(
        domain_exponent=1, extract_rate=0, join_rate=0, max_keyword_fraction=0.02
    )
    domains = {"mediawiki": messages, "prose": prose}
    drawn, usual = (
        sample_label(domains, 6000, settings, random.Random(1), names)
        for names in (("mediawiki",), ())
    )
    assert len(drawn) == len(usual) == 6000
    assert sum("hello" in line for line in usual) == 200
    assert 5 <= sum("hello" in line for line in drawn) <= 50

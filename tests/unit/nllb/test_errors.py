from nllb.errors import CheckpointError, ConfigError, DataError, LanguageError, did_you_mean


def test_nearest_names_read_as_a_question() -> None:
    assert did_you_mean("trian", ["train", "test"]) == "; did you mean train?"
    assert did_you_mean("FRENCH", ["French"]) == "; did you mean French?"
    assert did_you_mean("zzz", ["train"]) == ""
    assert " or " in did_you_mean("trai", ["train", "trail"])


def test_exit_codes_tell_bad_usage_from_bad_data() -> None:
    assert {LanguageError.exit_code, ConfigError.exit_code, CheckpointError.exit_code} == {2}
    assert DataError.exit_code == 1


def test_the_middle_of_very_long_words_is_left_out() -> None:
    text = str(DataError(f"a.txt:3: '{'x' * 5000}' is not a number"))
    assert text.startswith("a.txt:3: 'xxx") and text.endswith("xxx' is not a number")
    assert len(text) < 400 and "..." in text
    assert str(DataError("a b " * 500)) == "a b " * 500

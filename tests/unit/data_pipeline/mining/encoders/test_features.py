"""Features: what agrees across scripts, what does not depend on the batch, odd input."""

from collections import Counter

from data_pipeline.mining.encoders.features import extract


def keys(sentence: str) -> Counter[int]:
    return Counter(extract([sentence]).key.tolist())


def test_features_of_a_sentence_do_not_depend_on_its_batch() -> None:
    sentences = ["Hello world", "", "北京 2008", "Да", "ก็ดี", "a", "été", "!!!", "x" * 5000]
    together = extract(sentences)
    for number, sentence in enumerate(sentences):
        assert Counter(together.key[together.sentence == number].tolist()) == keys(sentence)
    assert not keys("")
    assert not keys("!!!")


def test_names_and_numbers_agree_across_scripts() -> None:
    def shared(one: str, other: str) -> float:
        return (keys(one) & keys(other)).total() / min(keys(one).total(), keys(other).total())

    for one, other in [
        ("Washington", "ワシントン"),
        ("Washington", "واشنطن"),
        ("Владимир", "Vladimir"),
        ("Αθήνα 1896", "Athena 1896"),
        ("١٩٩٩", "1999"),
    ]:
        assert shared(one, other) > 0.1, (one, other)
        assert shared(one, other) > 2 * shared("Buenos Aires", other), (one, other)


def test_case_width_and_space_do_not_matter() -> None:
    assert keys("HELLO  World") == keys("hello world ")
    assert keys("２０２４") == keys("2024")


def test_characters_of_unsegmented_scripts_are_features() -> None:
    assert (keys("北京") & keys("我在北京")).total() >= 3


def test_lone_surrogates_and_private_characters_pass() -> None:
    assert extract(["\ud800 abc \ue000"]).key.size > 0

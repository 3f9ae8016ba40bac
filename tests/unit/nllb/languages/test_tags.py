import pytest

from nllb.languages import languages, parse_language
from nllb.languages.tags import language_tag


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("swh_Latn", "sw"),
        ("zho_Hant", "zh-Hant"),
        ("arb_Arab", "ar"),
        ("arb_Latn", "ar-Latn"),
        ("kas_Deva", "ks-Deva"),
        ("heb_Hebr", "he"),
        ("ind_Latn", "id"),
        ("ace_Arab", "ace-Arab"),
    ],
)
def test_tag_of_a_language(code: str, tag: str) -> None:
    assert language_tag(parse_language(code)) == tag


def test_tags_are_unique() -> None:
    tags = [language_tag(language) for language in languages()]
    assert len(set(tags)) == len(tags)

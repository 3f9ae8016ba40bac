import pytest

from nllb.documents.plurals import gettext_plural, plural_categories
from nllb.languages import languages, parse_language


@pytest.mark.parametrize(
    ("code", "categories", "forms"),
    [
        ("jpn_Jpan", ("other",), 1),
        ("deu_Latn", ("one", "other"), 2),
        ("rus_Cyrl", ("one", "few", "many", "other"), 3),
        ("arb_Arab", ("zero", "one", "two", "few", "many", "other"), 6),
        ("ace_Latn", None, 2),
    ],
)
def test_categories_and_forms(code, categories, forms):
    language = parse_language(code)
    assert plural_categories(language) == categories
    plural = gettext_plural(language)
    assert len(plural.categories) == forms
    assert plural.header.startswith(f"nplurals={forms}; plural=")


def test_forms_have_their_categories():
    assert gettext_plural(parse_language("rus_Cyrl")).categories == ("one", "few", "many")
    assert gettext_plural(parse_language("rus_Cyrl")).singular == (False, False, False)
    assert gettext_plural(parse_language("deu_Latn")).singular == (True, False)


def test_any_language_has_plural_forms():
    for language in languages()[::7]:
        assert gettext_plural(language).categories

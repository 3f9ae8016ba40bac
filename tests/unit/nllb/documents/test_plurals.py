import pytest

from nllb.documents.plurals import (
    example_numbers,
    find_number,
    gettext_plural,
    plural_categories,
)
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


@pytest.mark.parametrize(
    ("code", "category", "numbers"),
    [
        ("pol_Latn", "one", ("1",)),
        ("pol_Latn", "few", ("22", "82", "142")),
        ("pol_Latn", "other", ("1.5", "0.5")),
        ("arb_Arab", "zero", ("0",)),
        ("fra_Latn", "many", ("1000000",)),
        ("ace_Latn", "one", ("1",)),
    ],
)
def test_examples_are_numbers_of_their_category(code, category, numbers):
    assert example_numbers(parse_language(code), category) == numbers


@pytest.mark.parametrize("language", languages()[::5], ids=str)
def test_every_category_has_examples(language):
    for category in plural_categories(language) or ():
        assert example_numbers(language, category)


@pytest.mark.parametrize(
    ("placeholders", "number"),
    [
        (["{name}", "#"], "#"),
        (["%1$s", "%2$d"], "%2$d"),
        (["%(user)s", "%(num_files)d"], "%(num_files)d"),
        (["{{name}}", "{{ itemCount }}"], "{{ itemCount }}"),
        (["{ $user }", "{ $n }"], "{ $n }"),
        (["%s"], "%s"),
        (["%s", "%s"], None),
        (["{name}", "{place}"], None),
        ([], None),
    ],
)
def test_the_placeholder_of_the_number(placeholders, number):
    assert find_number(placeholders) == number

import pytest

from nllb.translation.literals import find_literals, missing_literals, missing_numbers


@pytest.mark.parametrize(
    ("source", "output", "missing"),
    [
        ("In 1987 and 2,500 more", "En 1987 et 2 500 de plus", ()),
        ("In 1987 and 2,500 more", "En 1978 et 2.500 de plus", ("1987",)),
        ("At 18:10 o'clock", "À 18h10", ()),
        ("There were 3 cats", "Il y avait trois chats", ()),
        ("A sum of 20,000 yuan", "2万元", ()),
        ("It has 1987 pages", "इसमें १९८७ पृष्ठ हैं", ()),
        ("It has 45 pages", "Il a quarante pages", ("45",)),
        ("12 came in 2012", "Im Jahr 2012 kamen zwölf", ("12",)),
        ("In 2012", "12 kamen", ("2012",)),
        ("10 people", "10 000 Menschen", ("10",)),
        ("A sum of 2,500,000", "2,5 Millionen", ()),
        ("2.5 million", "2 500 000", ()),
        ("On 2024-02-29 at 14:05", "Le 29/02/2024 à 14 h 05", ()),
        ("1 2 3 4 5", "1 2 3 4 5", ()),
        ("Room 12, floor 34", "Zimmer 12, Stock 34", ()),
        ("", "", ()),
    ],
)
def test_missing_numbers(source, output, missing):
    assert missing_numbers(source, output) == missing


@pytest.mark.parametrize(
    ("text", "literals"),
    [
        (
            "Visit https://example.org/path?x=1&y=2, or www.a.b!",
            ["https://example.org/path?x=1&y=2", "www.a.b"],
        ),
        ("Write to info@example.org or @anna.", ["info@example.org", "@anna"]),
        (
            "Hello {name}, you have %d new of %1$s in %(folder)s",
            ["{name}", "%d", "%1$s", "%(folder)s"],
        ),
        ("{{person.name}} has ${count} and {0}", ["{{person.name}}", "${count}", "{0}"]),
        (r"{\\i1}Never.{\\i0}", [r"{\\i1}", r"{\\i0}"]),
        ('Delete <b>all</b> &amp; <br/> <a href="x">', ["<b>", "</b>", "<br/>", '<a href="x">']),
        (
            "100 % sure, 5 < 6 and a > b; 50% of it, AT&T, a {set of words}, <<he said>>, &quot;",
            [],
        ),
        ("It costs %5.2f or %-10s", ["%5.2f", "%-10s"]),
    ],
)
def test_literals_are_found(text, literals):
    assert find_literals(text) == literals


def test_literals_are_missing_by_number():
    assert missing_literals("<b>one</b> <b>two</b>", "<b>un</b> deux") == ("<b>", "</b>")
    assert missing_literals("See www.a.org.", "Voir www.a.org") == ()
    assert missing_literals("Hi @anna", "Salut Anna") == ("@anna",)

"""Templates have places and nothing else."""

import pytest

from nllb.config.templates import fill_template, template_places
from nllb.errors import ConfigError


def test_places_are_filled() -> None:
    values = {"source": "eng_Latn", "out": "a{b}"}
    assert fill_template("x/{source}-{source}.{out}", values) == "x/eng_Latn-eng_Latn.a{b}"
    assert fill_template("awk '{{print}}' {out}", values) == "awk '{print}' a{b}"
    assert template_places("{b}{a}{b}") == ["b", "a"]
    assert fill_template("plain", {}) == "plain"


@pytest.mark.parametrize(
    "template",
    [
        "{out:>999999999}",
        "{out!r}",
        "{out.__class__}",
        "{out[0]}",
        "{}",
        "{",
        "}",
        "{ out }",
        "a}b",
    ],
)
def test_formats_and_attributes_are_refused(template: str) -> None:
    for call in (template_places, lambda text: fill_template(text, {"out": "x"})):
        with pytest.raises(ConfigError, match="the brace at character"):
            call(template)


def test_a_place_without_a_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"contains \{input\}.*known: out"):
        fill_template("{out} {input}", {"out": "x"})

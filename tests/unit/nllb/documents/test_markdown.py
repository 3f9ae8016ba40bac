import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nllb.documents.formats.markdown import MarkdownFormat
from nllb.documents.markdown_writing import escape_block_start, inline_writer
from nllb.documents.units import CodeKind, FormatOptions, InlineCode
from nllb.languages import parse_language

SOURCE = """---
title: "My doc"
layout: x
---
# Head *line* ##

Para with `code`, **bold
and** [a link](http://x.y "t") and ![alt pic](a.png), <http://a.b>
go on\\
hard [ref] and [full][ref] \\* star &amp; <b>html</b>.

> quote one
> quote two

1. item one
   more
   - [ ] sub item

| A b | C |
|---|---|
| x y | `a` z |

```py
code
```

[ref]: http://x "title"

Set text
===
<div>
raw</div>

::: note
"""
EXPECTED = """---
title: "MY DOC"
layout: x
---
# HEAD *LINE* ##

PARA WITH `code`, **BOLD AND** [A LINK](http://x.y "t") AND
![ALT PIC](a.png), <http://a.b> GO ON\\
HARD [REF][ref] AND [FULL][ref] * STAR & <b>HTML</b>.

> QUOTE ONE
> QUOTE TWO

1. ITEM ONE
   MORE
   - [ ] SUB ITEM

| A B | C |
|---|---|
| X Y | `a` Z |

```py
code
```

[ref]: http://x "title"

SET TEXT
===
<div>
raw</div>

::: note
"""


def test_emphasis_in_the_label_of_a_link_is_no_emphasis_of_the_text(rendered):
    definition = "\n\n[the **old**]: http://x.org\n"
    done = rendered("**One** of [the **old**][the **old**] ones." + definition, "a.md")
    assert done.text == "**ONE** OF [THE **OLD**][the **old**] ONES." + definition


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_is_translated_and_the_rest_is_kept(rendered, newline):
    source = SOURCE.replace("\n", newline)
    assert rendered(source, "a.md").text == EXPECTED.replace("\n", newline)
    assert rendered(source, "a.md", lambda text: text).data == source.encode()


def test_code_and_protected_text_are_codes(rendered):
    [unit] = rendered("Call `f(x)` at <http://a.b> now.\n", "a.md").units
    assert [part.text for part in unit.fragments if not isinstance(part, str)] == [
        "f(x)",
        "http://a.b",
    ]


def test_a_link_that_is_found_by_its_text_keeps_its_label(rendered):
    source = "[The text][]\n\nSee [the text].\n\n[the text]: http://x\n"
    done = rendered(source, "a.md")
    assert done.text == source.replace("[The text][]", "[THE TEXT][The text]").replace(
        "See [the text].", "SEE [THE TEXT][the text]."
    )


@pytest.mark.parametrize("text", ["1. x", "- x", "# x", "> x", "+ x", "12) x", "===", "---", "~~~"])
def test_a_translation_begins_no_block(rendered, text):
    assert escape_block_start(text) != text
    done = rendered("Some text\n", "a.md", lambda _: text)
    tokens = MarkdownIt("commonmark").parse(done.text)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert tokens[1].children[0].content == text


@pytest.mark.parametrize("text", ["a *b* c", "`x`", "[a](b)", "<b>", "&amp;", "__init__", "\\*"])
def test_special_characters_are_text(rendered, text):
    done = rendered("Some text\n", "a.md", lambda _: f"Word {text} word")
    [_, inline, _] = MarkdownIt("commonmark").parse(done.text)
    assert [child.content for child in inline.children] == [f"Word {text} word"]


LINES = st.sampled_from(
    "# h;text *a* b;- item;  - sub `c`;> quote [x](y);1. one;```;;    code;| a | b |;|---|---|;"
    "<div>;</div>;[x]: y;a  ;b\\;***;_a_ __b__;![i](j);~~s~~;**;[z][x];&lt; &#65;".split(";")
)


@given(st.lists(LINES, max_size=12).map("\n".join))
def test_any_text_comes_back(text):
    document = MarkdownFormat.parse(text.encode(), FormatOptions())
    german = parse_language("de")
    same = {unit.key: unit.fragments for unit in document.units}
    assert document.render(same, source=None, target=german) == text.encode()
    changed = {
        unit.key: [part.upper() if isinstance(part, str) else part for part in unit.fragments]
        for unit in document.units
    }
    done = document.render(changed, source=None, target=german)
    again = MarkdownFormat.parse(done, FormatOptions())

    def shown(units):
        return ["".join(unit.text.split()).upper() for unit in units]

    assert shown(again.units) == shown(document.units)


OPEN, CLOSE = (InlineCode(kind, 1, "**") for kind in (CodeKind.OPEN, CodeKind.CLOSE))
UNDERLINE, LINE_END = (InlineCode(kind, 2, "_") for kind in (CodeKind.OPEN, CodeKind.CLOSE))


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        (["A", OPEN, " bold ", CLOSE, "word"], "A **bold** word"),
        (["Grund", OPEN, ".", CLOSE, " Die"], "**Grund.** Die"),
        (["这是", OPEN, "强调。", CLOSE, "文字"], "这是**强调**。文字"),
        (["see (", OPEN, "this)", CLOSE, "that"], "see (**this**)that"),
        (["un", UNDERLINE, "usual", LINE_END, "ly so"], "_unusually_ so"),
        ([OPEN, UNDERLINE, "x", LINE_END, CLOSE, "y"], "**_xy_**"),
    ],
)
def test_emphasis_goes_where_it_is_read(fragments, expected):
    write = inline_writer(newline="", width=80, in_table=False, starts_block=True)
    assert write(fragments) == expected


WORDS = st.sampled_from(["a", "Grund.", " ", ".", "(b)", "强调。", "«c»", "`", "*", "_d", "é", "-"])


@given(st.lists(WORDS, max_size=3), st.lists(WORDS, min_size=1, max_size=3), st.lists(WORDS))
@settings(max_examples=400)
def test_emphasis_is_always_read(before, marked, after):
    texts = ["".join(words) for words in (before, marked, after)]
    if not any(map(str.isalnum, "".join(texts))):
        return
    write = inline_writer(newline="", width=80, in_table=False, starts_block=False)
    written = write([texts[0], OPEN, texts[1], CLOSE, texts[2]])
    [token] = MarkdownIt("commonmark").parseInline(written)
    kinds = [child.type for child in token.children if child.type != "text"]
    assert kinds == ["strong_open", "strong_close"], written
    shown = "".join(child.content for child in token.children)
    assert "".join(shown.split()) == "".join("".join(texts).split())


@given(
    st.lists(st.lists(WORDS, max_size=2).map("".join), min_size=5, max_size=5),
    st.sampled_from([("*", "*"), ("_", "_"), ("**", "**"), ("*", "_"), ("**", "*"), ("_", "**")]),
    st.booleans(),
)
@settings(max_examples=600)
def test_two_emphases_are_always_read(texts, marks, nested):
    if not any(map(str.isalnum, "".join(texts))):
        return
    one, end_of_one, two, end_of_two = (
        InlineCode(kind, number, mark)
        for number, mark in enumerate(marks)
        for kind in (CodeKind.OPEN, CodeKind.CLOSE)
    )
    codes = [one, two, end_of_two, end_of_one] if nested else [one, end_of_one, two, end_of_two]
    fragments = [part for pair in zip(texts, codes, strict=False) for part in pair] + [texts[4]]
    write = inline_writer(newline="", width=80, in_table=False, starts_block=False)
    written = write([part for part in fragments if part != ""])
    [token] = MarkdownIt("commonmark").parseInline(written)
    kinds = sorted(child.type for child in token.children if child.type.endswith("_open"))
    names = {"*": "em_open", "_": "em_open", "**": "strong_open"}
    assert kinds == sorted(names[mark] for mark in marks), written
    shown = "".join(child.content for child in token.children)
    assert "".join(shown.split()) == "".join("".join(texts).split())

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nllb.documents import translate_html, translate_xml
from nllb.documents.formats.html import HtmlFormat
from nllb.documents.html_events import html_events
from nllb.documents.units import CodeKind, FormatOptions, InlineCode
from nllb.documents.xml_spans import parse_xml
from nllb.errors import ConfigError, DocumentError
from nllb.languages import parse_language
from nllb.translation.translator import Translator

PAGE = """<!DOCTYPE html>
<html lang=en dir='ltr'><head><title>Hi &amp; ho</title><meta name=description content="abc d">
<meta name=viewport content="wide"><script>var a="<b>Text</b>";</script></head>
<body class=x><p>Hello <b>big
   <i>world</i></b>, see <a href=x title='A &quot;t"'>this <img alt=pic src=x></a> and
<code>x</code>.<br><p><b>All bold</b></p><pre>a
 b</pre><div>one<div>two</div>three<!-- c --> four</div><p translate=no>no <b>x</b></p>
<textarea placeholder="Write">kept</textarea><input type=submit
value=Go><input type=reset value=Undo>
<p>A <span class="notranslate">Name</span> here&nbsp;&#8364; <b>unclosed</p></body>
"""


def test_text_and_attributes_are_translated_and_the_rest_is_kept(rendered):
    done = rendered(PAGE, "page", target="arb_Arab")
    changes = {
        "<html lang=en dir='ltr'>": '<html lang="ar" dir="rtl">',
        "Hi &amp; ho": "HI &amp; HO",
        '"abc d"': '"ABC D"',
        "Hello <b>big\n   <i>world</i></b>, see": "HELLO <b>BIG <i>WORLD</i></b>, SEE",
        """title='A &quot;t"'>this <img alt=pic src=x></a> and
""": ('title="A &quot;T&quot;">THIS <img alt="PIC" src=x></a> AND '),
        "All bold": "ALL BOLD",
        "<pre>a\n b": "<pre>A\n B",
        "one<": "ONE<",
        "two": "TWO",
        "three<!-- c --> four": "THREE<!-- c --> FOUR",
        '"Write"': '"WRITE"',
        "value=Undo": 'value="UNDO"',
        ">A <": ">A <",
        "here&nbsp;&#8364; <b>unclosed": "HERE&#160;&#8364; <b>UNCLOSED",
    }
    expected = PAGE
    for old, new in changes.items():
        assert expected.count(old) == 1, old
        expected = expected.replace(old, new)
    assert done.text == expected
    assert done.format == "html"


def test_an_identity_translation_changes_only_the_declared_language(rendered):
    done = rendered(PAGE, "page.html", lambda text: text)
    assert done.text == PAGE.replace("lang=en", 'lang="de"')
    assert rendered("<p>No root</p>", "a.html", lambda text: text).text == "<p>No root</p>"


def test_protected_text_is_shown_to_the_translator(rendered):
    [unit] = rendered("<p>Call <code>f()</code> or <var>x</var> now</p>", "a.html").units
    shown = [part.text for part in unit.fragments if isinstance(part, InlineCode)]
    assert shown == ["f()", "x"]


def test_codes_around_a_passage_are_not_part_of_it(rendered):
    done = rendered("<p><br><b><i>Only text</i></b> <img src=x></p>", "a.html")
    assert [unit.fragments for unit in done.units] == [("Only text",)]


def test_characters_that_an_encoding_lacks_are_references(rendered):
    for source in (
        b'<meta charset="iso-8859-1"><p>caf\xe9</p>',
        b"<p>No charset is declared here</p>",
    ):
        done = rendered(source, "a.html", lambda _: "5 €")
        assert b"5 &#8364;" in done.data


FRAGMENTS = st.lists(
    st.sampled_from(
        "<p>;</p>;<b>;</b>;<i class='a>b'>;</i>;<br>;<br/>;text ;more;&amp;;&nbsp;;&#65;;<;>;&;"
        "<code>;</code>;<script>;</script>;<!-- c -->;<!;<a title='T t'>;</a>;\n;</;<pre>;</pre>;"
        "<div translate=no>;</div>;<img alt=x;<![CDATA[x]]>;<?pi?>;\r\n;é;\x00;<title>;</title>;"
        "<textarea>;</textarea>".split(";")
    ),
    max_size=14,
).map("".join)


@given(FRAGMENTS)
def test_events_cover_any_text(text):
    assert "".join(event.source for event in html_events(text)) == text


@given(FRAGMENTS)
def test_any_fragment_comes_back_and_its_codes_survive(text):
    document = HtmlFormat.parse(b"\xef\xbb\xbf" + text.encode(), FormatOptions())
    german = parse_language("de")
    same = {unit.key: unit.fragments for unit in document.units}
    assert document.render(same, source=None, target=german)[3:].decode() == text
    for unit in document.units:
        depth = []
        for part in unit.fragments:
            if isinstance(part, InlineCode) and part.kind is CodeKind.OPEN:
                depth.append(part.number)
            elif isinstance(part, InlineCode) and part.kind is CodeKind.CLOSE:
                assert depth.pop() == part.number
        assert not depth


@pytest.fixture
def upper(stand_in):
    return Translator(stand_in(lambda segment, search: segment.upper()))


def test_fragments_are_translated_and_escaped(upper):
    done = translate_html(
        "<p>Go &lt;script&gt; <b>on</b>.</p> <kbd>a</kbd>", upper, source="en", target="fr"
    )
    assert done.text == "<p>GO &lt;script&gt; <b>ON</b>.</p> <kbd>a</kbd>"
    assert done.report.source.code == "eng_Latn" and len(done.report.units) == 1
    assert translate_html("", upper, source="en", target="fr").text == ""


def test_tags_of_xml_have_the_kind_that_a_caller_chooses(upper):
    text = 'One <x id="7">Keep</x> <Y>two</Y>. <h>Three</h>'
    done = translate_xml(text, upper, source="en", target="fr", ignore_tags=["x"])
    assert done.text == 'ONE <x id="7">Keep</x> <Y>TWO</Y>. <h>THREE</h>'
    split = translate_xml(
        text, upper, source="en", target="fr", ignore_tags=["x"], splitting_tags=["h"]
    )
    assert len(split.report.units) == 2
    split = translate_xml(text, upper, source="en", target="fr", non_splitting_tags=["x"])
    assert len(split.report.units) > 2
    with pytest.raises(ConfigError, match="is in two lists"):
        translate_xml(
            text, upper, source="en", target="fr", ignore_tags=["x"], splitting_tags=["x"]
        )


@pytest.mark.parametrize("text", ["<a>", "a & b", "</a>", "<a></b>", "&foo;"])
def test_xml_must_be_well_formed(upper, text):
    with pytest.raises(DocumentError):
        translate_xml(text, upper, source="en", target="fr")


XML = st.recursive(
    st.sampled_from(["Some ", "text", " &amp; ", "&lt;", "<e/>", "<!-- c -->", "\n"]),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: f"<t a='1'>{''.join(parts)}</t>"),
    max_leaves=10,
)


@given(source=st.lists(XML, max_size=4).map("".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_xml_comes_back_and_stays_well_formed(stand_in, source):
    same = Translator(stand_in(lambda segment, search: segment))
    assert translate_xml(source, same, source="en", target="fr").text == source
    upper = Translator(stand_in(lambda segment, search: segment.upper()))
    done = translate_xml(source, upper, source="en", target="fr").text
    assert parse_xml(f"<r>{done}</r>".encode()).root.text_content().split() == (
        parse_xml(f"<r>{source}</r>".encode()).root.text_content().upper().split()
    )

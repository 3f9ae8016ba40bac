"""Formats that keep the source beside the translation: gettext, XLIFF, TMX, Xcode."""

import json
import re

import pytest

from nllb.documents.xml_spans import parse_xml
from nllb.errors import DocumentError

HEADER = (
    'msgid ""\nmsgstr ""\n"Language: {}\\n"\n"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'
)
PO = (
    "# A comment\n#: a.c:1\nmsgid \"Hello\\n\"\n\"world\"\nmsgstr \"\"\n\n"
    "#, c-format\nmsgid \"%d file\"\nmsgid_plural \"%d files\"\n"
    'msgstr[0] ""\nmsgstr[1] ""\n\nmsgctxt "menu"\nmsgid "Open"\nmsgstr "Offen"\n\n'
    '#~ msgid "old"\n#~ msgstr "alt"\n'
)  # fmt: skip


def test_empty_translations_are_filled_and_marked(rendered):
    done = rendered(HEADER.format("de") + PO, "a.po")
    assert done.texts == ["Hello\nworld", "%d file", "%d files"]
    assert '#, fuzzy\nmsgid "Hello\\n"\n"world"\nmsgstr ""\n"HELLO\\n"\n"WORLD"\n' in done.text
    assert "#, fuzzy, c-format\n" in done.text
    assert 'msgstr[0] "%D FILE"\nmsgstr[1] "%D FILES"\n' in done.text
    assert 'msgid "Open"\nmsgstr "Offen"\n' in done.text
    assert done.text.endswith('#~ msgid "old"\n#~ msgstr "alt"\n')


def test_translations_into_another_language_are_replaced(rendered):
    done = rendered(HEADER.format("fr") + PO, "a.po", target="rus_Cyrl")
    assert 'msgid "Open"\nmsgstr "OPEN"\n' in done.text
    assert '"Language: ru\\n"' in done.text and "nplurals=3" in done.text
    assert done.text.count("msgstr[") == 3
    assert [unit.plural_category for unit in done.units] == [None, "one", "few", "many", None]


def test_a_file_in_the_target_language_keeps_its_own_plural_forms(rendered):
    header = HEADER.format("ru").replace(
        "nplurals=2; plural=(n != 1);", "nplurals=4; plural=(n==1 ? 0 : n==2 ? 1 : n<5 ? 2 : 3);"
    )
    done = rendered(header + PO, "a.po", target="rus_Cyrl")
    assert "nplurals=4" in done.text and done.text.count("msgstr[") == 4
    damaged = header.replace("n==1 ? 0", "n=+")
    assert rendered(damaged + PO, "a.po", target="rus_Cyrl").text.count("msgstr[") == 3


def test_only_translations_and_the_header_of_a_catalogue_change(rendered):
    source = HEADER.format("de") + PO
    done = rendered(source, "a.po")

    def without_targets(text):
        text = re.sub(r"#, fuzzy\n|fuzzy, ", "", text)
        return re.sub(r'msgstr(\[\d\])? (".*"\n)+', r"msgstr\1\n", text)

    assert without_targets(done.text) == without_targets(source)


def test_the_charset_follows_the_encoding(rendered):
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=ISO-8859-1\\n"\n\n'
    source = header + 'msgid "é"\nmsgstr ""\n'
    done = rendered(source.encode("latin-1"), "a.po", lambda _: "你")
    assert "charset=UTF-8" in done.text and 'msgstr "你"' in done.text


XLIFF = (
    '<xliff version="1.2"><file source-language="en" original="x"><body>\n'
    '  <trans-unit id="1">\n    <source> Hello <g id="1">big <x id="2"/></g> world</source>\n'
    "  </trans-unit>\n"
    '  <trans-unit id="2" translate="no"><source>No</source></trans-unit>\n'
    '  <trans-unit id="3"><source>Yes <mrk mtype="protected">K9</mrk></source><target/>'
    "</trans-unit>\n"
    '  <trans-unit id="4" approved="yes"><source>Ok</source><target>Gut</target></trans-unit>\n'
    "</body></file></xliff>"
)


def test_xliff_1_targets_go_after_their_sources(rendered):
    done = rendered(XLIFF, "a.xlf")
    expected = XLIFF.replace(' original="x"', ' original="x" target-language="de"')
    state = '<target state="needs-review-translation">'
    expected = expected.replace(
        " world</source>",
        f' world</source>\n    {state} HELLO <g id="1">BIG <x id="2"/></g> WORLD</target>',
    )
    expected = expected.replace("<target/>", f'{state}YES <mrk mtype="protected">K9</mrk></target>')
    assert done.text == expected
    assert [unit.text for unit in done.units] == ["Hello big  world", "Yes K9"]


def test_xliff_2(rendered):
    source = (
        '<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en">'
        '<file id="f"><unit id="u"><segment state="initial"><source>A <pc id="1">b</pc> '
        '<sc id="2"/>c<ec startRef="2"/> d</source></segment></unit>'
        '<unit id="v" translate="no"><segment><source>No</source></segment></unit></file></xliff>'
    )
    done = rendered(source, "a.xlf")
    assert 'srcLang="en" trgLang="de">' in done.text
    target = '<target>A <pc id="1">B</pc> <sc id="2"/>C<ec startRef="2"/> D</target>'
    assert f"</source>{target}</segment>" in done.text
    assert '<segment state="translated">' in done.text
    assert done.text.count("<target>") == 1


def test_tmx_gets_a_variant_in_the_target(rendered):
    source = (
        '<tmx version="1.4"><header srclang="en"/><body>\n  <tu>\n'
        '    <tuv xml:lang="fr"><seg>Bonjour</seg></tuv>\n'
        '    <tuv xml:lang="en-US"><seg>A <bpt i="1">&lt;b></bpt>w<ept i="1"/> c</seg></tuv>\n'
        '  </tu>\n  <tu><tuv xml:lang="EN"><seg>Yes</seg></tuv>'
        '<tuv xml:lang="de-AT"><seg>Ja</seg></tuv></tu></body></tmx>'
    )
    done = rendered(source, "a.tmx")
    variant = '<tuv xml:lang="de"><seg>A <bpt i="1">&lt;b></bpt>W<ept i="1"/> C</seg></tuv>'
    assert done.text == source.replace("\n  </tu>", f"\n    {variant}\n  </tu>")


def test_xcode_catalogues_get_the_target_language(rendered):
    source = (
        '{\n  "sourceLanguage" : "en",\n  "strings" : {\n    "Hello" : {\n\n    },\n'
        '    "Keep" : {\n      "shouldTranslate" : false\n    },\n    "n files" : {\n'
        '      "localizations" : {\n        "en" : {\n          "variations" : { "plural" : {\n'
        '            "one" : { "stringUnit" : { "state" : "translated", "value" : "a file" } },\n'
        '            "other" : { "stringUnit" : { "state" : "translated", "value" : "%lld files" } '
        '}\n          } }\n        }\n      }\n    }\n  },\n  "version" : "1.0"\n}'
    )
    done = rendered(source, "a.xcstrings", target="rus_Cyrl")
    strings = json.loads(done.text)["strings"]
    unit = strings["Hello"]["localizations"]["ru"]["stringUnit"]
    assert unit == {"state": "needs_review", "value": "HELLO"}
    plural = strings["n files"]["localizations"]["ru"]["variations"]["plural"]
    assert list(plural) == ["one", "few", "many", "other"]
    assert plural["few"]["stringUnit"]["value"] == "%LLD FILES"
    assert strings["Keep"] == {"shouldTranslate": False}
    expected = json.loads(source)["strings"]["n files"]["localizations"]["en"]
    assert strings["n files"]["localizations"]["en"] == expected
    again = rendered(done.data, "a.xcstrings", target="rus_Cyrl")
    assert again.data == done.data and not again.units


def test_damaged_entities_of_catalogues_stay_well_formed(rendered):
    done = rendered(XLIFF, "a.xlf", lambda text: text + "<&>\x00]]>")
    assert "<&>]]>" in parse_xml(done.data).root.text_content()


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ('<?xml version="1.0"?>\n<!DOCTYPE xliff [<!ELEMENT x (y)>]>\n<!-- a -->', "file"),
        ("<!-- " + "long " * 2000 + "-->", "file.xlf"),
    ],
)
def test_catalogues_are_recognized_by_their_root_or_their_name(rendered, start, name):
    source = (
        f'{start}<xliff version="1.2"><file source-language="en"><body><trans-unit id="1">'
        "<source>text</source></trans-unit></body></file></xliff>"
    )
    assert rendered(source, name).texts == ["text"]


def test_entities_of_a_catalogue_are_refused_as_such(rendered):
    source = (
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xliff version="1.2">&e;</xliff>'
    )
    with pytest.raises(DocumentError, match="entity declarations are refused"):
        rendered(source, "file.xlf")
    with pytest.raises(DocumentError, match="the root element is a, not xliff"):
        rendered("<a/>", "file.xlf")

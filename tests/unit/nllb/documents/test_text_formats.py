"""Each text format: what is translated, and that all else stays as it was."""

import pytest

from nllb.errors import ConfigError, DocumentError

SAMPLES = {
    "a.txt": (
        "Hello there.\r\n  Two lines.\r\n\r\n\r\n* item\r\n",
        "HELLO THERE.\r\n  TWO LINES.\r\n\r\n\r\n* ITEM\r\n",
    ),
    "a.properties": (
        "# note\na.b = Hello wor\\\n    ld\nlog.level=debug/x\nk\\ y : Grün \\u00fc\\nx\n",
        "# note\na.b = HELLO WORLD\nlog.level=debug/x\nk\\ y : GRÜN Ü\\nX\n",
    ),
    "ascii.properties": ("a=Gr\\u00fcn alle\n", "a=GR\\u00dcN ALLE\n"),
    "a.strings": (
        '/* note */\n"k" = "Say \\"x\\"\\n %@";\nfoo = "Bar";\n// end\n',
        '/* note */\n"k" = "SAY \\"X\\"\\n %@";\nfoo = "BAR";\n// end\n',
    ),
    "a.ftl": (
        "# c\n-brand = Fire\nhi = Hello { $name }, {\"{\"}x\n    more\n    .title = A title\n"
        "    .accesskey = H\n",
        "# c\n-brand = Fire\nhi = HELLO { $name }, { \"{\" }X MORE\n    .title = A TITLE\n"
        "    .accesskey = H\n",
    ),
    "a.csv": (
        'id,text,b\r\n1,"Hello, ""my"" friend",x\r\n2,Good day,y\r\n3,,\r\n',
        'id,text,b\r\n1,"HELLO, ""MY"" FRIEND",x\r\n2,GOOD DAY,y\r\n3,,\r\n',
    ),
    "a.tsv": ('id\ttext\n1\tHi "all" you\n', 'id\ttext\n1\tHI "ALL" YOU\n'),
    "a.yaml": (
        "a: Hello world # c\nb: \"Say: \\\"x\\\"\"\nc: 'it''s'\nd: |\n  One line\n  two\n\n"
        "e: >-\n  folded\n  text\n\n  para\nt: true\nf: [One word, {x: 1.5}]\n&x g: yes\n",
        "a: HELLO WORLD # c\nb: \"SAY: \\\"X\\\"\"\nc: 'IT''S'\nd: |\n  ONE LINE\n  TWO\n\n"
        "e: >-\n  FOLDED TEXT\n\n  PARA\nt: true\nf: [ONE WORD, {x: 1.5}]\n&x g: yes\n",
    ),
    "a.json": (
        '{\n  "a": "Save", "url": "http://x.y",\n  "u": "\\u00e9t\\u00e9 deux\\nx"}\n',
        '{\n  "a": "SAVE", "url": "http://x.y",\n  "u": "\\u00c9T\\u00c9 DEUX\\nX"}\n',
    ),
    "other.json": (
        '[1, {"a": "Some text", "b": "word", "c": null}]',
        '[1, {"a": "SOME TEXT", "b": "word", "c": null}]',
    ),
    "messages.json": (
        '{"greet": {"message": "Hi", "description": "a note"}}',
        '{"greet": {"message": "HI", "description": "a note"}}',
    ),
    "app.arb": (
        '{"@@locale": "en", "hi": "Hello", "@hi": {"description": "a note"}}',
        '{"@@locale": "de", "hi": "HELLO", "@hi": {"description": "a note"}}',
    ),
    "lines.jsonl": ('{"a": "One text"}\n{"a": "Two texts"}\n',) * 2,
    "strings.xml": (
        '<?xml version="1.0"?>\n<resources xmlns:xliff="urn:oasis:names:tc:xliff:document:1.2">\n'
        '  <!-- c -->\n  <string name="a">Don\\\'t <b>go</b>\\nnow &amp; '
        '<xliff:g id="x">%1$s</xliff:g></string>\n'
        '  <string name="b" translatable="false">Foo</string>\n'
        '  <string name="c">@string/a</string>\n</resources>\n',
        '<?xml version="1.0"?>\n<resources xmlns:xliff="urn:oasis:names:tc:xliff:document:1.2">\n'
        '  <!-- c -->\n  <string name="a">DON\\\'T <b>GO</b>\\nNOW &amp; '
        '<xliff:g id="x">%1$s</xliff:g></string>\n'
        '  <string name="b" translatable="false">Foo</string>\n'
        '  <string name="c">@string/a</string>\n</resources>\n',
    ),
}  # fmt: skip
SAMPLES["lines.jsonl"] = (
    SAMPLES["lines.jsonl"][0],
    '{"a": "ONE TEXT"}\n{"a": "TWO TEXTS"}\n',
)


@pytest.mark.parametrize("name", SAMPLES)
def test_text_is_translated_and_the_rest_is_kept(rendered, name):
    source, expected = SAMPLES[name]
    assert rendered(source, name).text == expected


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "app.arb"])
def test_an_identity_translation_gives_the_same_bytes(rendered, name):
    source, _ = SAMPLES[name]
    assert rendered(source, name, lambda text: text).data == source.encode()


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.json", "a.strings", "a.yaml"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_the_encoding_is_kept(rendered, name, encoding):
    source, expected = SAMPLES[name]
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    done = rendered(mark + source.encode(encoding), name)
    assert done.data == mark + expected.encode(encoding)


def test_old_encodings_are_recognized_and_left_where_they_lack_a_character(rendered):
    text = "Привет, это текст в старой кодировке. Как дела? " * 5
    done = rendered(text.encode("cp1251"), "a.txt")
    assert done.data.decode("cp1251") == text.upper()
    assert any("cp1251" in warning for warning in done.warnings)
    done = rendered(text.encode("cp1251"), "a.txt", lambda text: "你好", encoding="cp1251")
    assert "你好" in done.text and any("UTF-8" in warning for warning in done.warnings)


def test_wrong_encodings_are_errors(rendered):
    with pytest.raises(DocumentError, match="ascii"):
        rendered("Grün", "a.txt", encoding="ascii")
    with pytest.raises(ConfigError, match="klingon"):
        rendered("Hi", "a.txt", encoding="klingon")
    with pytest.raises(DocumentError):
        rendered(bytes(range(256)) * 8, "a.csv")


PLURALS = {
    "i18n.json": (
        '{\n  "f_one": "{{count}} file",\n  "f_other": "{{count}} files"\n}',
        '{\n  "f_one": "{{COUNT}} FILE",\n  "f_other": "{{COUNT}} FILES",\n'
        '  "f_few": "{{COUNT}} FILES",\n  "f_many": "{{COUNT}} FILES"\n}',
    ),
    "icu.json": (
        '{"a": "{n, plural, =0 {none} one {# file\'s} other {# files}} left, '
        '{g, select, male {he} other {they}}"}',
        '{"a": "{n, plural, =0 {NONE} one {# FILE\'\'S} other {# FILES} few {# FILES} '
        'many {# FILES}} LEFT, {g, select, male {HE} other {THEY}}"}',
    ),
    "strings.xml": (
        '<resources>\n <plurals name="n">\n  <item quantity="one">a file</item>\n'
        '  <item quantity="other">%d files</item>\n </plurals>\n</resources>',
        '<resources>\n <plurals name="n">\n  <item quantity="one">A FILE</item>\n'
        '  <item quantity="other">%D FILES</item>\n  <item quantity="few">%D FILES</item>\n'
        '  <item quantity="many">%D FILES</item>\n </plurals>\n</resources>',
    ),
    "a.ftl": (
        "n = You have { $n ->\n    [one] one file\n   *[other] { $n } files\n  } left\n",
        "n = YOU HAVE { $n ->\n    [one] ONE FILE\n   [few] { $n } FILES\n"
        "   [many] { $n } FILES\n   *[other] { $n } FILES\n  } LEFT\n",
    ),
    "en.yml": (
        'en:\n  n:\n    one: a file\n    other: "some files"\n  m: Rest of it\n',
        'ru:\n  n:\n    one: A FILE\n    other: "SOME FILES"\n    few: "SOME FILES"\n'
        '    many: "SOME FILES"\n  m: REST OF IT\n',
    ),
}


@pytest.mark.parametrize("name", PLURALS)
def test_plurals_get_the_categories_of_the_target(rendered, name):
    source, expected = PLURALS[name]
    done = rendered(source, name, target="rus_Cyrl")
    assert done.text == expected
    assert {"few", "many"} <= {unit.plural_category for unit in done.units}
    assert rendered(source, name, lambda text: text, language=None).text == source


def test_chosen_keys_and_columns(rendered):
    assert rendered('{"a": "Yes", "b": {"c": "No"}}', "a.json", keys=("b.*",)).texts == ["No"]
    assert rendered("a: Yes it is\nb: [None]\n", "a.yml", keys=("b",)).texts == ["None"]
    table = "id;name;note\n1;Anna;Good day\n"
    assert rendered(table, "a.csv", columns=("name",)).texts == ["Anna"]
    assert rendered(table, "a.csv", columns=("3",)).texts == ["Good day"]
    with pytest.raises(ConfigError, match=r"name.*id, name, note"):
        rendered(table, "a.csv", columns=("nmae",))


def test_a_cell_is_quoted_where_its_translation_needs_it(rendered):
    done = rendered("id,text\n1,Good day\n", "a.csv", lambda text: 'Well, "hi"')
    assert done.text == 'id,text\n1,"Well, ""hi"""\n'


@pytest.mark.parametrize("text", ["true", "1.5", "- x", "a: b", "#c", "'q'", "", "x #y", "null"])
def test_yaml_values_stay_strings(rendered, text):
    import yaml

    done = rendered("a: Some text\nb: [Flow text]\n", "a.yaml", lambda _: text)
    assert yaml.safe_load(done.text) == {"a": text, "b": [text]}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", '{"a": '),
        ("a.json", "[" * 5000),
        ("a.json", '{"a": "x" "b"}'),
        ("a.yaml", "a: [b"),
        ("a.yaml", "[" * 20000),
        ("a.po", 'msgid "a\n'),
        ("a.po", 'msgid "a"\nmsgid "b"\n'),
        ("a.strings", '"a" = "b'),
        ("a.xcstrings", "{}"),
        ("a.srt", "no subtitles\n"),
        ("a.xlf", "<xliff><file>"),
        ("a.tmx", '<!DOCTYPE tmx [<!ENTITY a "b">]><tmx>&a;</tmx>'),
        ("strings.xml", "<resources><string>"),
    ],
)
def test_damaged_files_are_refused(rendered, name, data):
    with pytest.raises(DocumentError, match=name):
        rendered(data, name)


def test_a_large_table_is_read(rendered):
    row = "1,2,3,4,Good day,6,7,8,9,10\n"
    done = rendered("a,b,c,d,e,f,g,h,i,j\n" + row * 20_000, "a.csv", columns=("e",))
    assert len(done.units) == 20_000 and done.text.endswith(row.replace("Good day", "GOOD DAY"))


def test_wrapped_text_is_wrapped_again(rendered):
    source = "A first line that\nends here.\n\n- an item\n  goes on\n- two\n"
    done = rendered(source, "a.txt", extra={"wrapped": "yes"})
    assert done.texts == ["A first line that ends here.", "- an item goes on", "- two"]
    assert done.text == source.upper()
    done = rendered(source, "a.txt", lambda _: "one two three four five", extra={"wrapped": "yes"})
    assert done.text.startswith("one two three\nfour five\n\none two\n  three\n  four")


@pytest.mark.parametrize(
    ("name", "data", "limit"),
    [
        ("a.json", "[1, 2, 3]", "nllb.documents.json_spans.MAX_VALUES"),
        ("a.html", "<p>a<p>b<p>c", "nllb.documents.html_events.MAX_EVENTS"),
        ("a.csv", "a,b\nc,d\n", "nllb.documents.formats.tables.MAX_CELLS"),
        ("a.md", "text", "nllb.documents.formats.markdown.MAX_BYTES"),
        ("a.xml", "<resources>a<b/>c</resources>", "nllb.documents.xml_spans.MAX_NODES"),
        ("a.xml", "<resources></resources>", "nllb.documents.xml_spans.MAX_XML_BYTES"),
    ],
)
def test_files_beyond_the_limits_are_refused(rendered, monkeypatch, name, data, limit):
    monkeypatch.setattr(limit, 3)
    with pytest.raises(DocumentError, match=r"\b3\b"):
        rendered(data, name)

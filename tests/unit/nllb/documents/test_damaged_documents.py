"""Any bytes: a document, or an error that says what is wrong."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nllb.documents.registry import document_formats, open_document
from nllb.documents.units import FormatOptions
from nllb.errors import NllbError
from nllb.languages import parse_language

SUFFIXES = [suffix for each in document_formats() for suffix in each.suffixes[:1]]
SEEDS = {
    ".po": b'#, fuzzy\nmsgid ""\nmsgstr "Language: en\\n"\n\n'
    b'msgid "a"\nmsgid_plural "b"\nmsgstr[0] ""\n',
    ".xlf": b'<xliff version="1.2"><file><trans-unit><source>a<g id="1">b</g></source>',
    ".tmx": b'<tmx><header srclang="en"/><body><tu><tuv xml:lang="en"><seg>a</seg></tuv></tu>',
    ".xml": b'<resources><string name="a">b\\u0041</string><plurals name="c"><item quantity="one">',
    ".srt": b"1\n00:00:01,000 --> 00:00:02,000\n{\\an8}<i>a\n\n2\n",
    ".vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\n<v A>b</v> c",
    ".ftl": b"a = b { $c ->\n  [one] d\n *[other] e\n }\n .f = g",
    ".json": b'{"a_one": "{n, plural, other {b # \'c\'}}", "a_other": ["\\u00e9"]}',
    ".xcstrings": b'{"sourceLanguage": "en", "strings": {"a": {"localizations": {"en": {}}}}}',
    ".yaml": b"a: &x 'b'\nc: |\n d\ne: [f, *x]\n",
    ".properties": b"a\\u0041 = b\\\n c",
    ".strings": b'"a" = "b\\U0041";',
    ".csv": b'a,"b ""c"" d"\ne f,g h\n',
    ".md": b"# a\n\n[b](c) *d* `e`\n\n| f | g |\n|---|---|\n| h | i |\n",
    ".html": b"<p title=a>b <i>c</i> &amp; <code>d</code>",
}  # fmt: skip


def check(data, name):
    try:
        _, document = open_document(data, name, FormatOptions())
        target = parse_language("rus_Cyrl")
        units = document.plan_units(target)
        texts = {
            unit.key: [p.upper() if isinstance(p, str) else p for p in unit.fragments]
            for unit in units
        }
        document.render(texts, source=parse_language("en"), target=target)
    except NllbError as error:
        assert len(str(error)) < 2000


@pytest.mark.parametrize("suffix", SEEDS)
def test_damaged_samples(suffix):
    chooser = random.Random(suffix)
    seed = SEEDS[suffix]
    check(seed, "a" + suffix)
    for _ in range(150):
        data = bytearray(seed)
        for _ in range(chooser.randint(1, 4)):
            place = chooser.randrange(len(data) + 1)
            piece = seed[(start := chooser.randrange(len(seed))) : start + chooser.randint(0, 9)]
            data[place : place + chooser.randint(0, 5)] = chooser.choice(
                [piece, bytes([chooser.randrange(256)]), b"\n", b"\\", b'"', b"{", b"<"]
            )
        check(bytes(data), "a" + suffix)


@given(st.sampled_from(SUFFIXES), st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
@settings(max_examples=300)
def test_any_bytes(suffix, data):
    check(data, "a" + suffix)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.html", b"<b>" * 10_000 + b"x" + b"</i>" * 10_000),
        ("a.html", b"<code>" * 20_000),
        ("a.html", b"<p><!--" * 20_000),
        ("a.html", b"<a " * 20_000),
        ("a.html", b"<a a='" * 20_000 + b">"),
        ("a.html", b"<![CDATA[" * 20_000),
        ("a.md", b"> " * 2_000 + b"x"),
        ("a.md", b"[" * 5_000),
        ("a.md", b"*a " * 5_000),
        ("a.json", b'{"a":' * 20_000),
        ("a.ftl", b"a = { " + b"{ " * 300),
        ("a.json", b'{"a": "' + b"{n, plural, other {" * 500 + b'"}'),
        ("a.properties", b"\\\n" * 40_000),
        ("a.po", b'msgid ""\n' + b'"a"\n' * 40_000),
        ("a.csv", b'"' * 100_001),
        ("a.srt", b"1\n" * 50_000),
    ],
)
@pytest.mark.timeout(60)
def test_hostile_files_take_no_long_time(name, data):
    check(data, name)

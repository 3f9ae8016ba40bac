import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.documents.xml_spans import (
    MAX_DEPTH,
    XmlEdits,
    XmlElement,
    XmlOther,
    XmlText,
    escape_attribute,
    escape_text,
    parse_xml,
)
from nllb.errors import DocumentError

SOURCE = (
    '<!DOCTYPE r PUBLIC "-//X//EN" "http://x.invalid/y.dtd"><r xml:lang="en" xmlns:q="u">'
    'a&amp;b&nbsp;c<![CDATA[x<y]]>\r\n<q:b k="a&lt;"/><e k="/"></e>z<!-- c --><?p i?></r>\n'
)
ENCODINGS = {"utf-8": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_node_has_its_span(encoding: str) -> None:
    tree = parse_xml(ENCODINGS[encoding] + SOURCE.encode(encoding))
    sources = [tree.source(node.start, node.end) for node in tree.root.children]
    assert sources == [
        "a&amp;b&nbsp;c",
        "x<y",
        "\r\n",
        '<q:b k="a&lt;"/>',
        '<e k="/"></e>',
        "z",
        "<!-- c -->",
        "<?p i?>",
    ]
    texts = [node for node in tree.root.children if isinstance(node, XmlText)]
    assert [(node.text, node.is_cdata) for node in texts] == [
        ("a&b\xa0c", False),
        ("x<y", True),
        ("\n", False),
        ("z", False),
    ]
    empty, pair = tree.root.elements
    assert (empty.is_empty_tag, empty.namespace, empty.local) == (True, "u", "b")
    assert not pair.is_empty_tag
    assert [node.kind for node in tree.root.children if isinstance(node, XmlOther)] == [
        "comment",
        "instruction",
    ]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_edits_change_only_their_bytes(encoding: str) -> None:
    data = ENCODINGS[encoding] + SOURCE.encode(encoding)
    tree = parse_xml(data)
    edits = XmlEdits(data, tree.encoding)
    assert edits.apply() == data
    edits.set_attribute(tree.root, "xml:lang", "sw")
    for node in list(tree.root.elements):
        edits.set_attribute(node, "n", "'\"\n&")
    cdata = tree.root.children[1]
    assert isinstance(cdata, XmlText)
    edits.replace_text(cdata, "]]>&")
    changed = edits.apply()
    expected = SOURCE.replace('lang="en"', 'lang="sw"').replace("x<y", "]]]]><![CDATA[>&")
    added = ' n="&apos;&quot;&#10;&amp;"'
    expected = expected.replace('&lt;"/>', f'&lt;"{added}/>').replace('/"></e>', f'/"{added}></e>')
    assert changed == ENCODINGS[encoding] + expected.encode(encoding)
    again = parse_xml(changed).root
    assert [node.attributes["n"] for node in again.elements] == ["'\"\n&"] * 2


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "well-formed"),
        (b"<a>", "well-formed"),
        (b"<a>\xff</a>", "well-formed"),
        (b"<a>&foo;</a>", "unknown"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "entity"),
        (b'<!DOCTYPE a [<!ENTITY % x "y">]><a/>', "entity"),
        (b"<a>" * (MAX_DEPTH + 1), "deep"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "damaged"),
        (b"\xff\xfe<\x00a", "well-formed"),
    ],
)
def test_bad_files_are_refused(data: bytes, word: str) -> None:
    with pytest.raises(DocumentError, match=word):
        parse_xml(data)


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)


@given(_TEXT, _TEXT)
def test_escaped_text_comes_back(text: str, value: str) -> None:
    source = f'<a k="{escape_attribute(value)}">{escape_text(text)}</a>'
    try:
        root = parse_xml(source.encode()).root
    except DocumentError as error:
        raise AssertionError(source) from error
    kept = [
        escape_text(item, is_cdata=True).replace("]]]]><![CDATA[>", "]]>") for item in (text, value)
    ]
    assert [root.text_content(), root.attributes["k"]] == kept


@given(st.recursive(_TEXT, lambda children: st.lists(children, max_size=4), max_leaves=12))
def test_spans_cover_the_source(tree: object) -> None:
    def write(node: object) -> str:
        return (
            f"<n>{''.join(map(write, node))}</n>"
            if isinstance(node, list)
            else escape_text(str(node))
        )

    data = f"<r>{write(tree)}</r>".encode()
    parsed = parse_xml(data)

    def rebuild(element: XmlElement) -> bytes:
        inner = b"".join(
            rebuild(child) if isinstance(child, XmlElement) else data[child.start : child.end]
            for child in element.children
        )
        return (
            data[element.start : element.open_end] + inner + data[element.close_start : element.end]
        )

    assert rebuild(parsed.root) == data

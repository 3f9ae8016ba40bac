from hypothesis import given
from hypothesis import strategies as st

from nllb.documents.passages import Code, Style, StyledPassage, Tag, Text, Token
from nllb.documents.units import CodeKind
from nllb.documents.xml_spans import XmlElement

RUN = XmlElement("", "r", {}, 0, 0)
STYLES = [Style(key, RUN) for key in ("", "<b/>", "<i/>")]

texts = st.builds(
    Text, st.sampled_from(["one", " ", " two", "three ", "", "a b"]), st.sampled_from(STYLES)
)
codes = st.builds(
    Code, st.just(1), st.just(2), st.sampled_from(["<x/>", "<br/>"]), is_space=st.booleans()
)
marks = st.builds(
    lambda kind, name: Tag(0, 1, f"<{name}>", kind, name, is_mark=True),
    st.sampled_from([CodeKind.OPEN, CodeKind.CLOSE]),
    st.sampled_from(["p", "q"]),
)


def inside_a_link(tokens: list[Token], number: int) -> list[Token]:
    name = f"link {number}"
    return [
        Tag(number, number, "<a>", CodeKind.OPEN, name),
        *tokens,
        Tag(number, number, "</a>", CodeKind.CLOSE, name),
    ]


sequences = st.recursive(
    st.lists(st.one_of(texts, codes, marks), max_size=5),
    lambda inner: st.lists(st.tuples(inner, st.booleans(), st.integers(0, 99)), max_size=3).map(
        lambda parts: [
            token
            for tokens, linked, number in parts
            for token in (inside_a_link(tokens, number) if linked else tokens)
        ]
    ),
    max_leaves=6,
)


def shown(tokens: list[Token]) -> str:
    return " ".join("".join(each.text for each in tokens if isinstance(each, Text)).split())


def labels(tokens: list[Token]) -> list[str]:
    return sorted(each.label for each in tokens if not isinstance(each, Text))


@given(sequences)
def test_nothing_is_lost_by_an_identity_translation(tokens: list[Token]) -> None:
    passage = StyledPassage(tokens, key="1")
    if passage.unit is None:
        assert not any(c.isalpha() for t in tokens if isinstance(t, Text) for c in t.text)
        return
    result = passage.tokens(passage.unit.fragments)
    assert shown(result).replace(" ", "") == shown(tokens).replace(" ", "")
    assert labels(result) == labels(tokens)


@given(sequences)
def test_words_keep_their_style(tokens: list[Token]) -> None:
    passage = StyledPassage(tokens, key="1")
    if passage.unit is None:
        return

    def styles(of: list[Token]) -> list[tuple[str, str]]:
        return [
            (character, each.style.key)
            for each in of
            if isinstance(each, Text) and each.style is not None
            for character in each.text
            if not character.isspace()
        ]

    assert styles(passage.tokens(passage.unit.fragments)) == styles(tokens)


@given(sequences)
def test_codes_of_a_unit_are_nested_and_unique(tokens: list[Token]) -> None:
    passage = StyledPassage(tokens, key="1")
    if passage.unit is None:
        return
    waiting: list[int] = []
    for part in passage.unit.fragments:
        if isinstance(part, str) or part.kind is CodeKind.STANDALONE:
            continue
        if part.kind is CodeKind.OPEN:
            waiting.append(part.number)
        else:
            assert waiting.pop() == part.number
    assert not waiting

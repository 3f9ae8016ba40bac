import pytest

from nllb.documents.cue_layout import split_fragments, wrap_fragments
from nllb.documents.units import CodeKind, InlineCode

SRT = (
    "1\r\n00:00:01,000 --> 00:00:03,000\r\n<i>I have never seen</i>\r\n<i>such a thing so</i>\r\n"
    "\r\n2\r\n00:00:03,100 --> 00:00:04,000\r\n<i>big in my life.</i>\r\n\r\n"
    "3\r\n00:00:05,000 --> 00:00:07,000 X1:1\r\n"
    "{\\an8}- Who are <b>you</b>?\r\n- Nobody & none.\r\n"
    "\r\n4\r\n00:00:20,000 --> 00:00:21,000\r\nand then\r\n\r\n"
    "5\r\n00:00:40,000 --> 00:00:41,000\r\nmuch later.\r\n"
)
VTT = (
    "WEBVTT - title\n\nNOTE a note\n\nSTYLE\n::cue {}\n\nid\n00:01.000 --> 00:02.000 align:start\n"
    "<v Fred>Hi &amp; <c.red>hello\n\n00:03.000 --> 00:04.000\nyou <00:03.500>too</c>.\n"
)


@pytest.mark.parametrize(("source", "name"), [(SRT, "a.srt"), (VTT, "a.vtt")])
def test_an_identity_translation_gives_the_same_bytes(rendered, source, name):
    for data in (source.encode(), b"\xef\xbb\xbf" + source.encode()):
        assert rendered(data, name, lambda text: text).data == data
        assert rendered(data, "noname", lambda text: text).format == name[2:]


def test_sentences_run_over_cues_and_speakers_do_not(rendered):
    done = rendered(SRT, "a.srt")
    assert done.texts == [
        "I have never seen such a thing so big in my life.",
        "Who are you?",
        "Nobody & none.",
        "and then",
        "much later.",
    ]
    assert "{\\an8}- WHO ARE <b>YOU</b>?\r\n- NOBODY & NONE.\r\n" in done.text
    first, second = done.text.split("\r\n\r\n")[:2]
    lines = first.split("\r\n")[2:] + second.split("\r\n")[2:]
    assert " ".join(lines).replace("</i> <i>", " ") == (
        "<i>I HAVE NEVER SEEN SUCH A THING SO BIG IN MY LIFE.</i>"
    )
    assert all(line.startswith("<i>") for line in lines) and len(lines) == 2


def test_vtt_keeps_voices_classes_and_times(rendered):
    done = rendered(VTT, "a.vtt")
    assert done.texts == ["Hi & hello you too."]
    assert "<v Fred>HI &amp;" in done.text and done.text.count("<c.red>") == 2
    assert done.text.count("</c>") == 2 and done.text.count("<00:03.500>") == 1
    assert "NOTE a note\n\nSTYLE\n::cue {}\n" in done.text


def test_a_missing_blank_line_joins_no_cues(rendered):
    source = "1\n00:01:00,000 --> 00:01:01,000\nHi.\n2\n00:01:02,000 --> 00:01:03,000\nYou.\n"
    done = rendered(source, "a.srt")
    assert done.texts == ["Hi.", "You."]
    assert done.text == source.replace("Hi", "HI").replace("You", "YOU")
    assert rendered("WEBVTT\n", "a.vtt").text == "WEBVTT\n"


def test_long_text_gets_two_lines_of_42_columns(rendered):
    cue = "1\n00:00:01,000 --> 00:00:03,000\nYes.\n"
    done = rendered(cue, "a.srt", lambda _: "This sentence is clearly longer than one line may be.")
    assert done.text.endswith("This sentence is clearly\nlonger than one line may be.\n")
    done = rendered(cue, "a.srt", lambda _: "word " * 30)
    assert any("42" in warning for warning in done.warnings)
    assert len(done.text.split("\n")) == 5


def test_text_cannot_end_a_cue_or_begin_another(rendered):
    done = rendered("1\n00:00:01,000 --> 00:00:03,000\nYes.\n", "a.srt", lambda _: "a\n\n1 --> 2")
    assert "\n\n1" not in done.text and done.text.count("-->") == 1


def test_pairs_are_closed_at_the_end_of_a_cue():
    opening = InlineCode(CodeKind.OPEN, 1, "<i>")
    closing = InlineCode(CodeKind.CLOSE, 1, "</i>")
    parts = split_fragments(["One ", opening, "two three", closing, " four"], [1, 1])
    shown = ["".join(p if isinstance(p, str) else p.data for p in part) for part in parts]
    assert shown == ["One <i>two</i>", "<i>three</i> four"]
    assert split_fragments(["Word"], [1, 1]) == [["Word"], []]
    assert split_fragments(["你好吗我很好"], [1, 1]) == [["你好吗"], ["我很好"]]
    assert split_fragments(["a b c d e f"], [2, 1, 3]) == [["a b"], ["c"], ["d e f"]]


def test_wrapping_counts_columns_of_wide_characters():
    assert wrap_fragments(["你好" * 12]) == ["你好" * 6 + "\n" + "你好" * 6]
    assert wrap_fragments(["short"]) == ["short"]

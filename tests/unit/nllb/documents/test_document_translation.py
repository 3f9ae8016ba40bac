import json
from dataclasses import replace

import pytest

import nllb
from nllb.documents import (
    FormatOptions,
    detect_format,
    document_formats,
    translate_document,
    translate_document_file,
)
from nllb.documents.journal import Journal, pack_fragments, unpack_fragments
from nllb.documents.units import CodeKind, InlineCode, Unit
from nllb.errors import ConfigError, DataError, DocumentError, LanguageError
from nllb.translation.translator import Translator

EN_FR = {"source": "en", "target": "fr"}
PAGE = b"<html lang='en'><p>One <b>day</b>.</p><p>Two days.</p><p>One <b>day</b>.</p></html>"


@pytest.fixture
def generator(stand_in):
    return stand_in(lambda segment, search: segment.upper())


def test_a_document_is_translated_with_a_report(generator):
    progress = []
    done = translate_document(
        PAGE,
        "page.html",
        Translator(generator),
        **EN_FR,
        progress=lambda finished, total: progress.append((finished, total)),
    )
    assert done.name == "page.fra_Latn.html"
    assert done.data == (
        b'<html lang="fr"><p>ONE <b>DAY</b>.</p><p>TWO DAYS.</p><p>ONE <b>DAY</b>.</p></html>'
    )
    assert done.report.format == "html"
    assert [unit.text for unit in done.report.units] == ["ONE DAY.", "TWO DAYS.", "ONE DAY."]
    assert [unit.key for unit in done.report.units] == ["1", "2", "3"]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    segments = [segment for call in generator.calls for segment in call[0]]
    assert sorted(segments) == ["One day.", "Two days."]  # equal units are translated once


def test_flagged_units_are_reported(stand_in):
    looping = Translator(stand_in(lambda segment, search: "la " * 40))
    done = translate_document(b"One day.\n", "a.txt", looping, **EN_FR)
    [unit] = done.report.flagged
    assert "loop" in unit.flags and unit.confidence < 1


def test_the_source_can_be_detected(generator, stand_in_detector):
    detector = stand_in_detector(lambda text: ("eng_Latn", 1.0))
    translator = Translator(generator, detector=detector)
    done = translate_document(PAGE, "page.html", translator, source="auto", target="fr")
    assert done.report.source.code == "eng_Latn"
    empty = translate_document(b"<p>1</p>", "a.html", translator, source="auto", target="fr")
    assert empty.data == b"<p>1</p>" and not empty.report.units


def test_wrong_languages_are_refused(generator):
    with pytest.raises(LanguageError, match="two languages"):
        translate_document(PAGE, "a.html", Translator(generator), source="en", target="en")
    with pytest.raises(LanguageError, match="zz"):
        translate_document(PAGE, "a.html", Translator(generator), source="en", target="zz")


def test_options_reach_the_format_and_the_placeholders(generator):
    done = translate_document(
        b'{"a": "Go to Room12 now", "b": "Stay here"}',
        "a.json",
        Translator(generator),
        **EN_FR,
        options=FormatOptions(keys=("a",), placeholders=(r"Room\d+",)),
    )
    assert done.data == b'{"a": "GO TO Room12 NOW", "b": "Stay here"}'


def test_files_are_written_beside_the_original(generator, tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(PAGE)
    result, report = translate_document_file(path, Translator(generator), **EN_FR)
    assert result == tmp_path / "page.fra_Latn.html" and len(report.units) == 3
    assert path.read_bytes() == PAGE
    assert {each.name for each in tmp_path.iterdir()} == {"page.html", "page.fra_Latn.html"}
    folder = tmp_path / "out"
    folder.mkdir()
    result, _ = translate_document_file(path, Translator(generator), **EN_FR, output=folder)
    assert result == folder / "page.fra_Latn.html"


def test_the_original_is_never_replaced(generator, tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(PAGE)
    link = tmp_path / "link.html"
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(ConfigError, match="replaced"):
            translate_document_file(path, Translator(generator), **EN_FR, output=output)
    assert path.read_bytes() == PAGE
    with pytest.raises(DataError, match=r"nothing\.html"):
        translate_document_file(tmp_path / "nothing.html", Translator(generator), **EN_FR)


def test_a_stopped_run_continues(stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr("nllb.documents.unit_translation.BATCH_CHARACTERS", 400)
    path = tmp_path / "page.html"
    sentences = [f"This is {'a very ' * 4}long text {n}." for n in range(60)]
    path.write_text("".join(f"<p>{sentence}" for sentence in sentences))

    def stop_late(segment, search):
        if "text 50." in segment:
            raise KeyboardInterrupt
        return segment.upper()

    with pytest.raises(KeyboardInterrupt):
        translate_document_file(path, Translator(stand_in(stop_late)), **EN_FR)
    part = tmp_path / "page.fra_Latn.html.part"
    assert part.exists() and not (tmp_path / "page.fra_Latn.html").exists()
    with part.open("a") as stream:
        stream.write('{"key": "cut')  # what SIGKILL leaves
    resumed = stand_in(lambda segment, search: segment.upper())
    result, report = translate_document_file(path, Translator(resumed), **EN_FR)
    asked = [segment for call in resumed.calls for segment in call[0]]
    assert 0 < len(set(asked)) < 30 and len(report.units) == 60
    assert result.read_text() == path.read_text().upper().replace("<P>", "<p>")
    assert not part.exists()


def test_a_journal_of_another_job_is_not_used(tmp_path):
    path = tmp_path / "a.part"
    with pytest.raises(ZeroDivisionError), Journal(path, "one") as journal:
        journal.add("1", {"fragments": ["x"]})
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), Journal(path, "one") as journal:
        assert journal.records == {"1": {"fragments": ["x"]}}
        raise ZeroDivisionError
    with Journal(path, "two") as journal:
        assert not journal.records
    assert not path.exists()


def test_fragments_survive_the_journal():
    code = InlineCode(CodeKind.OPEN, 1, "<b>", None)
    unit = Unit(key="1", fragments=("a", code, "b", replace(code, kind=CodeKind.CLOSE)))
    packed = json.loads(json.dumps(pack_fragments(unit.fragments)))
    assert unpack_fragments(packed, unit) == unit.fragments
    assert unpack_fragments(packed[:2], unit) is None
    assert unpack_fragments(["x", [7, "open"]], unit) is None


def test_formats_are_found_by_content_before_names():
    assert detect_format(PAGE, "page").name == "html"
    assert detect_format(b"WEBVTT\n\n", "a.txt").name == "vtt"
    assert detect_format(b'<?xml version="1.0"?>\n<tmx version="1.4">', "a.xml").name == "tmx"
    assert detect_format(b"<resources>", "strings.xml").name == "android"
    assert detect_format(b"Some words", "notes").name == "txt"
    assert detect_format("Ein Text".encode("utf-16"), "a.txt").name == "txt"
    with pytest.raises(DocumentError, match=r"\.exe.*supported are .*html.*txt"):
        detect_format(b"MZ\x90\x00", "a.exe")
    with pytest.raises(DocumentError):
        detect_format(b"<svg/>", "a.xml")
    with pytest.raises(DocumentError, match="zip"):
        detect_format(b"PK\x03\x04 damaged", "a.docx")


def test_empty_files_are_refused(generator):
    with pytest.raises(DocumentError, match="empty"):
        translate_document(b"", "a.html", Translator(generator), **EN_FR)


def test_each_format_says_what_it_keeps():
    names = [each.name for each in document_formats()]
    assert len(set(names)) == len(names) >= 17
    for each in document_formats():
        assert each.keeps.endswith(".")
        assert each.suffixes and all(suffix.startswith(".") for suffix in each.suffixes)


def test_the_package_exports_the_function():
    assert nllb.translate_document is translate_document


def by_words(text):
    """Take text with French words for French, and other text for English."""
    return ("fra_Latn" if text.count("le ") > text.count("the ") else "eng_Latn"), 0.99


def test_a_document_in_two_languages_is_translated_where_it_has_to_be(generator, stand_in_detector):
    english = "<p>the cat and the dog and the house are here.</p>" * 2
    french = "<p>le chat et le chien et le loup restent ici.</p>"
    data = (english + french).encode()
    translator = Translator(generator, detector=stand_in_detector(by_words))
    done = translate_document(data, "a.html", translator, source="auto", target="fr")
    assert done.report.source.code == "eng_Latn"
    assert (
        done.data.decode() == english.upper().replace("<P>", "<p>").replace("</P>", "</p>") + french
    )
    kept = translate_document(french.encode(), "a.html", translator, source="auto", target="fr")
    assert kept.data.decode() == french

import json
import tracemalloc

from nllb.inference.generator import Hypothesis
from nllb.languages import parse_language
from nllb.translation.file_translation import FileOptions, FileTranslation
from nllb.translation.records import SPOOL_BYTES, DocumentRecord, line_record
from nllb.translation.translator import Translator

ENGLISH, FRENCH = parse_language("eng_Latn"), parse_language("fra_Latn")


def document(translations, source=ENGLISH):
    written = []
    with DocumentRecord("a.txt", 7, False) as record:
        for translation in translations:
            record.add(translation)
        record.write(written.append, source=source, target=FRENCH)
    return written


def test_a_document_is_one_object_with_its_exact_text(stand_in):
    translator = Translator(stand_in(lambda segment, search: segment.upper()))
    lines = ['Say "hi" \\ now.\n', "\n", "\tEnd\u2028 of it 12 {x}."]
    written = "".join(document(translator.translate(lines, "en", "fr")))
    assert written.endswith("\n") and written.count("\n") == 1
    record = json.loads(written)
    assert list(record) == [
        *("file", "line", "source_text", "text", "source", "target", "trust", "flags"),
    ]
    assert (record["file"], record["line"], record["source"]) == ("a.txt", 7, "eng_Latn")
    assert record["source_text"] == "".join(lines)
    assert record["text"] == "".join(lines).upper()
    whole = [line_record(1, each) for each in translator.translate(lines, "en", "fr")]
    assert record["trust"] == json.loads(json.dumps([part for r in whole for part in r["trust"]]))
    assert record["flags"] == [flag for r in whole for flag in r["flags"]]


def test_an_empty_document_has_no_language():
    record = json.loads("".join(document([])))
    assert (record["source"], record["text"], record["trust"]) == ("und", "", [])


def test_passages_of_consecutive_lines_are_joined(stand_in, stand_in_detector):
    detector = stand_in_detector(lambda text: ("deu_Latn" if "das" in text else "eng_Latn", 0.99))
    translator = Translator(stand_in(lambda segment, search: segment.upper()), detector=detector)
    lines = ["The first line.\n", "\n", "The second line.\n", "Und das ist deutsch.\n"]
    written = document(translator.translate(lines, "auto", "fr"))
    passages = json.loads("".join(written))["passages"]
    found = [(each["language"], each["first_line"], each["num_lines"]) for each in passages]
    assert found == [("eng_Latn", 1, 3), ("deu_Latn", 4, 1)]


def test_a_large_document_is_written_piece_by_piece(stand_in):
    translator = Translator(stand_in(lambda segment, search: segment.upper()))
    text = "word " * 50
    [translation] = translator.translate([text], "en", "fr")
    written = document([translation] * (SPOOL_BYTES // len(text) + 10))
    assert max(map(len, written)) <= 1 << 16
    assert len(json.loads("".join(written))["text"]) > SPOOL_BYTES


def test_memory_does_not_grow_with_a_document(monkeypatch, tmp_path):
    """Lines repeat, so that only the object of the document could grow."""
    monkeypatch.setattr("nllb.translation.records.SPOOL_BYTES", 1 << 14)

    class Upper:
        def generate(self, segments, *, source, target, search, prefixes=None):
            return [[make(segment)] for segment in segments]

        def fits(self, segment, *, source):
            return True

        def supports(self, language):
            return True

        def has_shortlist(self, target):
            return False

    def make(segment):
        return Hypothesis(
            source=segment,
            text=segment.upper(),
            token_ids=(),
            log_probability=-0.1,
            score=-0.1,
            num_tokens=1,
        )

    def peak(num_lines):
        path = tmp_path / "text"
        path.write_text("".join(f"{n % 20} {'word ' * 150}\n" for n in range(num_lines)))
        options = FileOptions(source="en", target="fr", as_documents=True, as_json=True)
        run = FileTranslation(Translator(Upper()), options, write=len)
        tracemalloc.start()
        run.run([path])
        _, largest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert run.counts.num_lines == num_lines
        return largest

    peak(20)
    small, large = peak(500), peak(2000)  # 0.4 and 1.5 MB of text, of which the object has four
    assert large < small + 600_000

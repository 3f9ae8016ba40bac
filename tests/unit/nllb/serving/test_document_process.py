"""The process that parses uploaded files: its limits, and that it starts quickly."""

import subprocess
import sys
import threading

import pytest

from nllb.errors import DocumentError
from nllb.languages import parse_language
from nllb.serving.document_jobs import safe_name
from nllb.serving.document_process import DocumentProcess
from nllb.serving.features import Terms
from nllb.translation.translator import Translator
from tests.serving_stand_in import ShiftGenerator, WordDetector, shifted

PAGE = b"<p>Cats and <b>dogs</b>.</p>"


def translate(process: DocumentProcess, data: bytes, name: str, before_batch=None):
    generator = ShiftGenerator()
    if before_batch is not None:
        generator.before_batch = before_batch
    return process.translate(
        data,
        name,
        Translator(generator, detector=WordDetector()),
        source=None,
        target=parse_language("de"),
        terms=Terms(),
    )


def test_a_file_is_translated_by_the_servers_model() -> None:
    process = DocumentProcess(memory_bytes=1 << 30, timeout_s=60)
    found = translate(process, PAGE, "a.html")
    assert (
        found.data
        == f"<p>{shifted('Cats and <b>dogs</b>.', 'deu_Latn')}</p>".replace(
            shifted("<b>", "deu_Latn"), "<b>"
        )
        .replace(shifted("</b>", "deu_Latn"), "</b>")
        .encode()
    )
    assert found.report["source"] == "eng_Latn" and found.num_characters == 14


def test_too_much_memory_ends_the_process_only() -> None:
    process = DocumentProcess(memory_bytes=16 << 20, timeout_s=60)
    with pytest.raises(DocumentError, match="memory"):
        translate(process, b"<p>Cats.</p>\n" * 400_000, "a.html")


def test_it_is_killed_when_its_time_is_over() -> None:
    killed = threading.Event()
    process = DocumentProcess(memory_bytes=1 << 30, timeout_s=60)

    def kill(segments: object) -> None:
        process.kill()
        killed.set()

    with pytest.raises(DocumentError, match="too much time"):
        translate(process, PAGE, "a.html", kill)
    assert killed.is_set() and process._process.poll() is not None


def test_a_bad_file_is_refused_by_name() -> None:
    process = DocumentProcess(memory_bytes=1 << 30, timeout_s=60)
    with pytest.raises(DocumentError, match=r"a\.exe"):
        translate(process, b"MZ\x00\xff" * 9, "a.exe")


def test_neither_the_process_nor_the_application_imports_torch() -> None:
    code = (
        "import sys; import nllb.serving.document_process, nllb.serving.app;"
        "from nllb.documents import document_formats; document_formats();"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("report.docx", "report.docx"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\a.html", "a.html"),
        ("", "file"),
        (None, "file"),
        ("..", "file"),
        ("a\x00b\n.txt", "ab.txt"),
        ("x" * 500 + ".html", "x" * 195 + ".html"),
    ],
)
def test_names_are_only_names(given: str | None, name: str) -> None:
    assert safe_name(given) == name

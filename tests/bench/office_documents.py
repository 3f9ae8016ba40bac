"""Translation of Office files: `python -m tests.bench office_documents`.

NLLB_OFFICE_FILES is a folder with one subfolder per unpacked package. Every file in a zip-based
format is parsed and rendered twice. A translation without changes must return the same bytes. One
that swaps the case of all letters must return a file that parses to the swapped texts, with the
same members and with the same number of all elements except runs. A document of 200 pages is timed.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nllb.documents.archive import Archive
from nllb.documents.registry import document_formats, open_document
from nllb.documents.units import FormatOptions, Fragment, Unit
from nllb.documents.xml_spans import parse_xml
from nllb.errors import NllbError
from nllb.languages import parse_language
from tests.bench.measuring import RESULTS, environment
from tests.office_files import docx_bytes, paragraph, run

FORMATS = frozenset({"docx", "pptx", "xlsx", "odf", "epub", "idml"})
TARGET = parse_language("deu_Latn")
MAY_CHANGE = frozenset(
    "r rPr t proofErr soft-page-break lastRenderedPageBreak softHyphen lang span s rPh "
    "CharacterStyleRange Properties Content AppliedFont Leading".split()
)
"""Elements whose number may change: those of runs, and those that a translation invalidates."""
PAGES, WORDS_PER_PAGE = 200, 500


def swapped(unit: Unit) -> list[Fragment]:
    """Return the fragments of a unit with the case of all letters swapped."""
    return [part.swapcase() if isinstance(part, str) else part for part in unit.fragments]


def words(fragments: Sequence[Fragment]) -> str:
    """Return the letters of fragments."""
    shown = "".join(part for part in fragments if isinstance(part, str))
    return "".join(character for character in shown if character.isalpha())


def elements_kept(before: Archive, after: Archive) -> bool:
    """Return whether the changed members have all elements that a translation must keep."""
    for name in before.names:
        old, new = before.read(name), after.read(name)
        if name.endswith(".xlsx"):
            if not elements_kept(Archive(old), Archive(new)):
                return False
        elif old != new and counted(name, old) != counted(name, new):
            return False
    return True


def counted(name: str, data: bytes) -> Counter[tuple[str, str]]:
    """Count the elements of a member, without those of run properties."""
    counts: Counter[tuple[str, str]] = Counter()
    waiting = [parse_xml(data, name=name).root]
    while waiting:
        element = waiting.pop()
        if element.local not in MAY_CHANGE:
            counts[element.namespace, element.local] += 1
        if element.local != "rPr":  # joined runs share their properties
            waiting += element.elements
    return counts


def check(path: Path) -> dict[str, Any] | None:
    """Return the result of a file; None if it is in another format."""
    data = path.read_bytes()
    try:
        found, document = open_document(data, path.name, FormatOptions())
    except NllbError as error:
        return {"format": path.suffix, "refused": str(error)}
    if found.name not in FORMATS:
        return None
    same = document.render({u.key: u.fragments for u in document.units}, source=None, target=TARGET)
    changed = {unit.key: swapped(unit) for unit in document.units}
    result = document.render(changed, source=None, target=TARGET)
    _, again = open_document(result, path.name, FormatOptions())
    return {
        "format": found.name,
        "units": len(document.units),
        "identical": same == data,
        "texts_kept": [words(changed[u.key]) for u in document.units]
        == [words(u.fragments) for u in again.units],
        "members_kept": Archive(data).names == Archive(result).names,
        "elements_kept": elements_kept(Archive(data), Archive(result)),
    }


def files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder with the suffixes of the formats."""
    suffixes = {s for each in document_formats() if each.name in FORMATS for s in each.suffixes}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file() and not path.is_symlink():
            yield path


def long_document() -> bytes:
    """Return a Word document of 200 pages with five runs per paragraph of 50 words."""
    texts = [f"word{number % 977} " * 10 for number in range(PAGES * WORDS_PER_PAGE // 10)]
    paragraphs = []
    for start in range(0, len(texts), 5):
        runs = (run(text, "<w:b/>" * (n == 2)) for n, text in enumerate(texts[start : start + 5]))
        paragraphs.append(paragraph("".join(runs)))
    return docx_bytes("".join(paragraphs))


def time_of_long_document() -> dict[str, float]:
    """Return the processor time for parsing and rendering, the best of three runs."""
    data, best = long_document(), {"parse_s": 1e9, "render_s": 1e9}
    for _ in range(3):
        start = time.process_time()
        _, document = open_document(data, "long.docx", FormatOptions())
        parsed = time.process_time()
        changed = {unit.key: swapped(unit) for unit in document.units}
        middle = time.process_time()
        document.render(changed, source=None, target=TARGET)
        end = time.process_time()
        best["parse_s"] = min(best["parse_s"], parsed - start)
        best["render_s"] = min(best["render_s"], end - middle)
    return best


def main() -> int:
    """Check all files; the exit code is 1 if a check fails."""
    folder = os.environ.get("NLLB_OFFICE_FILES")
    if not folder:
        print("set NLLB_OFFICE_FILES to a folder of unpacked packages with office files")
        return 2
    root = Path(folder)
    rows: dict[str, Counter[str]] = {}
    packages: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    for path in files(root):
        result = check(path)
        if result is None:
            continue
        row = rows.setdefault(result["format"], Counter())
        row["files"] += 1
        packages[path.relative_to(root).parts[0]] += 1
        for name, value in result.items():
            if name == "refused":
                row["refused"] += 1
            elif name != "format":
                row[name] += int(value)
        if not all(value for name, value in result.items() if name.endswith(("kept", "identical"))):
            failures.append({"file": str(path.relative_to(root)), **result})
        elif "refused" in result:
            failures.append({"file": str(path.relative_to(root)), **result})
    for name, row in rows.items():
        print(name, dict(row), flush=True)
    seconds = time_of_long_document()
    print(f"{PAGES} pages: {seconds}")
    report = {
        "formats": {name: dict(row) for name, row in rows.items()},
        "packages": dict(sorted(packages.items())),
        "failures": failures,
        "seconds_of_200_pages": seconds,
        "environment": environment(),
    }
    path = RESULTS / "office_documents.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any("refused" not in failure for failure in failures))


if __name__ == "__main__":
    sys.exit(main())

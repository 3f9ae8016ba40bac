"""Files that come inside Debian and Python packages: nothing but their text changes."""

import os
import random
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from nllb.documents.registry import open_document
from nllb.documents.units import FormatOptions
from nllb.errors import DocumentError
from nllb.languages import parse_language

FOLDERS = (*(Path(place) for place in sys.path if place.endswith("-packages")), Path("/usr/share"))
SUFFIXES = {
    ".html": "html",
    ".htm": "html",
    ".md": "md",
    ".json": "json",
    ".po": "po",
    ".pot": "po",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".ftl": "ftl",
    ".properties": "properties",
    ".csv": "csv",
    ".tsv": "tsv",
    ".srt": "srt",
    ".vtt": "vtt",
    ".xlf": "xliff",
    ".tmx": "tmx",
    ".strings": "strings",
    ".txt": "txt",
}
PER_FORMAT = 100
MAX_BYTES = 25_000
MAX_BYTES_OF_RARE = {"csv": 300_000, "yaml": 300_000}
GERMAN = parse_language("deu_Latn")


@pytest.fixture(scope="module")
def files():
    """Return paths by format: the same choice on the same machine."""
    found = defaultdict(list)
    for folder in FOLDERS:
        for root, _, names in os.walk(folder):
            for name in names:
                known = SUFFIXES.get(os.path.splitext(name)[1].lower())
                if known is not None:
                    found[known].append(Path(root, name))
    chooser = random.Random(0)
    chosen = {}
    for name, paths in found.items():
        paths.sort()
        chooser.shuffle(paths)
        limit = MAX_BYTES_OF_RARE.get(name, MAX_BYTES)
        fitting = (path for path in paths if path.is_file() and 0 < path.stat().st_size < limit)
        chosen[name] = [path for path, _ in zip(fitting, range(PER_FORMAT), strict=False)]
    return chosen


def accents(text):
    return text.replace("e", "é").replace("a", "ä")


def own_text(units):
    return ["".join(part for part in unit.fragments if isinstance(part, str)) for unit in units]


def squeezed(texts):
    return ["".join(text.split()) for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*SUFFIXES.values()} - {"po", "xliff", "tmx"}))
def test_real_files_change_in_their_text_only(files, name, record_property):
    paths = files.get(name, [])
    if not paths:
        pytest.skip(f"no {name} files on this machine")
    count = 0
    for path in paths:
        data = path.read_bytes()
        try:
            found, document = open_document(data, path.name, FormatOptions())
        except DocumentError:
            continue  # binary files and damaged samples of other tests
        units = document.plan_units(GERMAN)
        same = {unit.key: unit.fragments for unit in units}
        unchanged = document.render({}, source=None, target=GERMAN)
        assert document.render(same, source=None, target=GERMAN) == unchanged, path
        if found.name != "html":  # where `lang` is set
            assert unchanged == data, path
        changed = {
            unit.key: [accents(part) if isinstance(part, str) else part for part in unit.fragments]
            for unit in units
        }
        done = document.render(changed, source=None, target=GERMAN)
        again = open_document(done, path.name, FormatOptions())[1].plan_units(GERMAN)
        assert squeezed(own_text(again)) == squeezed(map(accents, own_text(units))), path
        count += 1
    record_property("files", count)
    print(f"{name}: {count} files")
    assert count

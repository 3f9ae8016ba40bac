"""What the base install does without the `eval` extra, and what it says of the rest."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
for name in ("scipy", "openpyxl", "odf"):
    sys.modules[name] = None
from nllb.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def files(tmp_path):
    for folder in ("set", "old", "new"):
        (tmp_path / folder).mkdir()
    for code in ("eng_Latn", "fra_Latn"):
        (tmp_path / "set" / code).write_text("".join(f"{code} line {n}\n" for n in range(9)))
    for system in ("old", "new"):
        path = tmp_path / system / "eng_Latn-fra_Latn.txt"
        path.write_text("".join(f"fra_Latn {system} {n}\n" for n in range(9)))
    return tmp_path


def run(folder, *words):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_scores_and_a_report_need_no_extra(files):
    output = "new/eng_Latn-fra_Latn.txt"
    for words in (
        ["score", "--hypothesis", output, "--reference", "set/fra_Latn", "-t", "fr"],
        ["compare", output, output, "--reference", "set/fra_Latn", "-t", "fr"],
        ["flores", "out", "--outputs", "new", "--flores", "set", "--quiet"],
        ["report", "out", "r.html", "--quiet"],
    ):
        done = run(files, "eval", *words)
        assert done.returncode == 0, done.stderr


def test_what_needs_the_extra_names_it(files):
    for system in ("old", "new"):
        words = ["flores", f"{system}-out", "--outputs", system, "--flores", "set", "--quiet"]
        assert run(files, "eval", *words).returncode == 0
    done = run(files, "eval", "compare", "old-out", "new-out", "--quiet")
    assert done.returncode == 1
    assert "pip install 'nllb[eval]'" in done.stderr and "Traceback" not in done.stderr
    (files / "r.xlsx").write_bytes(b"PK\x03\x04")
    done = run(files, "eval", "xsts", "check", "r.xlsx")
    assert done.returncode == 1 and "Traceback" not in done.stderr

"""Updates the outputs in README.md, its row of the bundled model, and the picture of a terminal.

    python tests/docs/refresh.py [--tokens-per-second N] [FILE]

Every `console` and `pycon` block is run in an empty home, and its output is replaced; a block with
`...` in a longer output is not changed. The row `mini` gets its figures from the model's card.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from picture import PICTURE, draw

ROOT = Path(__file__).parents[2]
CONSOLE = re.compile(r"(?<=^```console\n)\$ ([^\n]*)\n((?:.*\n)*?)(?=^```$)", re.MULTILINE)
SESSION = re.compile(r"(?<=^```pycon\n)(>>> (?:.*\n)*?)(?=^```$)", re.MULTILINE)
RUN_SESSION = """
import doctest, sys
names = {}
for example in doctest.DocTestParser().get_examples(sys.stdin.read()):
    first, *others = example.source.splitlines()
    print("\\n".join([f">>> {first}", *(f"... {line}" for line in others)]))
    exec(compile(example.source, "README.md", "single"), names)
"""
ROW = re.compile(r"^\| \[mini\].*$", re.MULTILINE)


def refreshed(text: str) -> str:
    """Return the text with the outputs of its console blocks as they are now."""
    with tempfile.TemporaryDirectory() as home:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "HOME": home, "HF_HOME": home, "PATH": path}

        def run(block: re.Match[str]) -> str:
            command, shown = block.groups()
            if "..." in shown and shown.strip() != "...":
                return block.group()
            done = subprocess.run(
                ["bash", "-c", command],
                env=environment,
                cwd=home,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"$ {command}\n{done.stderr}")
            return f"$ {command}\n{done.stdout}"

        def run_session(block: re.Match[str]) -> str:
            command = [sys.executable, "-c", RUN_SESSION]
            done = subprocess.run(
                command,
                input=block.group(),
                env=environment,
                cwd=home,
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout

        return SESSION.sub(run_session, CONSOLE.sub(run, text))


def row(tokens_per_second: str) -> str:
    """Return the bundled model's row of the table, from its files."""
    from nllb.config import format_size
    from nllb.inference.memory_plan import WORKING_BYTES
    from nllb.io.text import read_json, read_table
    from nllb.model.listing import list_model
    from nllb.model.shipped import DEFAULT_MODEL, find_shipped

    listing = list_model(DEFAULT_MODEL)
    folder = find_shipped(DEFAULT_MODEL)
    assert folder is not None
    scores = [
        float(each["chrf++"])
        for each in read_table(folder / "scores.tsv")
        if "eng_Latn" in (each["source"], each["target"])
    ]
    sentences = read_json(folder / "nllb.json")["evaluation"]["sentences"]
    size = sum(path.stat().st_size for path in folder.iterdir())
    memory = listing.weight_bytes()["int8"] + WORKING_BYTES
    cells = [
        "[mini](nllb/_models/mini/README.md)",
        f"none: ships, {format_size(size)}",
        format_size(memory),
        tokens_per_second,
        f"{sum(scores) / len(scores):.1f} ({len(scores)} directions, {sentences:,} lines)",
        listing.licence,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Update a file, and the picture if the file shows it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens-per-second", default="", help="as the bench measured it")
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "README.md")
    arguments = parser.parse_args()
    text = refreshed(arguments.file.read_text(encoding="utf-8"))
    if ROW.search(text):
        text = ROW.sub(lambda _: row(arguments.tokens_per_second), text)
    arguments.file.write_text(text, encoding="utf-8")
    if PICTURE.name in text:
        PICTURE.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Writes the outputs that README.md shows, and its row of the bundled model, anew.

    python tests/docs/refresh.py [--tokens-per-second N] [FILE]

Every `console` block is run, in an empty home, and its output put behind its command; a block that
has `...` in a longer output stays as it is. The row `mini` gets its figures from the model's card.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONSOLE = re.compile(r"(?<=^```console\n)\$ ([^\n]*)\n((?:.*\n)*?)(?=^```$)", re.MULTILINE)
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

        return CONSOLE.sub(run, text)


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
    """Refresh a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens-per-second", default="", help="as the bench measured it")
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "README.md")
    arguments = parser.parse_args()
    text = refreshed(arguments.file.read_text(encoding="utf-8"))
    if ROW.search(text):
        text = ROW.sub(lambda _: row(arguments.tokens_per_second), text)
    arguments.file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

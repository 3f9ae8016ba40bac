"""Draws docs/terminal.svg: real commands and their output, in the form of a terminal."""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).parents[2] / "docs" / "terminal.svg"
COMMANDS = (
    "echo 'Die Bibliothek öffnet um neun.' | nllb detect",
    "echo 'Where do you live?' | nllb translate --source en --target es",
    "echo '<p>I like <b>this book</b>.</p>' > page.html",
    "nllb translate page.html --source en --target fr --quiet",
    "cat page.fra_Latn.html",
)
WIDTH = 88
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def draw() -> str:
    """Run the commands in an empty home and return the picture of the terminal as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor")
    with tempfile.TemporaryDirectory() as home:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"HOME": home, "HF_HOME": home, "PATH": path}
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            done = subprocess.run(
                ["bash", "-c", command],
                env=environment,
                cwd=home,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
            )
            console.print(Text(done.stdout.rstrip("\n")), end="\n" if done.stdout else "")
    svg = console.export_svg(title="nllb", theme=MONOKAI, unique_id="nllb")
    # Without the fonts of a web server, the picture needs no network.
    return _FONT_FACE.sub("", svg).replace("Fira Code, ", "")


def shown_text() -> str:
    """Return the text of the committed picture."""
    svg = PICTURE.read_text(encoding="utf-8").replace("&#160;", " ")
    lines = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    escapes = {"&lt;": "<", "&gt;": ">", "&#x27;": "'", "&amp;": "&"}
    text = "".join(lines)
    for escape, character in escapes.items():
        text = text.replace(escape, character)
    return text

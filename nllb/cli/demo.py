"""`make demo`: detect, translate and assess one text with the real commands."""

import json
import os
import shlex
import subprocess
import sys
import time

TARGETS = ("eng_Latn", "fra_Latn", "spa_Latn", "deu_Latn", "rus_Cyrl")
TRUST = ("confidence", "log_probability", "length_ratio", "repetition", "output_language", "flags")
NEXT = """
Next steps:
  make demo TEXT='your own sentence'    the same with your text, in any language
  source .venv/bin/activate             makes every command available, such as
  nllb translate FILE --source auto --target sw --output OUT
  nllb models                           larger models, their size, memory and licence
  nllb --help                           all verbs: identify, mine, clean, train, evaluate
README.md explains the whole project.
"""


def show(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Print a command, run it, and print its output."""
    pipe = f"echo {shlex.quote(text)} | " if text is not None else ""
    print(f"\n$ {pipe}nllb {shlex.join(words)}", flush=True)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "nllb", *words],
        input=None if text is None else f"{text}\n",
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(f"{_shortened(done.stdout)}({time.monotonic() - start:.1f} s)", flush=True)
    return done


def _shortened(output: str) -> str:
    """Return the output; a trust record is reduced to its main fields."""
    if not output.startswith("{"):
        return output
    shown = ""
    for segment in json.loads(output)["trust"]:
        shown += f"  {segment['source_text']} -> {segment['text']}\n"
        shown += "".join(f"    {name}: {segment[name]}\n" for name in TRUST if name in segment)
    return shown


def main() -> int:
    """Show the commands with $TEXT; return 0 if all of them succeeded."""
    text = os.environ.get("TEXT") or "Good morning. What are you doing today?"
    detected = show("detect", "--top", "3", text=text)
    if detected.returncode:
        return detected.returncode
    source = detected.stdout.split("\t")[0]
    targets = [code for code in TARGETS if code != source]
    codes: list[int] = []
    for target in targets:
        words = ("translate", "--source", "auto", "--target", target)
        codes.append(show(*words, *(("--quiet",) if codes else ()), text=text).returncode)
        if codes == [2]:
            print("\nNothing was translated; the message above explains why and what to do.")
            return 2
    print("\nThe quality estimate of each sentence (--json has every field, for programs):")
    show("translate", "--source", "auto", "--target", targets[0], "--json", "--quiet", text=text)
    print(NEXT, end="")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

"""What `make demo` shows: detection and translation of one text by the real commands."""

import os
import shlex
import subprocess
import sys
import time

TARGETS = ("fra_Latn", "spa_Latn", "swh_Latn", "hin_Deva")


def show(*words: str, text: str | None = None) -> int:
    """Print a command, run it, and return its exit code."""
    given = f"echo {shlex.quote(text)} | " if text is not None else ""
    print(f"\n$ {given}nllb {shlex.join(words)}", flush=True)
    start = time.monotonic()
    command = [sys.executable, "-m", "nllb", *words]
    done = subprocess.run(
        command, input=None if text is None else f"{text}\n", text=True, check=False
    )
    print(f"({time.monotonic() - start:.1f} s)", flush=True)
    return done.returncode


def main() -> int:
    """Show the commands on $TEXT; return 0 when all that can run here ran."""
    text = os.environ.get("TEXT") or "The library opens at nine, and everyone is welcome."
    codes = [show("languages", "Yoruba"), show("detect", "--top", "3", text=text)]
    translated = False
    for target in TARGETS:
        code = show("translate", "--source", "auto", "--target", target, text=text)
        if code == 2 and not translated:
            print("\nNo model is here yet; the lines above say how to get one.")
            break
        translated = True
        codes.append(code)
    if translated:
        show("translate", "--source", "auto", "--target", TARGETS[0], "--json", text=text)
    print("\nWhere to go on: README.md, `nllb --help`, `make demo TEXT='your own sentence'`.")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

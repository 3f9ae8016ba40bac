"""Runs the benchmarks: `python -m tests.bench [NAME...]`, by default all of them.

Each module has `main(argv)` and writes all of its runs to tests/bench/results/NAME.json. Options
after `--` are passed to the modules.
"""

import argparse
import importlib
import inspect
import sys
from pathlib import Path


def modules() -> list[str]:
    """Return the names of the benchmark modules in this folder."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_") and "\ndef main(" in path.read_text(encoding="utf-8"):
            found.append(path.stem)
    return found


def main(argv: list[str]) -> int:
    """Run the named modules; the exit code is the highest one of any module."""
    options = argv[argv.index("--") + 1 :] if "--" in argv else []
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(modules()))
    names = parser.parse_args(argv[: argv.index("--")] if "--" in argv else argv).names
    if unknown := [name for name in names if name not in modules()]:
        parser.error(f"unknown benchmarks: {', '.join(unknown)}; valid: {', '.join(modules())}")
    worst = 0
    for name in names or modules():
        print(f"== {name}", flush=True)
        run = importlib.import_module(f"tests.bench.{name}").main
        takes_options = bool(inspect.signature(run).parameters)
        if not takes_options:
            sys.argv = [name, *options]
        worst = max(worst, (run(options) if takes_options else run()) or 0)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The `nllb` command: find the verb in the table, import its module, run it.

`verbs.tsv` is the table. A verb `lid train` with the home `nllb.cli.lid:train` is the function
`train(arguments) -> exit code` of that module, and `train_arguments(parser)` declares its
arguments. Only the module of the verb that runs is imported.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from nllb import __version__
from nllb.errors import ConfigError, did_you_mean

from .process_ends import run_to_exit_code

EXIT_USAGE = 2
PACKAGES = ("lid", "eval", "data_pipeline", "slurm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    """One row of the verb table."""

    words: tuple[str, ...]
    """The verb as typed: `("lid", "train")`."""
    group: str
    """Heading in `nllb --help`."""
    home: str
    """`module:function` that runs it."""
    summary: str
    """One line for the help."""


def read_verbs() -> list[Verb]:
    """Return the verb table."""
    lines = (Path(__file__).parent / "verbs.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [
        Verb(words=tuple(words.split()), group=group, home=home, summary=summary)
        for words, group, home, summary in rows[1:]
    ]


def overview(verbs: Sequence[Verb]) -> str:
    """Return the text of `nllb --help`, or of `nllb lid --help` for the verbs of a family."""
    width = max(len(" ".join(verb.words)) for verb in verbs) + 2
    first = {verb.words[0] for verb in verbs}
    family = f" {first.pop()}" if len(first) == 1 else ""
    lines = [
        f"usage: nllb{family} VERB [ARGUMENT...]    (nllb{family} VERB --help explains a verb)"
    ]
    for group in dict.fromkeys(verb.group for verb in verbs):
        lines += ["", f"{group}:"]
        members = [verb for verb in verbs if verb.group == group]
        lines += [f"  {' '.join(verb.words):<{width}}{verb.summary}" for verb in members]
    lines += [
        "",
        "Results go to stdout, messages to stderr. Exit codes: 0 done, 1 bad data, 2 bad usage.",
    ]
    return "\n".join(lines)


def find_verb(words: Sequence[str], verbs: Sequence[Verb]) -> Verb | None:
    """Return the verb at the beginning of the command line."""
    matching = [verb for verb in verbs if tuple(words[: len(verb.words)]) == verb.words]
    return max(matching, key=lambda verb: len(verb.words), default=None)


def build_parser(verb: Verb) -> argparse.ArgumentParser:
    """Import a verb's module and return its parser."""
    module_name, _, function = verb.home.partition(":")
    module = import_module(module_name)
    name = " ".join(verb.words)
    parser = argparse.ArgumentParser(
        prog=f"nllb {name}",
        description=verb.summary[0].upper() + verb.summary[1:] + ".",
        allow_abbrev=False,
    )
    getattr(module, f"{function}_arguments")(parser)
    for action in parser._actions:  # argparse would report `key=value ...` as missing
        action.required = action.required and action.nargs != "*"
    parser.set_defaults(run=getattr(module, function))
    return parser


def refuse_intruders() -> None:
    """Refuse to run if a foreign package with a generic name (`eval`, `lid`) hides ours."""
    home = Path(__file__).parent.parent.parent.resolve()
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is None:
            continue
        origin = spec.origin or next(iter(spec.submodule_search_locations or []), "")
        found = Path(origin).resolve()
        if home not in found.parents:
            raise ConfigError(
                f"the package {package!r} is taken from {found}, not from {home}: a folder or "
                f"distribution with this name hides the one of nllb; run from another folder or "
                f"remove it"
            )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; exits as argparse does on bad usage, and after `--help`."""
    verbs = read_verbs()
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(overview(verbs))
        print("Try: echo 'Good morning.' | nllb translate --source en --target fr")
        raise SystemExit(0 if argv else EXIT_USAGE)
    if argv[0] in {"-V", "--version"}:
        print(f"nllb {__version__}")
        raise SystemExit(0)
    verb = find_verb(argv, verbs)
    if verb is not None:
        refuse_intruders()
        return build_parser(verb).parse_intermixed_args(argv[len(verb.words) :])
    family = [verb for verb in verbs if verb.words[0] == argv[0]]
    words = [word for word in argv[:2] if not word.startswith("-")]
    if family and len(words) < 2:
        asked = "-h" in argv or "--help" in argv
        print(overview(family), file=sys.stdout if asked else sys.stderr)
        raise SystemExit(0 if asked else EXIT_USAGE)
    names = [" ".join(verb.words) for verb in verbs]
    name = " ".join(words) if family else argv[0]
    raise ConfigError(f"unknown verb {name!r}{did_you_mean(name, names) or '.'} See 'nllb --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""

    def run() -> int:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        code: int = arguments.run(arguments)
        return code

    return run_to_exit_code(run)

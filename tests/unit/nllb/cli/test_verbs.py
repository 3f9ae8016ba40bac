"""The verb table against the arguments that each command accepts, and the size of the verbs."""

import ast
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from nllb.cli import build_parser, main, overview, read_verbs

VERBS = read_verbs()


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: "-".join(verb.words))
def test_every_verb_has_a_home_and_help(verb, capsys) -> None:
    module, _, function = verb.home.partition(":")
    assert callable(getattr(import_module(module), function))
    with pytest.raises(SystemExit) as stop:
        build_parser(verb).parse_args(["--help"])
    assert stop.value.code == 0
    assert "nllb " + " ".join(verb.words) in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: "-".join(verb.words))
def test_flags_are_called_the_same_in_every_verb(verb) -> None:
    short = {"-q": "--quiet", "-m": "--model", "-s": "--source", "-t": "--target", "-h": "--help"}
    for action in build_parser(verb)._actions:
        names = action.option_strings
        assert ("-q" in names) == ("--quiet" in names)
        assert all(short.get(name, name) in names for name in names)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: "-".join(verb.words))
def test_help_says_what_each_argument_is_and_its_default(verb) -> None:
    for action in build_parser(verb)._actions:
        name = action.option_strings or [action.metavar]
        assert action.help, name
        if action.nargs != 0 and not action.choices:
            assert action.metavar, f"{name}: no word for its value"
        if isinstance(action.default, (int, float)) and action.nargs != 0 and action.default:
            assert "default: " in action.help, name


CLI = Path(import_module("nllb.cli").__file__).parent
MAX_VERB_LINES = 30


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.name)
def test_verbs_are_thin_wrappers(path: Path) -> None:
    """No function but a declaration of arguments is longer: the work is done by a library."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and not node.name.endswith("_arguments")
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    too_long = {name: length for name, length in lengths.items() if length > MAX_VERB_LINES}
    assert not too_long, f"move code of {path.name} to a library package: {too_long}"


def test_only_what_is_missing_is_called_missing(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["config", "check"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("arguments are required: CONFIG\n")


def test_overview_lists_every_verb_once_in_the_designs_groups() -> None:
    text = overview(VERBS)
    for verb in VERBS:
        beginning = f"  {' '.join(verb.words)}  "
        assert sum(line.startswith(beginning) for line in text.splitlines()) == 1, verb
    groups = [line[:-1] for line in text.splitlines() if line.endswith(":")]
    order = ["Use", "Prepare models", "Build", "Judge"]
    assert groups == [group for group in order if group in groups]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["transalte"], "did you mean translate"),
        (["config", "chekc"], "did you mean config check"),
        ([""], "unknown verb ''"),
    ],
)
def test_unknown_verbs_are_named_with_the_nearest(argv, words, capsys) -> None:
    assert main(argv) == 2
    assert words in capsys.readouterr().err


def test_half_a_verb_lists_its_family(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["config"])
    assert stop.value.code == 2
    assert "config check" in capsys.readouterr().err


def test_version_and_no_arguments(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2


def run(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_a_folder_of_the_same_name_is_refused_by_path(tmp_path: Path) -> None:
    for name in ("eval", "lid"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the decoy ran')\n")
    code = "import nllb, sys; from nllb.cli import main; sys.exit(main(['languages', 'french']))"
    environment = os.environ | {"PYTHONPATH": str(Path(import_module("nllb").__file__).parents[1])}
    outcome = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert outcome.returncode == 2
    assert str(tmp_path) in outcome.stderr and "the decoy ran" not in outcome.stderr


def test_translation_path_never_imports_fairseq2() -> None:
    code = (
        "import sys; import nllb.translation.translator, nllb.inference.model_generator;"
        "print([m for m in sys.modules if m.split('.')[0] in {'fairseq2', 'transformers'}])"
    )
    outcome = run(code)
    assert outcome.stdout.strip() == "[]", outcome.stderr


@pytest.mark.slow
def test_start_up_costs_few_bare_interpreters() -> None:
    """`import nllb` and `nllb --help` against a bare interpreter, interleaved, best of seven."""
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import nllb"],
        "help": [sys.executable, "-m", "nllb", "--help"],
    }
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(7):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            best[name] = min(best[name], time.perf_counter() - start)
    assert best["import"] < 3 * best["bare"]
    assert best["help"] < 8 * best["bare"]


TORCH_FREE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "fairseq2", "transformers"}:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
from nllb.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("argv", [["languages", "french"], ["languages", "--json"], ["--version"]])
def test_verbs_that_need_no_torch_run_without_it(argv) -> None:
    command = [sys.executable, "-c", TORCH_FREE, *argv]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
def test_a_full_disk_behind_stdout_is_one_message():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nllb", "languages"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        b"nllb: cannot write: No space left on device\n",
    )

"""Every code block of every README and documentation page runs, and every link has a target.

`sh` and `console` blocks run in their order in one folder. A `console` block (`$ command`, then its
output) must print the output that is shown, where `...` matches anything. `python` blocks run in
one namespace, and `pycon` blocks are doctests. Installing commands (`pip install`, `make`) are
compared with the project's files without running them. `python tests/docs/refresh.py` updates the
outputs, the figures and the picture of README.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from runpy import run_path

import pytest

from nllb.model.shipped import DEFAULT_MODEL, shipped_models

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("nllb/*/README.md")]
DOCUMENTS = sorted([*READMES, ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\((?!https?://|#)([^)#]+)")


def blocks(path: Path, *kinds: str) -> list[str]:
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return [body for kind, body in found if kind in kinds]


def is_installation(line: str) -> bool:
    return line.startswith(("pip install", "python -m pip install", "make", "git clone"))


def check_installation(line: str) -> None:
    """Hold an installing command against the project's own files."""
    words = line.split("#")[0].split()
    if words[0] == "make":
        for target in [word for word in words[1:] if "=" not in word]:
            rules = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{target}:", rules, re.MULTILINE), line
    elif "install" in words:
        wanted = [word.strip("'\"") for word in words[words.index("install") + 1 :]]
        assert any(word.split("[")[0] in {".", "nllb"} for word in wanted), line
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for extra in re.findall(r"\[([^\]]+)\]", line):
            assert set(extra.split(",")) <= set(project["optional-dependencies"]), line


@pytest.fixture
def shell(tmp_path: Path, documented_home: dict[str, str]):
    """Run a script in an empty folder with the tests' environment on PATH."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    environment = os.environ | documented_home
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["COLUMNS"] = "100"

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def needs_bundled_model(code: str) -> bool:
    """Say whether code uses the model that ships, by its name or by naming none."""
    unnamed = re.search(r"nllb translate(?![^\n|;]*(\\\n[^\n]*)?--model)", code)
    return bool(unnamed) or "mini" in code.split() or "Translator.load()" in code


def runnable(found: list[str]) -> tuple[list[str], int]:
    """Return the blocks that can run here, and how many need weights that are not here."""
    if DEFAULT_MODEL in shipped_models():
        return found, 0
    here = [block for block in found if not needs_bundled_model(block)]
    return here, len(found) - len(here)


def say_left_out(count: int) -> None:
    if count:
        pytest.skip(f"{count} blocks need the weights of nllb/_models/mini; the others ran")


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_run(path: Path, shell) -> None:
    found, left_out = runnable(blocks(path, "sh", "console"))
    for block in found:
        if not block.startswith("$ "):
            lines = block.splitlines()
            for line in filter(is_installation, lines):
                check_installation(line)
            shell("\n".join(line for line in lines if not is_installation(line)))
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            pattern = re.escape(expected.rstrip("\n")).replace(re.escape("..."), "(?s:.*)")
            printed = shell(command).rstrip("\n")
            assert re.fullmatch(pattern, printed), f"{command}\n{printed}\nis not\n{expected}"
    say_left_out(left_out)


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_runs(path: Path, shell) -> None:
    found, left_out = runnable(blocks(path, "python"))
    code = "\n".join(found)
    if code:
        shell(f"python - <<'PYTHON'\n{code}\nPYTHON")
    say_left_out(left_out)


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_sessions_print_what_is_shown(path: Path, shell) -> None:
    found, left_out = runnable(blocks(path, "pycon"))
    if found:
        session = "\n".join(found)
        shell(f"cat > session.txt <<'SESSION'\n{session}\nSESSION\n")
        shell("python -m doctest -o ELLIPSIS session.txt")
    say_left_out(left_out)


def test_picture_of_the_terminal() -> None:
    """It is small, needs no network, shows the commands of `picture.py`, and README shows it."""
    names = run_path(str(Path(__file__).with_name("picture.py")))
    picture, text = names["PICTURE"], names["shown_text"]()
    assert f"]({picture.relative_to(ROOT)})" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert picture.stat().st_size < 40_000
    addresses = re.findall(r"https?://[^\s\"')]+", picture.read_text(encoding="utf-8"))
    assert set(addresses) <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}
    for command in names["COMMANDS"]:
        assert command in text, "run: python tests/docs/refresh.py"
    assert "deu_Latn" in text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path}: {target}"


@pytest.mark.slow
def test_documentation_site_builds(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    commands = (tmp_path / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    assert "nllb translate" in commands and "key=value" in commands
    configurations = tmp_path / "reference" / "configurations" / "index.html"
    assert "train/mini-tiny" in configurations.read_text(encoding="utf-8")
    assert "terminal.svg" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "terminal.svg").is_file()

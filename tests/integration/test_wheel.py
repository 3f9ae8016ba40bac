"""The built wheel in a clean environment, run from a folder with decoys of our generic names."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from nllb.cli import read_verbs

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
WHEEL_LIMIT_MIB = 75


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "nllb"
    tracked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(tracked, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, names):
        path = ROOT / name.decode()
        target = source / name.decode()
        if name.startswith(b"tests/") or not path.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out]
    subprocess.run([*command, source], check=True, timeout=280)
    (built,) = out.glob("nllb-*.whl")
    return built


@pytest.fixture(scope="session")
def clean_python(wheel: Path, tmp_path_factory) -> Path:
    """Return the Python of an environment that holds the wheel, and sees what is installed here.

    The dependencies come from this environment by a `.pth` line, so nothing is downloaded; our own
    editable install is left out of sight because the wheel's folder stands first.
    """
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    here = Path(pytest.__file__).parents[1]
    (site / "dependencies.pth").write_text(f"{here}\n")
    return python


def test_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size <= WHEEL_LIMIT_MIB << 20
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert not {"tests", "configs"} & tops
    assert "nllb/languages/languages.tsv" in names and "nllb/py.typed" in names
    assert {"lid/_models/default/model.ftz", "data_pipeline/_models/encoder/encoder.json"} <= {
        *names
    }
    page = [path for path in (ROOT / "nllb/serving/page").iterdir() if path.is_file()]
    assert page and {str(path.relative_to(ROOT)) for path in page} <= {*names}
    weights = [path for path in ROOT.glob("nllb/_models/**/*") if path.is_file()]
    assert {str(path.relative_to(ROOT)) for path in weights} <= {*names}
    shipped = {path.relative_to(ROOT / "configs") for path in ROOT.glob("configs/*/*.yaml")}
    for config in shipped:
        assert f"nllb/_configs/{config}" in names


def test_every_verb_runs_beside_decoys(clean_python: Path, tmp_path: Path) -> None:
    for name in ("eval", "lid"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the decoy ran')\n")
    (tmp_path / "text.txt").write_text("Good morning, how are you today?\n")
    commands = [[*verb.words, "--help"] for verb in read_verbs()]
    commands += [
        ["languages", "French"],
        ["detect", "text.txt"],
        ["eval", "score", "--hypothesis", "text.txt", "--reference", "text.txt", "--target", "en"],
    ]
    entry = "import sys; sys.path.pop(0); from nllb.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in commands:
        outcome = subprocess.run(
            [clean_python, "-c", entry, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert outcome.returncode == 0, (command, outcome.stderr)
        assert "decoy" not in outcome.stdout + outcome.stderr


def test_python_dash_m_names_the_decoy(clean_python: Path, tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").write_text("raise SystemExit('the decoy ran')\n")
    outcome = subprocess.run(
        [clean_python, "-m", "nllb", "languages", "French"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 2
    assert str(tmp_path / "eval") in outcome.stderr

"""The allowed import direction between packages; any other import fails."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("nllb", "lid", "eval", "data_pipeline", "slurm")
FOUNDATION = {"languages", "io", "config", "errors"}
MAY_IMPORT = {
    "foundation": {"foundation"},
    "lid": {"foundation"},
    "slurm": {"foundation"},
    "nllb.model": {"foundation"},
    "nllb.inference": {"foundation", "nllb.model"},
    "nllb.training": {"foundation", "nllb.model"},
    "nllb.translation": {"foundation", "nllb.model", "nllb.inference"},
    "nllb.documents": {"foundation", "nllb.model", "nllb.inference", "nllb.translation"},
    "nllb.serving": {
        "foundation",
        "nllb.model",
        "nllb.inference",
        "nllb.translation",
        "nllb.documents",
    },
    "data_pipeline": {"foundation", "lid", "nllb.model", "nllb.inference"},
    "eval": {"foundation", "nllb.model", "nllb.inference", "nllb.translation"},
    "nllb": {  # lazily, in __init__.py
        "foundation",
        "lid",
        "nllb.inference",
        "nllb.translation",
        "nllb.documents",
    },
}
NO_TORCH = {"foundation", "lid", "slurm", "nllb"}
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def layer(module: str) -> str:
    parts = module.split(".")
    if parts[0] != "nllb":
        return parts[0]
    if len(parts) == 1:
        return "nllb"
    return "foundation" if parts[1] in FOUNDATION else f"nllb.{parts[1]}"


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, relative ones resolved."""
    package = list(path.relative_to(ROOT).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{stem}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_the_same_package_are_imported_relatively(path: Path) -> None:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    absolute = [
        node.module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level and node.module
        if f"{node.module}.".startswith(f"{package}.") and node.module != "nllb"
    ]
    assert not absolute, f"{path} imports {absolute}; write 'from .name import ...'"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_layers(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = layer(module)
    if own in {"nllb.cli", "nllb.__main__"}:
        return
    for name in imports(path):
        top = name.split(".")[0]
        if top == "torch":
            assert own not in NO_TORCH, f"{module} imports torch"
        if top == "fairseq2":
            assert own == "nllb.training", f"{module} imports fairseq2"
        if top in PACKAGES:
            target = layer(name)
            assert target == own or target in MAY_IMPORT[own] or name == "nllb.__version__", (
                f"{module} ({own}) imports {name} ({target})"
            )


def module_graph() -> dict[str, set[str]]:
    """Return the modules of the project and which modules of the project each one imports.

    Imports inside functions and under TYPE_CHECKING count; `__version__` of a package does not.
    """
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    graph: dict[str, set[str]] = {}
    for module, path in names.items():
        targets = graph[module] = set()
        for imported in imports(path):
            name = imported
            while name and name not in names:
                name = name.rpartition(".")[0]
            if name and imported != f"{name}.__version__":
                targets.add(name)
    return graph


ALLOWED_CYCLES: frozenset[str] = frozenset()
"""Modules of known cycles that are still to be broken."""


def test_no_files_import_each_other_in_a_cycle() -> None:
    graph = {
        module: {target for target in targets if target != module} - ALLOWED_CYCLES
        for module, targets in module_graph().items()
        if module not in ALLOWED_CYCLES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def test_no_file_outgrows_the_limit() -> None:
    code = [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "nllb").rglob("*.c")]
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in code}
    assert {str(path): size for path, size in sizes.items() if size > 600} == {}


def test_no_exported_name_equals_a_submodule() -> None:
    for path in FILES:
        if path.name != "__init__.py":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                exported = set(ast.literal_eval(node.value))
                assert len(exported) <= 20, path
                submodules = {
                    child.stem for child in path.parent.iterdir() if child.suffix in {"", ".py"}
                }
                assert not exported & submodules, path


def test_top_level_is_the_designs() -> None:
    allowed = {
        *PACKAGES,
        "pyproject.toml",
        "configs",
        "tests",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Dockerfile",
        "Makefile",
        "docs",
        "mkdocs.yml",
        "site",
        "build",
        "dist",
        "runs",
    }
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in names if not name.endswith(".egg-info")} <= allowed

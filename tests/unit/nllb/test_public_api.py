"""The names that `nllb` exports: what callers need for annotations, explained by `help()`."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nllb
from data_pipeline.data_config import CleanConfig
from nllb.errors import NllbError

ROOT = Path(__file__).parents[3]
CLASSES = [name for name in nllb.__all__ if inspect.isclass(getattr(nllb, name))]


def test_exported_names_are_complete_and_loaded_lazily() -> None:
    assert sorted(nllb.__all__) == sorted([*nllb._MODULES, "__version__"])
    assert dir(nllb) == sorted(nllb.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nllb.nothing
    code = (
        "import sys, nllb; print(sorted({'torch', 'numpy', 'regex', 'pydantic'} & {*sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"


@pytest.mark.parametrize("name", CLASSES)
def test_help_explains_every_field(name: str) -> None:
    cls = getattr(nllb, name)
    text = inspect.getdoc(cls)
    assert text and text.splitlines()[0].endswith(".")
    if dataclasses.is_dataclass(cls):
        attributes = text.partition("Attributes:\n")[2]
        explained = re.findall(r"^    (\w+): \S", attributes, re.MULTILINE)
        assert explained == [field.name for field in dataclasses.fields(cls)]


@pytest.mark.parametrize("package", ["nllb", "data_pipeline"])
def test_every_field_of_a_public_class_is_explained(package: str) -> None:
    missing = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for cls in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(cls, ast.ClassDef) and not cls.name.startswith("_"):
                missing += [f"{path.name}: {cls.name}.{name}" for name in unexplained_fields(cls)]
    assert not missing


def unexplained_fields(cls: ast.ClassDef) -> Iterator[str]:
    """Yield the public fields that neither the class docstring nor the next line explains."""
    text = ast.get_docstring(cls) or ""
    for line, following in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            name, annotation = line.target.id, ast.unparse(line.annotation)
            is_described = isinstance(following, ast.Expr) or "description=" in ast.unparse(line)
            is_public = not name.startswith("_") and not annotation.startswith("ClassVar")
            if is_public and not is_described and f"{name}: " not in text:
                yield name


def test_help_explains_the_fields_of_configurations() -> None:
    text = inspect.getdoc(CleanConfig) or ""
    assert "unicode: Unicode form" in text and "markup: Remove tags" in text


@pytest.mark.parametrize("name", ["Translator", "Detector"])
def test_help_explains_the_attributes_of_other_classes(name: str) -> None:
    assert "Attributes:" in (inspect.getdoc(getattr(nllb, name)) or "")


@pytest.mark.parametrize("name", CLASSES)
def test_public_methods_and_properties_are_explained(name: str) -> None:
    cls = getattr(nllb, name)
    for key, member in vars(cls).items():
        is_api = isinstance(member, (property, classmethod)) or inspect.isfunction(member)
        if is_api and not key.startswith("_"):
            assert inspect.getdoc(getattr(cls, key)), f"{name}.{key}"


def test_every_exported_error_is_an_nllb_error() -> None:
    errors = [getattr(nllb, name) for name in CLASSES if name.endswith("Error")]
    assert len(errors) == 7
    assert all(issubclass(error, NllbError) for error in errors)

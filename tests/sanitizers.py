"""Builds of the C kernels with AddressSanitizer and UBSan, and programs that run with them.

A kernel is compiled with the flags that `pyproject.toml` gives it, into a folder of its own: the
installed kernel stays as it is. The sanitizers must be loaded before Python's own libraries, so a
program that uses such a build is a process with `LD_PRELOAD`.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLAGS = (
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
    *("-fno-omit-frame-pointer", "-g", "-O1", "-fPIC", "-shared"),
)
OPTIONS = {
    # Python and torch free little at exit, so that leaks are not looked for.
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "PYTHONMALLOC": "malloc",  # strings and lists have red zones, too
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sanitizers:
    """A compiler with its sanitizers."""

    compiler: str
    """Path of the compiler."""
    preloaded: str
    """What `LD_PRELOAD` is set to."""

    def build(self, module: str, folder: Path) -> Path:
        """Compile an extension module of `pyproject.toml` and return the library."""
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        [extension] = [
            each for each in settings["tool"]["setuptools"]["ext-modules"] if each["name"] == module
        ]
        return self.compile(
            [ROOT / source for source in extension["sources"]],
            folder / f"{module.replace('.', '-')}.so",
            *(*extension["extra-compile-args"], f"-I{sysconfig.get_path('include')}"),
        )

    def compile(self, sources: list[Path], library: Path, *flags: str) -> Path:
        """Compile C files to a library and return it."""
        command = [self.compiler, *flags, *FLAGS, *map(str, sources), "-o", str(library)]
        subprocess.run(command, check=True, timeout=200)
        return library

    def run(self, program: Path, *arguments: object, timeout_s: int = 240) -> str:
        """Run a Python program with the sanitizers loaded; it must end well, and report nothing."""
        environment = {**os.environ, **OPTIONS, "LD_PRELOAD": self.preloaded}
        environment["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(
            [sys.executable, str(program), *map(str, arguments)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        report = f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        assert done.returncode == 0, report
        for word in ("AddressSanitizer", "runtime error:"):
            assert word not in done.stderr, report
        return done.stdout


def find_sanitizers() -> Sanitizers:
    """Return the compiler; the test skips where there is none, or none with sanitizers."""
    for name in ("gcc", "cc"):
        compiler = shutil.which(name)
        if compiler is None:
            continue
        libraries = [_library(compiler, file) for file in ("libasan.so", "libstdc++.so")]
        if all(library.is_absolute() and library.is_file() for library in libraries):
            preloaded = " ".join(map(str, libraries))  # C++ exceptions need their own library
            return Sanitizers(compiler=compiler, preloaded=preloaded)
    pytest.skip("no compiler with AddressSanitizer and UBSan: install gcc")


def _library(compiler: str, file: str) -> Path:
    found = subprocess.run(
        [compiler, f"-print-file-name={file}"], capture_output=True, text=True, check=True
    )
    return Path(found.stdout.strip())

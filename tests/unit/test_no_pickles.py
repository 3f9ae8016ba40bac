"""Nothing reads a pickle, or runs code of a file in any other way, but the one loader."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("nllb", "lid", "eval", "data_pipeline", "slurm")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
LOADER = ROOT / "nllb" / "model" / "formats" / "torch_files.py"
MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("jsonpickle", "pandas", "xmlrpc"),
}
CALLS = {
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all"),
    *("distributed.broadcast_object_list", "distributed.all_gather_object"),
    *("distributed.gather_object", "distributed.scatter_object_list"),
    *("distributed.send_object_list", "distributed.recv_object_list"),
    *("eval", "exec", "compile", "builtins.eval", "builtins.exec", "os.system", "os.popen"),
    *("numpy.fromregex", "numpy.loads", "np.loads"),
}
LOADS = {"numpy.load", "np.load"}


def called(node: ast.Call) -> str:
    name = ast.unparse(node.func)
    return name.removeprefix("torch.") if name.startswith("torch.distributed.") else name


def faults(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        yield from (name for name in modules if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        keywords = {one.arg: ast.unparse(one.value) for one in node.keywords}
        if name in CALLS or (name in LOADS and keywords.get("allow_pickle") != "False"):
            yield f"line {node.lineno}: {name}"
        if keywords.get("shell") == "True" or keywords.get("trust_remote_code") == "True":
            yield f"line {node.lineno}: {ast.unparse(node)[:60]}"
        if keywords.get("weights_only", "True") != "True":
            yield f"line {node.lineno}: weights_only is not True"
        if keywords.get("Loader", "SafeLoader").rpartition(".")[2] not in ("SafeLoader", "_Loader"):
            yield f"line {node.lineno}: a YAML loader that makes objects"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_but_the_loader_reads_pickles(path: Path) -> None:
    found = list(faults(path))
    if path == LOADER:
        assert len(found) == 1 and found[0].endswith("torch.load")
    else:
        assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "numpy.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "torch.distributed.all_gather_object(values, value)",
        "subprocess.run(command, shell=True)",
        "yaml.compose(text, Loader=yaml.FullLoader)",
        "f(path, weights_only=False)",
    ],
)
def test_the_search_finds_what_it_looks_for(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.py").write_text(line)
    assert list(faults(tmp_path / "bad.py"))

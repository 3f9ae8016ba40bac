"""Load time and peak memory of a model of NLLB 600M's shape in int8: `... tests.bench loading`.

A converted directory of random weights is loaded and translates one batch, in a separate process;
the file is in the page cache.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.measuring import RESULTS, environment
from tests.bench.translation_models import transformers_model

CHILD = """
import json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(2)
from nllb.model.formats.open_model import open_model
from nllb.inference.generator import SearchOptions
from nllb.inference.kernels.compiled_engine import int8_engine
from nllb.inference.search import Job, search
def peak():  # not getrusage, which a child inherits from the process that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
start, process = time.perf_counter(), time.process_time()
opened = open_model(sys.argv[1])
engine = int8_engine(opened.config, opened.weights, num_threads=2)
loaded, spent = time.perf_counter() - start, time.process_time() - process
after = peak()
source = (256047, *range(100, 128), 2)
jobs = [Job(source=source, prompt=(2, 256057), limit=16)] * 8
search(engine, jobs, SearchOptions(beam_size=4, min_output_tokens=16, max_output_tokens=16))
print(json.dumps({"load_wall_s": loaded, "load_process_s": spent, "imports_mib": before,
                  "after_load_mib": after, "peak_mib": peak()}))
"""


def write_int8(source: Path, target: Path) -> None:
    """Write a directory as `nllb convert --dtype int8` does, but without the tokenizer."""
    from safetensors.torch import save_file

    from nllb.model.formats.open_model import open_model
    from nllb.model.formats.quantized_storage import is_quantizable, quantize_rows
    from nllb.model.formats.weight_names import list_weights
    from nllb.model.formats.weights import SCALE

    opened = open_model(source)
    tensors = {}
    for weight in list_weights(opened.config):
        name = weight.name_in(opened.config.architecture)
        tensors[name] = opened.weights[weight.name]
        if is_quantizable(weight.name, weight.shape):
            tensors[name], tensors[name + SCALE] = quantize_rows(tensors[name])
    target.mkdir()
    save_file(tensors, target / "int8.safetensors")
    shutil.copy(source / "config.json", target / "config.json")


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write tests/bench/results/loading.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "nllb-bench", help="for models"
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    int8 = arguments.folder / "int8"
    if not (int8 / "config.json").exists():
        if not (arguments.folder / "transformers").exists():
            transformers_model(arguments.folder)
        write_int8(arguments.folder / "transformers", int8)
    runs = []
    for _ in range(arguments.rounds + 1):
        command = [sys.executable, "-c", CHILD, str(int8)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        print(runs[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    document = {"environment": environment(threads=2), "warm_up": runs[0], "runs": runs[1:]}
    (RESULTS / "loading.json").write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

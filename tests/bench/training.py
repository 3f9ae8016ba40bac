"""Measures training: reader, sparse layer, overhead of the trainers, and the effect of EOM.

    python -m tests.bench training -- [reader] [layer] [overhead] [eom] [--data DIR]

Compared variants are interleaved in one process, and the ratio of their best times is reported.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nllb.config import load_config
from nllb.io.manifest import read_manifest
from nllb.model.configuration import ModelConfig
from nllb.model.moe import FeedForward, MixtureOfExperts
from nllb.model.routing_options import RoutingOptions
from nllb.training.batches.reader import BatchReader
from nllb.training.train_config import ReaderConfig, TrainConfig
from tests.bench.measuring import RESULTS, environment

WHAT = ("reader", "layer", "overhead")


def best_times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the best CPU time of each call; the calls are interleaved."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def measure_reader(data: Path) -> dict[str, float]:
    """Read 200 steps of a manifest."""
    config = ReaderConfig(max_tokens=4096, batches_per_step=4, max_length=512)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    imports = _status("VmRSS")
    start = time.process_time()
    manifest = read_manifest(data)
    reader = BatchReader(manifest, config)
    reader.step(0)
    begun = time.process_time() - start
    tokens = 0
    start = time.process_time()
    for step in range(64, 264):
        for batch in reader.step(step):
            tokens += int((batch.source != 1).sum()) + batch.num_targets
    seconds = time.process_time() - start
    return {
        "directions": len(manifest.directions),
        "first_step_s": begun,
        "tokens_per_second": tokens / seconds,
        "rss_over_imports_mib": (_status("VmHWM") - imports) / 1024,
    }


def layer_config(experts: int, dim: int, inner: int) -> ModelConfig:
    """Return a shape with one sparse layer."""
    return ModelConfig(
        vocabulary_size=10,
        model_dim=dim,
        encoder_layers=1,
        decoder_layers=1,
        encoder_heads=1,
        decoder_heads=1,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        num_experts=experts,
        encoder_sparse_step=1,
        decoder_sparse_step=1,
        dropout=0.0,
    )


class OneHotMixture(nn.Module):
    """The same mixture with dispatch tensors of rows x experts x capacity, as in fairseq."""

    def __init__(self, layer: MixtureOfExperts) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_SD: Tensor) -> Tensor:
        """Mix."""
        experts = self.layer.num_experts
        capacity = 2 * -(-len(x_SD) // experts)
        gates = functional.linear(x_SD, self.layer.router.weight).softmax(-1)
        chosen = gates.topk(2, dim=-1).indices
        masks = [functional.one_hot(chosen[:, slot], experts) for slot in (0, 1)]
        places = [masks[0].cumsum(0) - 1, masks[1].cumsum(0) - 1 + masks[0].sum(0)]
        masks = [mask * (place < capacity) for mask, place in zip(masks, places, strict=True)]
        weights = [(gates * mask).sum(1) for mask in masks]
        total = (weights[0] + weights[1]).clamp_min(1e-7)
        combine = sum(
            (weight / total)[:, None, None]
            * mask[:, :, None]
            * functional.one_hot((place * mask).sum(1), capacity)[:, None, :]
            for weight, mask, place in zip(weights, masks, places, strict=True)
        )
        dispatched = torch.einsum("sec,sd->ecd", combine.bool().to(x_SD.dtype), x_SD)
        outputs = torch.stack(
            [expert(part) for expert, part in zip(self.layer.experts, dispatched, strict=True)]
        )
        return torch.einsum("sec,ecd->sd", combine, outputs)


def measure_layer(rows: int, experts: int) -> dict[str, float]:
    """Compare the sparse layer with one-hot dispatch and with a dense layer of equal work."""
    dim, inner = 256, 512
    torch.manual_seed(0)
    layer = MixtureOfExperts(layer_config(experts, dim, inner), "encoder").train()
    layer.options = RoutingOptions()
    free = MixtureOfExperts(layer_config(experts, dim, inner), "encoder").train()
    free.options = RoutingOptions(mode="dropless")
    one_hot = OneHotMixture(layer)
    dense = FeedForward(layer_config(experts, dim, 2 * inner), "encoder").train()
    x = torch.randn(rows, dim, requires_grad=True)
    torch.testing.assert_close(layer(x), one_hot(x), rtol=1e-3, atol=1e-4)

    def run(module: nn.Module) -> Callable[[], object]:
        def once() -> None:
            module(x).square().sum().backward()
            module.zero_grad(set_to_none=True)

        return once

    modules = {"sparse": layer, "dropless": free, "one_hot": one_hot, "dense": dense}
    best = best_times({name: run(module) for name, module in modules.items()}, rounds=4)
    return {
        **{f"{name}_s": seconds for name, seconds in best.items()},
        "one_hot_over_sparse": best["one_hot"] / best["sparse"],
        "sparse_over_dense": best["sparse"] / best["dense"],
        "dropless_over_dense": best["dropless"] / best["dense"],
    }


def layer_memory(kind: str, rows: int, experts: int) -> None:
    """Print the peak memory of a pass, in a separate process."""
    layer = MixtureOfExperts(layer_config(experts, 256, 512), "encoder").train()
    module: nn.Module = OneHotMixture(layer) if kind == "one_hot" else layer
    module.train()
    torch.manual_seed(0)
    x = torch.randn(rows, 256, requires_grad=True)
    module(x[:256]).square().sum().backward()  # allocates the gradients of the weights
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    module(x).square().sum().backward()
    print((_status("VmHWM") - before) / 1024)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def measure_memory(rows: int, experts: int) -> dict[str, float]:
    """Compare the memory of both implementations."""
    found = {}
    for kind in ("sparse", "one_hot"):
        command = [sys.executable, "-m", "tests.bench.training", "memory", "--kind", kind]
        command += ["--rows", str(rows), "--experts", str(experts)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{kind}_mib"] = float(done.stdout)
    return {**found, "one_hot_over_sparse_memory": found["one_hot_mib"] / found["sparse_mib"]}


def measure_overhead(data: Path, width: int, steps: int, rounds: int = 2) -> dict[str, float]:
    """Compare both runners with a plain loop of forward, backward and Adam, on the same batches."""
    from nllb.io.progress import Progress
    from nllb.training.distributed.ranks import Ranks, StopFlag
    from nllb.training.fairseq2_loop import fairseq2_loop
    from nllb.training.open_run import open_run
    from nllb.training.training_run import TrainingRun, plain_loop

    text = (
        f"kind: train\ndata: {data}\ndevice: cpu\n"
        f"model: {{architecture: small, model_dim: {width}, ffn_dim: {4 * width}, heads: 8}}\n"
        "reader: {max_tokens: 256, max_length: 128}\n"
        f"schedule: {{steps: {steps}, checkpoint_every: 100000, validate_every: 0}}\n"
    )
    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))

    def bare(run: TrainingRun) -> None:
        run.model.module.train()
        for step in range(steps):
            batch = run.reader.step(step)[0]
            loss = run.model.module.compute(batch).loss / batch.num_targets
            loss.backward()
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)

    loops = {"bare": bare, "plain": plain_loop, "fairseq2": fairseq2_loop}
    best = dict.fromkeys(loops, float("inf"))
    parameters = 0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(text)
        config = load_config(TrainConfig, Path(folder) / "config.yaml")
        for number in range(rounds):
            for name, loop in loops.items():
                out, bar = Path(folder) / f"{name}{number}", Progress("", quiet=True)
                run = open_run(config, out, ranks, StopFlag(ranks), bar, quiet=True)
                run.checkpoints.save = lambda *_, **__: Path()  # type: ignore[method-assign,misc]
                parameters = sum(p.numel() for p in run.model.module.parameters())
                start = time.process_time()
                loop(run)
                best[name] = min(best[name], time.process_time() - start)
                del run
    return {
        "parameters": parameters,
        **{f"{name}_s": value for name, value in best.items()},
        "plain_over_bare": best["plain"] / best["bare"],
        "fairseq2_over_bare": best["fairseq2"] / best["bare"],
    }


def measure_eom(data: Path, out_dir: Path, steps: int) -> list[dict[str, object]]:
    """Train dense, sparse and sparse with EOM for equal steps, and tabulate validation losses."""
    from nllb.training.trainer import train

    manifest = read_manifest(data)
    sizes = {direction.name: direction.num_pairs for direction in manifest.directions}
    middle = sorted(sizes.values())[len(sizes) // 2]
    rows = []
    for name, model in (
        ("dense", "architecture: tiny"),
        ("MoE", "architecture: moe-tiny, experts: 8, expert_output_masking: 0.0"),
        ("MoE + EOM", "architecture: moe-tiny, experts: 8, expert_output_masking: 0.2"),
    ):
        folder = out_dir / name.replace(" ", "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(
            f"kind: train\ndata: {data}\ndevice: cpu\nmodel: {{{model}}}\n"
            "reader: {max_tokens: 1024, batches_per_step: 1, max_length: 128}\n"
            "optimizer: {learning_rate: 0.004, warm_up_steps: 100}\n"
            f"schedule: {{steps: {steps}, checkpoint_every: {steps}, validate_every: {steps}, "
            "validation_pairs: 100}\nparallel: {runner: plain}\n"
        )
        train(load_config(TrainConfig, folder / "config.yaml"), folder / "run", quiet=True)
        line = (folder / "run" / "metrics" / "valid.jsonl").read_text().splitlines()[-1]
        losses = json.loads(line)["loss_by_direction"]
        groups = {
            "high": [loss for key, loss in losses.items() if sizes[key] >= middle],
            "low": [loss for key, loss in losses.items() if sizes[key] < middle],
        }
        means = {key: round(sum(part) / max(1, len(part)), 4) for key, part in groups.items()}
        rows.append({"model": name, "steps": steps, **means, "directions": len(losses)})
    return rows


def many_directions(folder: Path, data: Path, count: int) -> Path:
    """Write a manifest of many directions with separate shards of the same content."""
    from nllb.io.manifest import Phase, TrainingDirection, write_manifest

    manifest = read_manifest(data)
    part = next(p for p in manifest.parts if p.split == "train" and p.origin == "primary")
    languages = tuple(f"l{number:03d}_Latn" for number in range(50))
    pairs = [(a, b) for a in languages for b in languages if a != b][:count]
    vocabulary = manifest.vocabulary
    record = replace(vocabulary, languages=languages, size=vocabulary.num_pieces + 1 + 50 + 3 + 1)
    directions = tuple(
        TrainingDirection(source=a, target=b, num_pairs=part.num_pairs, weight=1 / count)
        for a, b in pairs
    )
    parts = []
    for a, b in pairs:
        files = tuple(replace(f, path=f"{a}-{b}.{n}.tokens") for n, f in enumerate(part.files))
        for ours, theirs in zip(files, part.files, strict=True):
            (folder / ours.path).hardlink_to(manifest.directory / theirs.path)
        parts.append(replace(part, source=a, target=b, origin="mined", files=files))
    write_manifest(
        replace(
            manifest,
            directory=folder,
            vocabulary=record,
            parts=tuple(parts),
            directions=directions,
            phases=(Phase(until_step=None, directions=tuple(d.name for d in directions)),),
        )
    )
    return folder


def main(argv: list[str]) -> int:
    """Run measurements, by default all but the long one, and write tests/bench/results."""
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"{', '.join(WHAT)}, eom; memory is for itself")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--width", type=int, default=704)
    parser.add_argument("--directions", type=int, default=2440)
    parser.add_argument("--kind", default="sparse")
    options = parser.parse_args(argv)
    if wrong := set(options.what) - {*WHAT, "eom", "memory"}:
        parser.error(f"unknown measurements: {', '.join(sorted(wrong))}")
    torch.set_num_threads(1)
    if options.what == ["memory"]:
        layer_memory(options.kind, options.rows, options.experts)
        return 0
    results: dict[str, object] = {}
    for what in options.what or WHAT:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            script = Path(__file__).parents[1] / "token_data.py"
            data = options.data or run_path(str(script))["write_token_data"](folder)
            if what == "reader":
                (folder / "many").mkdir()
                many = many_directions(folder / "many", data, options.directions)
                results[what] = measure_reader(many)
            elif what == "layer":
                results[what] = measure_layer(options.rows, options.experts) | measure_memory(
                    options.rows, options.experts
                )
            elif what == "overhead":
                results[what] = measure_overhead(data, options.width, options.steps)
            else:
                results[what] = measure_eom(data, options.out or folder, options.steps)
        print(json.dumps({what: results[what]}, indent=1), flush=True)
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / "training.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**kept, **results, **environment()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

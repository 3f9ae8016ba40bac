"""What a run records: lines of JSON, TensorBoard, and the state of the experts.

Between two records everything is added up on the device; ranks are asked only when a line is due.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nllb.errors import DataError
from nllb.io.text import json_line, parse_json, write_lines
from nllb.model.moe import MixtureOfExperts
from nllb.model.transformer import Transformer
from nllb.training.loss import BatchLoss
from nllb.training.ranks import Ranks

METRICS_DIR, TENSORBOARD_DIR = "metrics", "tensorboard"


class MetricLog:
    """Writes metrics as JSONL and, where it is installed, for TensorBoard."""

    def __init__(self, out_dir: Path, ranks: Ranks, *, from_step: int = 0) -> None:
        """Open the files; records after `from_step`, of an interrupted run, are dropped."""
        self._folder = out_dir / METRICS_DIR
        self._board: Any = None
        self._writes = ranks.is_first
        if not self._writes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("*.jsonl"):
            _cut(path, from_step)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return  # the JSON lines hold the same
        self._board = SummaryWriter(
            str(out_dir / TENSORBOARD_DIR), purge_step=from_step + 1 if from_step else None
        )

    def write(self, stream: str, step: int, values: Mapping[str, Any]) -> None:
        """Append a record to `metrics/<stream>.jsonl`."""
        if not self._writes:
            return
        with (self._folder / f"{stream}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_line({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{stream}/{name}", value, step)

    def close(self) -> None:
        """Write out what is buffered."""
        if self._board is not None:
            self._board.close()


class StepStatistics:
    """Sums over the micro-batches since the last record."""

    def __init__(self, model: Transformer, ranks: Ranks) -> None:
        self._ranks = ranks
        self._layers = {
            name.removesuffix(".feed_forward"): layer
            for name, layer in model.named_modules()
            if isinstance(layer, MixtureOfExperts)
        }
        self._warned: set[tuple[str, int]] = set()
        self._reset()

    def _reset(self) -> None:
        device = self._ranks.device
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self._loads = {
            name: torch.zeros(layer.num_experts + 1, dtype=torch.float64)
            for name, layer in self._layers.items()
        }

    def add(self, result: BatchLoss, num_targets: int) -> None:
        """Count a micro-batch."""
        sums = [result.loss.detach(), result.negative_log_likelihood, result.balance]
        self._sums[:3] += torch.stack(sums).double()
        self._sums[3] += num_targets
        for name, layer in self._layers.items():
            assert layer.report is not None
            self._loads[name][:-1] += layer.report.load_E
            self._loads[name][-1] += layer.report.num_pairs

    def take(self, num_batches: int) -> dict[str, Any]:
        """Return the means since the last call, over all ranks, and begin anew."""
        sums = self._ranks.sum(self._sums).tolist()
        targets = max(1.0, sums[3])
        values: dict[str, Any] = {
            "loss": sums[0] / targets,
            "negative_log_likelihood": sums[1] / targets,
            "targets": int(sums[3]),
        }
        if self._layers:
            values["balance"] = sums[2] / max(1, num_batches) / len(self._layers)
            values |= self._experts()
        self._reset()
        return values

    def _experts(self) -> dict[str, Any]:
        shares, dropped = {}, {}
        for name, load in self._loads.items():
            total = self._ranks.sum(load.to(self._ranks.device)).cpu()
            computed = max(1.0, float(total[:-1].sum()))
            shares[name] = [round(float(count) / computed, 4) for count in total[:-1]]
            dropped[name] = round(1 - computed / max(1.0, float(total[-1])), 4)
            self._warn(name, total[:-1])
        largest = max(max(share) * len(share) for share in shares.values())
        smallest = min(min(share) * len(share) for share in shares.values())
        return {
            "dropped": max(dropped.values()),
            "largest_load": largest,
            "smallest_load": smallest,
            "expert_load": shares,
            "expert_dropped": dropped,
        }

    def _warn(self, layer: str, counts_E: Tensor) -> None:
        for expert in (counts_E == 0).nonzero().flatten().tolist():
            if (layer, expert) not in self._warned and self._ranks.is_first:
                print(
                    f"warning: expert {expert} of {layer} got no token since the last record; "
                    f"where it stays so, raise routing.balance_weight",
                    file=sys.stderr,
                    flush=True,
                )
            self._warned.add((layer, expert))


def _cut(path: Path, last_step: int) -> None:
    """Drop the records after a step, and a line that a kill cut short."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if parse_json(line, path)["step"] <= last_step:
                kept.append(line)
        except (DataError, KeyError, TypeError):
            continue
    write_lines(path, kept)

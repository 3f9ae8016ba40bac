"""The training loop on the GPU: steps without waiting, records, and weights written at intervals.

The CPU prepares batches in a thread, launches the kernels of a step, and reads the loss every
`LOG_EVERY` steps; nothing else makes it wait for the GPU. The first steps run without
`torch.compile` and are timed, the next ones with it; the faster way is kept.
"""

import json
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nllb.training.muon import apply_update, nesterov, orthogonalize

from .archive_file import SCALE, join_bytes, read_payload, under
from .corpus_sampling import Direction, PairSampler
from .packed_encoder import PackedEncoder
from .packed_model import PackedModel, embedding_scale
from .parts import PartsError, Progress, read_parts, read_progress, write_parts
from .placement import Corpus, Pair, PlacedBatch, Placer, expand
from .words import read_sentences

LOG_EVERY = 20
QUEUE = 6
MATRICES_AT_A_TIME = 64


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How to train."""

    archive: Path
    out: Path
    started: float
    """Value of the monotonic clock at the start of the program."""
    minutes: float
    """Time after which everything must be written."""
    margin_s: float
    """Seconds before the end at which training stops, for the last weights."""
    save_every_s: float
    rows: int
    device: str
    compile: bool
    rate: float | None
    """Peak learning rate; None takes the run's."""
    warm_up: int
    """Steps of the warm-up, also after an interruption, since no moments are kept."""
    cool_down: float
    """Share of the time over which the rate falls to zero at the end; 0 keeps it constant."""
    max_steps: int | None


class Archive:
    """An archive in memory."""

    def __init__(self, folder: Path) -> None:
        self.hash, self.settings, tensors = read_payload(folder)
        self.weights = _dequantised(under(tensors, "weight."))
        self.encoder = under(tensors, "encoder.")
        self.shape = dict(self.settings["shape"], positions=tensors["positions"])
        self.shape["embedding_scale"] = embedding_scale(self.shape)
        self._pairs = {
            name: join_bytes(value.flatten(1)).view(2, -1).cumsum(1) & 0xFFFFFF
            for name, value in under(tensors, "pairs.").items()
        }
        self.corpus = self._corpus(under(tensors, "text."))

    def _corpus(self, text: dict[str, Tensor]) -> Corpus:
        """Return the sentences, followed by segments of the special tokens."""
        sources, targets = read_sentences(text)
        bos, eos, pad = self.settings["source_special"]
        known = self.settings["directions"] + self.settings["held_out"]
        languages = sorted({each["language"] for each in known})
        count = len(sources.lengths)
        special_sources = [bos, eos, *languages]
        special_targets = [self.shape["eos_id"], self.shape["eos_id"], *languages]
        ones = torch.ones(len(special_sources), dtype=torch.int64)

        def side(tokens: Tensor, lengths: Tensor, special: list[int]) -> tuple[Tensor, ...]:
            lengths = torch.cat([lengths, ones])
            tokens = torch.cat([tokens, torch.tensor(special)]).to(torch.int32)
            return tokens, lengths.cumsum(0) - lengths, lengths

        # Language tokens are ids of the decoder, which the encoder never reads.
        special_sources[2:] = [bos] * len(languages)
        source = side(sources.values, sources.lengths, special_sources)
        target = side(targets.values, targets.lengths, special_targets)
        return Corpus(
            source_tokens=source[0],
            source_begins=source[1],
            source_lengths=source[2],
            target_tokens=target[0],
            target_begins=target[1],
            target_lengths=target[2],
            bos=count,
            languages={language: count + 2 + n for n, language in enumerate(languages)},
            source_pad=pad,
            target_pad=self.shape["pad_id"],
        )

    def directions(self, name: str) -> list[Direction]:
        """Return the directions of training (`directions`) or of validation (`held_out`)."""
        found = []
        temperature = self.settings["temperature"]
        for each in self.settings[name]:
            groups = [
                self._pairs[str(number)].flip(0) if is_reversed else self._pairs[str(number)]
                for number, is_reversed in each["groups"]
            ]
            sources, targets = torch.cat(groups, dim=1)
            found.append(
                Direction(
                    name=each["name"],
                    sources=sources,
                    targets=targets,
                    language=each["language"],
                    weight=each["pairs"] ** (1 / temperature),
                )
            )
        return found


def _dequantised(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.float() * stored[name + SCALE][:, None] if name + SCALE in stored else value
        for name, value in stored.items()
        if not name.endswith(SCALE)
    }


class GpuRun:
    """One call: opens or resumes, trains until the time is over, and writes what it has."""

    def __init__(self, options: LoopOptions) -> None:
        self._options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self._archive = Archive(options.archive)
        settings = self._archive.settings
        self._optimizer_settings = settings["optimizer"]
        on_gpu = options.device == "cuda"
        self._dtype = torch.bfloat16 if on_gpu else torch.float32
        encoder = PackedEncoder(
            self._archive.encoder, settings["encoder"], options.device, self._dtype
        )
        self.model = PackedModel(self._archive.shape, encoder, self._dtype)
        self.progress = self._resume()
        self.model.to(options.device)
        self._placer = Placer(self._archive.corpus, rows=options.rows, length=settings["length"])
        self._corpus = self._archive.corpus.to(options.device)
        self._averages = [torch.zeros_like(parameter) for parameter in self.model.matrices()]
        rest = self._optimizer_settings
        self._adam = torch.optim.AdamW(
            self.model.others(),
            betas=(rest["beta_1"], rest["beta_2"]),
            eps=rest["epsilon"],
            weight_decay=0.0,
            fused=on_gpu,
        )
        self._loss = self.model.forward
        self._stop = threading.Event()
        self._saved_at = options.started
        self._sums = torch.zeros(2, device=options.device)
        self._labels_since = self._steps_here = 0

    def _resume(self) -> Progress:
        progress = read_progress(self._options.out)
        if progress is None:
            self.model.load(self._archive.weights)
            return Progress(archive=self._archive.hash)
        if progress.archive != self._archive.hash:
            raise PartsError(
                f"{self._options.out} has weights that were trained with another archive "
                f"({progress.archive}, not {self._archive.hash}); name another folder, or merge "
                f"them and pack again"
            )
        self.model.load(read_parts(self._options.out))
        return progress

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._options.started

    @property
    def _end(self) -> float:
        return 60 * self._options.minutes - self._options.margin_s

    def record(self, what: str, **figures: Any) -> None:
        """Append one record to OUT/gpu_train.jsonl."""
        line = json.dumps({"what": what, "at_s": round(self._elapsed, 1), **figures})
        with (self._options.out / "gpu_train.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(line, flush=True)

    def run(self) -> None:
        """Train."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        self.record("opened", labels=self.progress.labels, steps=self.progress.steps)
        self.validate()
        batches = self.batches()
        self._begin_window()
        last_saved = self._elapsed
        speeds: dict[str, float] = {}
        mode = "eager"
        for batch, rounds in batches:
            self.step(batch)
            self.progress.rounds = rounds
            is_last = self._steps_here == self._options.max_steps
            if self._steps_here % LOG_EVERY and not is_last:
                continue
            speeds[mode] = self._log(mode)
            if is_last or self._stop.is_set() or self._elapsed > self._end:
                break
            if self._elapsed - last_saved > self._options.save_every_s:
                self._save()
                last_saved = self._elapsed
            # The first window of a mode includes its start.
            if self._options.compile and self._steps_here == 2 * LOG_EVERY:
                mode = self._start_compiled()
            elif mode == "compiled" and self._steps_here == 4 * LOG_EVERY:
                mode = self._choose(speeds)
            self._begin_window()
        self.stop()
        self._save()
        self.validate()

    def stop(self) -> None:
        """Let the thread that prepares batches end."""
        self._stop.set()

    def _begin_window(self) -> None:
        self._window_started, self._labels_since = time.monotonic(), 0

    def _log(self, mode: str) -> float:
        loss, balance = (self._sums / max(self._labels_since, 1)).tolist()  # waits for the GPU
        seconds = time.monotonic() - self._window_started
        self._sums.zero_()
        if not loss == loss or loss in (float("inf"), float("-inf")):
            self._stop.set()
            raise FloatingPointError(
                f"the loss is {loss} after {self.progress.steps:,} steps; the weights written "
                f"before are kept: lower --rate"
            )
        speed = self._labels_since / seconds
        self.progress.loss = loss
        self.record(
            "training",
            mode=mode,
            steps=self.progress.steps,
            labels=self.progress.labels,
            loss=round(loss, 4),
            balance=round(balance, 4),
            labels_per_s=round(speed),
            rate=self._rate(),
        )
        return speed

    def _start_compiled(self) -> str:
        self._loss = torch.compile(self.model.forward, dynamic=False)
        return "compiled"

    def _choose(self, speeds: Mapping[str, float]) -> str:
        mode = max(speeds, key=speeds.__getitem__)
        if mode == "eager":
            self._loss = self.model.forward
        self.record("chosen", mode=mode, **{k: round(v) for k, v in speeds.items()})
        return mode

    def _rate(self) -> float:
        peak = self._options.rate or self._optimizer_settings["learning_rate"]
        rate = peak * min(1.0, (self._steps_here + 1) / max(self._options.warm_up, 1))
        if self._options.cool_down:
            left = max(0.0, 1 - self._elapsed / self._end)
            rate *= min(1.0, left / self._options.cool_down)
        return rate

    def step(self, placed: PlacedBatch) -> None:
        """Train on a batch."""
        device, options = self._options.device, self._options
        segments = placed.segments.to(device, non_blocking=True)
        batch = expand(
            self._corpus, segments, rows=options.rows, length=self._archive.settings["length"]
        )
        try:
            loss, plain, balance = self._loss(batch, training=True)
        except Exception as error:
            if self._loss == self.model.forward:
                raise
            self.record("compiling failed", error=f"{type(error).__name__}: {error}"[:2000])
            self._loss = self.model.forward
            loss, plain, balance = self._loss(batch, training=True)
        total = loss / placed.labels + self._archive.settings["balance_weight"] * balance
        total.backward()
        self._update(self._rate())
        self._sums += torch.stack([plain, balance.detach() * placed.labels])
        self._labels_since += placed.labels
        self._steps_here += 1
        self.progress.steps += 1
        self.progress.labels += placed.labels

    @torch.no_grad()
    def _update(self, rate: float) -> None:
        """Clip the gradient, and update the matrices by Muon and the rest by AdamW."""
        rest = self._optimizer_settings
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if rest["clip_norm"] is not None:
            norm = torch.stack(torch._foreach_norm(gradients)).norm()
            torch._foreach_mul_(gradients, (rest["clip_norm"] / (norm + 1e-6)).clamp(max=1.0))
        for parameter, average in zip(self.model.matrices(), self._averages, strict=True):
            assert parameter.grad is not None
            update = nesterov(parameter.grad, average, rest["momentum"]).flatten(0, -3)
            orthogonal = torch.cat(
                [
                    orthogonalize(some, low_precision=self._dtype == torch.bfloat16)
                    for some in update.split(MATRICES_AT_A_TIME)
                ]
            )
            apply_update(
                parameter,
                orthogonal.view(parameter.shape),
                rate=rate,
                weight_decay=rest["weight_decay"],
            )
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self.model.zero_grad(set_to_none=True)

    def batches(self) -> Iterator[tuple[PlacedBatch, int]]:
        """Yield batches that a thread prepares, and the rounds that they finish."""
        ready: queue.Queue[tuple[PlacedBatch, int] | BaseException] = queue.Queue(QUEUE)

        def put(item: Any) -> None:
            while not self._stop.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def work() -> None:
            on_gpu = self._options.device == "cuda"
            try:
                drawn = [self.progress.rounds]
                for placed in self._placer.batches(self._pairs(drawn)):
                    put((placed.pinned() if on_gpu else placed, drawn[0]))
                    if self._stop.is_set():
                        return
            except BaseException as error:
                put(error)

        threading.Thread(target=work, daemon=True).start()
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def _pairs(self, drawn: list[int]) -> Iterator[Pair]:
        settings = self._archive.settings
        sampler = PairSampler(
            self._archive.directions("directions"),
            join=settings["join"],
            max_length=settings["max_length"],
            seed=settings["seed"],
        )
        for number, pairs in sampler.rounds(drawn[0], self._placer.lengths):
            yield from pairs
            drawn[0] = number + 1

    @torch.no_grad()
    def validate(self) -> None:
        """Record the loss of the held-out pairs into and from the languages."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for side, matches in _SIDES.items():
            chosen = [each for each in self._archive.directions("held_out") if matches(each.name)]
            pairs = (
                Pair([source], [target], each.language)
                for each in chosen
                for source, target in zip(each.sources.tolist(), each.targets.tolist(), strict=True)
            )
            for placed in self._placer.batches(pairs, flush=True):
                batch = expand(
                    self._corpus,
                    placed.segments.to(self._options.device),
                    rows=self._options.rows,
                    length=self._archive.settings["length"],
                )
                _, plain, _ = self.model(batch, training=False)
                sums[side] = sums.get(side, torch.zeros_like(plain)) + plain
                counts[side] = counts.get(side, 0) + placed.labels
        losses = {side: round(float(sums[side]) / counts[side], 4) for side in sums}
        self.record("validation", labels=self.progress.labels, **losses)

    def _save(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._saved_at
        self._saved_at = now
        write_parts(self._options.out, self.model.weights(torch.bfloat16), self.progress)
        self.record("written", seconds=round(time.monotonic() - now, 1), steps=self.progress.steps)


_SIDES: dict[str, Callable[[str], bool]] = {
    "into_english": lambda name: name.endswith("-eng_Latn"),
    "from_english": lambda name: name.startswith("eng_Latn-"),
    "others": lambda name: "eng_Latn" not in name,
}

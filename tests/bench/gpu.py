"""All GPU measurements, in one run of at most nine minutes.

    python -m tests.bench.gpu OUT [--minutes 9] [--dry]

Weights are random and created on the machine, which only requires the repository and its
dependencies without fairseq2. Each result is appended to OUT/gpu.jsonl immediately. Sections run in
the order of importance, and a section that would exceed the time is skipped, which is recorded.
`--dry` runs everything on a CPU with tiny shapes.
"""

import argparse
import gc
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nllb.inference.device_search import DeviceSearches
from nllb.inference.engine import TorchEngine
from nllb.inference.generator import SearchOptions
from nllb.inference.grouped_mixture import GroupedMixture
from nllb.inference.layers import FeedForward, TorchLinear
from nllb.inference.search import Job, search
from nllb.model.configuration import ModelConfig, Side
from nllb.model.transformer import Transformer
from nllb.training.loss import LossModule

END, LANGUAGE = 2, 5
SIDES: tuple[Side, ...] = ("encoder", "decoder")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The shapes of a run.

    Attributes:
        device: device of the run.
        dtype: type of the weights.
        vocabulary: number of tokens.
        batches: numbers of sentences in a batch.
        source_tokens: tokens per source.
        output_tokens: tokens per output.
        training_experts: experts of the model that is trained with experts.
    """

    device: str
    dtype: torch.dtype
    vocabulary: int
    models: dict[str, tuple[int, int, int, int]]
    """Model dim, layers per side, heads and inner dim by name."""
    batches: tuple[int, ...]
    source_tokens: int
    output_tokens: int
    mixture: tuple[int, int, int, int]
    """Model dim, inner dim, experts and tokens of the layer that is measured alone."""
    training_batch: tuple[int, int]
    """Sentences and tokens per sentence."""
    training_experts: int

    def config(self, name: str, *, num_experts: int = 0) -> ModelConfig:
        """Return the configuration of a model."""
        dim, layers, heads, inner = self.models[name]
        return ModelConfig(
            vocabulary_size=self.vocabulary,
            model_dim=dim,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_heads=heads,
            decoder_heads=heads,
            encoder_ffn_dim=inner,
            decoder_ffn_dim=inner,
            max_positions=512,
            num_experts=num_experts,
            encoder_sparse_step=2 if num_experts else 0,
            decoder_sparse_step=2 if num_experts else 0,
        )


FULL = Scale(
    device="cuda",
    dtype=torch.bfloat16,
    vocabulary=256_206,
    models={"600M": (1024, 12, 16, 4096), "3.3B": (2048, 24, 16, 8192)},
    batches=(1, 32, 256),
    source_tokens=32,
    output_tokens=48,
    mixture=(2048, 8192, 128, 16_384),
    training_batch=(96, 128),
    training_experts=16,
)
DRY = Scale(
    device="cpu",
    dtype=torch.float32,
    vocabulary=160,
    models={"600M": (32, 2, 4, 64), "3.3B": (48, 2, 4, 64)},
    batches=(1, 4),
    source_tokens=8,
    output_tokens=6,
    mixture=(32, 64, 4, 40),
    training_batch=(2, 8),
    training_experts=4,
)


class Recorder:
    """Appends figures to a file, each with the seconds since the start."""

    def __init__(self, path: Path, *, minutes: float):
        """Start the clock."""
        self._path, self._start, self._limit = path, time.monotonic(), 60 * minutes

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self._limit - (time.monotonic() - self._start)

    def write(self, what: str, **figures: Any) -> None:
        """Append one record."""
        record = {"what": what, "at_s": round(time.monotonic() - self._start, 1), **figures}
        with self._path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)


def synchronize(scale: Scale) -> None:
    """Wait until the GPU has finished."""
    if scale.device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def peak_memory(scale: Scale) -> Iterator[dict[str, float]]:
    """Fill in the peak of allocated memory in GiB."""
    found: dict[str, float] = {}
    if scale.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield found
    if scale.device == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30


def release_memory(scale: Scale) -> None:
    """Return unused memory to the device."""
    gc.collect()
    if scale.device == "cuda":
        torch.cuda.empty_cache()


def seconds(scale: Scale, run: Callable[[], object], *, rounds: int = 3) -> float:
    """Return the minimum seconds of some runs after a warm-up run."""
    times = []
    for number in range(rounds + 1):
        synchronize(scale)
        start = time.perf_counter()
        run()
        synchronize(scale)
        if number:
            times.append(time.perf_counter() - start)
    return min(times)


def random_weights(config: ModelConfig, scale: Scale, *, device: str) -> dict[str, Tensor]:
    """Return weights of a model by name; layer norms are the identity."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Transformer(config).state_dict().items()}
    generator = torch.Generator(device).manual_seed(0)
    dtype = scale.dtype if device == scale.device else torch.float32
    weights = {}
    for name, shape in shapes.items():
        value = torch.empty(shape, device=device, dtype=dtype)
        if len(shape) > 1:
            value.normal_(std=shape[-1] ** -0.5, generator=generator)
        else:
            value.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        weights[name] = value
    return weights


def jobs(count: int, scale: Scale) -> list[Job]:
    """Return searches over random sources of one length."""
    random = np.random.default_rng(count)
    sources = random.integers(10, scale.vocabulary, (count, scale.source_tokens)).tolist()
    return [
        Job(source=(LANGUAGE, *source, END), prompt=(END, LANGUAGE), limit=scale.output_tokens)
        for source in sources
    ]


def check_against_cpu(scale: Scale, recorder: Recorder) -> None:
    """Compare outputs and log-probabilities of the device in float32 with those of the CPU."""
    config = DRY.config("600M")
    weights = {
        name: value * (4 if value.ndim > 1 else 1)
        for name, value in random_weights(config, DRY, device="cpu").items()
    }
    engines = {name: TorchEngine(config, weights, device=name) for name in ("cpu", scale.device)}
    some = jobs(16, DRY)
    for beam_size in (1, 4):
        options = SearchOptions(beam_size=beam_size)
        expected = search(engines["cpu"], some, options)
        found = DeviceSearches(engines[scale.device]).search(some, options)
        differences = [
            np.abs(np.subtract(a[0].token_log_probabilities, b[0].token_log_probabilities)).max()
            for a, b in zip(found, expected, strict=True)
            if a[0].token_ids == b[0].token_ids
        ]
        recorder.write(
            "device search against the CPU",
            beam_size=beam_size,
            equal_outputs=len(differences),
            sentences=len(some),
            largest_difference=float(max(differences, default=np.nan)),
        )


def translate(name: str) -> Callable[[Scale, Recorder], None]:
    """Return the section that measures tokens per second of one shape."""

    def section(scale: Scale, recorder: Recorder) -> None:
        config = scale.config(name)
        rates = {}
        for who, measure in (("ours", our_rates), ("transformers", rates_of_transformers)):
            with peak_memory(scale) as memory:
                for batch, beam_size, rate in measure(config, scale):
                    rates[who, batch, beam_size] = rate
                    ratio = rates["ours", batch, beam_size] / rate
                    recorder.write(
                        f"{name}: {who}",
                        batch=batch,
                        beam_size=beam_size,
                        tokens_per_s=rate,
                        ours_to_this=ratio,
                    )
            recorder.write(f"{name}: memory of {who}", **memory)
            release_memory(scale)

    section.__name__ = f"translate {name}"
    return section


def our_rates(config: ModelConfig, scale: Scale) -> Iterator[tuple[int, int, float]]:
    """Yield batch size, beam size and tokens per second of the search on the device."""
    weights = random_weights(config, scale, device=scale.device)
    searches = DeviceSearches(TorchEngine(config, weights, device=scale.device, dtype=scale.dtype))
    for batch in scale.batches:
        some = jobs(batch, scale)
        for beam_size in (1, 4):
            run = partial(searches.search, some, SearchOptions(beam_size=beam_size))
            yield batch, beam_size, batch * scale.output_tokens / seconds(scale, run)


def rates_of_transformers(config: ModelConfig, scale: Scale) -> Iterator[tuple[int, int, float]]:
    """Yield the same of `generate` in transformers."""
    model = transformers_model(config, scale)
    new_tokens = scale.output_tokens + 1  # the language token is one of them
    for batch in scale.batches:
        ids = torch.tensor([job.source for job in jobs(batch, scale)]).to(scale.device)
        for beam_size in (1, 4):
            run = partial(
                model.generate,
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                num_beams=beam_size,
                do_sample=False,
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                forced_bos_token_id=LANGUAGE,
            )
            yield batch, beam_size, batch * scale.output_tokens / seconds(scale, run, rounds=1)


def transformers_model(config: ModelConfig, scale: Scale) -> Any:
    """Return a random model of the same shape in transformers."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    theirs = M2M100Config(
        vocab_size=config.vocabulary_size,
        d_model=config.model_dim,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.encoder_heads,
        decoder_attention_heads=config.decoder_heads,
        encoder_ffn_dim=config.encoder_ffn_dim,
        decoder_ffn_dim=config.decoder_ffn_dim,
        decoder_start_token_id=END,
        attn_implementation="sdpa",
    )
    with torch.device(scale.device):
        return M2M100ForConditionalGeneration(theirs).to(scale.dtype).eval()


@torch.inference_mode()
def mixture_layer(scale: Scale, recorder: Recorder) -> None:
    """Compare a layer of experts with a loop over them and with a dense layer of equal work."""
    dim, inner, count, tokens = scale.mixture
    place, dtype = scale.device, scale.dtype

    def linear(inputs: int, outputs: int) -> TorchLinear:
        weight = torch.empty(outputs, inputs, device=place, dtype=dtype).normal_(std=inputs**-0.5)
        return TorchLinear(weight=weight, bias=torch.zeros(outputs, device=place, dtype=dtype))

    experts = [
        FeedForward(inner=linear(dim, inner), outer=linear(inner, dim)) for _ in range(count)
    ]
    router = linear(dim, count)
    mixture = GroupedMixture(router, experts, output_masking=0.0)
    dense = FeedForward(inner=linear(dim, 2 * inner), outer=linear(2 * inner, dim))
    x_TD = torch.randn(tokens, dim, device=place, dtype=dtype)

    def loop() -> Tensor:
        """Compute the experts one by one with masks, as transformers does."""
        weights_TK, experts_TK = router(x_TD).float().softmax(-1).topk(2)
        total = torch.zeros_like(x_TD)
        for number, expert in enumerate(experts):
            token, rank = (experts_TK == number).nonzero(as_tuple=True)
            output = expert(x_TD[token]) * weights_TK[token, rank, None].to(x_TD.dtype)
            total.index_add_(0, token, output)
        return total

    ours, theirs = seconds(scale, lambda: mixture(x_TD)), seconds(scale, loop)
    of_dense = seconds(scale, lambda: dense(x_TD))
    recorder.write(
        "mixture layer",
        experts=count,
        tokens=tokens,
        grouped_ms=1e3 * ours,
        loop_ms=1e3 * theirs,
        dense_ms=1e3 * of_dense,
        loop_to_grouped=theirs / ours,
        speed_of_dense=of_dense / ours,
    )


def product_rate(scale: Scale) -> float:
    """Return floating-point operations per second of one large product."""
    size = 8192 if scale.device == "cuda" else 128
    a = torch.randn(size, size, device=scale.device).to(scale.dtype)
    return 2 * size**3 / seconds(scale, lambda: a @ a)


def training(scale: Scale, recorder: Recorder) -> None:
    """Measure training steps of the dense 600M shape."""
    _train(scale, recorder, num_experts=0)


def training_of_mixture(scale: Scale, recorder: Recorder) -> None:
    """Measure training steps of the 600M shape with experts."""
    _train(scale, recorder, num_experts=scale.training_experts)


def _train(scale: Scale, recorder: Recorder, *, num_experts: int) -> None:
    config = scale.config("600M", num_experts=num_experts)
    with torch.device(scale.device):
        model = Transformer(config)
    loss = LossModule(model, label_smoothing=0.1, balance_weight=0.01 if num_experts else 0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=scale.device == "cuda")
    ids = torch.randint(10, scale.vocabulary, scale.training_batch, device=scale.device)

    def step() -> None:
        with torch.autocast(scale.device, torch.bfloat16):
            value, *_ = loss(ids, ids, ids)
        (value / ids.numel()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with peak_memory(scale) as memory:
        took = seconds(scale, step)
    used = _used_parameters(model, config)
    rate, peak = 6 * used * ids.numel() / took, product_rate(scale)
    recorder.write(
        "training, 600M shape",
        experts=num_experts,
        step_s=took,
        labels_per_s=ids.numel() / took,
        used_parameters=used,
        tflops=rate / 1e12,
        product_tflops=peak / 1e12,
        share_of_product_rate=rate / peak,
        share_of_989_tflops=rate / 989e12,
        **memory,
    )


def _used_parameters(model: Transformer, config: ModelConfig) -> int:
    """Return the number of parameters that one token meets; two experts of each sparse layer."""
    unused = sum(
        max(config.num_experts - 2, 0) * 2 * config.model_dim * config.ffn_dim(side)
        for side in SIDES
        for layer in range(config.num_layers(side))
        if config.is_sparse(side, layer)
    )
    return sum(parameter.numel() for parameter in model.parameters()) - unused


SECTIONS: list[tuple[float, Callable[[Scale, Recorder], None]]] = [
    (20, check_against_cpu),
    (60, translate("600M")),
    (30, mixture_layer),
    (30, training),
    (40, training_of_mixture),
    (120, translate("3.3B")),
]
"""The sections and the seconds that must be left for them on a GPU."""


def main(arguments: list[str] | None = None) -> int:
    """Run all sections; one that fails is recorded and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--dry", action="store_true", help="tiny shapes on a CPU")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    scale = DRY if options.dry else FULL
    recorder = Recorder(options.out / "gpu.jsonl", minutes=options.minutes)
    name = torch.cuda.get_device_name() if scale.device == "cuda" else platform.processor()
    recorder.write(
        "machine", device=name, torch=torch.__version__, python=platform.python_version()
    )
    failures = 0
    for needed_s, section in SECTIONS:
        if not options.dry and recorder.left_s < needed_s:
            recorder.write("skipped: too little time", section=section.__name__)
            continue
        try:
            section(scale, recorder)
        except Exception:
            failures += 1
            recorder.write("failed", section=section.__name__, error=traceback.format_exc(limit=-3))
        release_memory(scale)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

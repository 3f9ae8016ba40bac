"""Mutated calls of the int8 kernel: each one is answered, or refused by one of our own errors.

Run by the tests with a build that has sanitizers: `fuzz_program.py LIBRARY SEED COUNT`. The number
and the kind of each mutation are printed before it runs, so that the last line names a fatal one.
"""

import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nllb.errors import CheckpointError, ConfigError
from nllb.inference.engine import OutputChoice
from nllb.inference.generator import SearchOptions
from nllb.inference.kernels import packed_matrices
from nllb.inference.kernels.compiled_engine import KernelEngine
from nllb.inference.kernels.library import (
    LEVELS,
    Kernel,
    NormStruct,
    PostNormLayerStruct,
    open_kernel,
    pointer,
)
from nllb.inference.kernels.packed_matrices import PackedMatrix, Runtime, Workspace
from nllb.inference.search import Job, search
from nllb.model.configuration import ModelConfig
from nllb.model.formats.quantized_storage import is_quantizable, quantize_rows
from nllb.model.formats.weight_names import list_weights

Weights = dict[str, torch.Tensor]
HUGE = 1 << 62
SMALL = {"model_dim": 16, "encoder_layers": 1, "decoder_layers": 1, "vocabulary_size": 20}
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))


class Fuzzer:
    """One stream of mutations."""

    def __init__(self, library: Path, seed: int):
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        found = [open_kernel(library, level) for level in LEVELS[1:]]
        by_level = {kernel.level: kernel for kernel in found if kernel is not None}
        assert by_level, "the processor has none of the kernel's levels"
        self.kernels: list[Kernel] = list(by_level.values())
        self._engines: list[KernelEngine] = []

    def number(self, least: int, most: int) -> int:
        return int(self.random.integers(least, most + 1))

    def one_of(self, *choices):
        return choices[self.number(0, len(choices) - 1)]

    def config(self, **changes: int) -> ModelConfig:
        """Return a small shape whose sizes are odd wherever they may be."""
        sparse = self.one_of(0, 0, 2, 3)
        dim = changes.get("model_dim", 16 * self.number(1, 5))
        heads = [n for n in (1, 2, 3, 4, 5, 8, 16) if dim % n == 0]
        shape: dict[str, int] = {
            "vocabulary_size": self.one_of(self.number(5, 80), self.number(500, 700)),
            "model_dim": dim,
            "encoder_layers": self.number(1, 2),
            "decoder_layers": self.number(1, 2),
            "encoder_heads": self.one_of(*heads),
            "decoder_heads": self.one_of(*heads),
            "encoder_ffn_dim": self.number(1, 140),
            "decoder_ffn_dim": self.number(1, 140),
            "max_positions": self.number(10, 70),
            "num_experts": sparse,
            "encoder_sparse_step": self.number(0, 2),
            "decoder_sparse_step": self.number(0, 2),
        }
        return ModelConfig(**(shape | changes))

    def weights(self, config: ModelConfig) -> Weights:
        """Return random weights, in half of the cases stored as int8."""
        found: Weights = {}
        stored = self.number(0, 1)
        for weight in list_weights(config):
            tensor = torch.randn(weight.shape) * 0.3 + ("norm.weight" in weight.name)
            if stored and is_quantizable(weight.name, weight.shape):
                found[weight.name], found[weight.name + ".scale"] = quantize_rows(tensor)
            else:
                found[weight.name] = tensor
        return found

    def make_engine(self, config: ModelConfig, weights: Weights) -> KernelEngine:
        kernel, num_threads = self.one_of(*self.kernels), self.number(1, 3)
        return KernelEngine(config, weights, kernel=kernel, num_threads=num_threads)

    def engine(self) -> KernelEngine:
        """Return one of a few engines; every tenth call makes a new one."""
        if len(self._engines) < 8 or not self.number(0, 9):
            config = self.config()
            self._engines.append(self.make_engine(config, self.weights(config)))
            self._engines = self._engines[-8:]
        return self.one_of(*self._engines)

    def jobs(self, config: ModelConfig, most: int = 5) -> list[Job]:
        longest = config.max_positions
        lengths = [self.one_of(1, self.number(1, longest), longest) for _ in range(most)]
        return [
            Job(
                source=tuple(self.ids(config, length)),
                prompt=(2, self.number(0, config.vocabulary_size - 1)),
                limit=self.number(1, min(6, longest - 2)),
            )
            for length in lengths[: self.number(1, most)]
        ]

    def ids(self, config: ModelConfig, count: int) -> list[int]:
        return self.random.integers(0, config.vocabulary_size, count).tolist()

    def choice(self, engine: KernelEngine, jobs: list[Job]) -> OutputChoice:
        size = engine.config.vocabulary_size
        ids = np.unique(self.random.integers(0, size, self.number(1, size)))
        extra = tuple(np.setdiff1d(np.array(job.source, np.int64), ids) for job in jobs)
        return OutputChoice(projection=engine.restrict(ids), ids=ids, extra=extra)

    def options(self, num_open: int) -> SearchOptions:
        beam = self.number(1, min(num_open, self.one_of(2, 5, 40)))
        return SearchOptions(
            beam_size=beam,
            num_hypotheses=self.number(1, beam),
            min_output_tokens=self.number(0, 2),
            no_repeat_ngram=self.one_of(0, 0, 2),
            repetition_penalty=self.one_of(1.0, 1.0, 1.3),
        )

    # Each kind returns whether the call was answered; a refusal is one of our errors.

    def odd_sizes(self) -> bool:
        engine = self.engine()
        jobs = self.jobs(engine.config)
        choice = self.choice(engine, jobs) if self.number(0, 1) else None
        num_open = engine.config.vocabulary_size
        if choice is not None:
            num_open = len(choice.ids) + min(map(len, choice.extra))
        found = search(engine, jobs, self.options(num_open), choice=choice)
        size = engine.config.vocabulary_size
        assert all(0 <= n < size for of in found for output in of for n in output.token_ids)
        return True

    def many_rows(self) -> bool:
        """More rows than a panel, so that the output projection takes several."""
        engine = self.engine()
        jobs = self.jobs(engine.config, 1)
        if not self.number(0, 9):
            draws = self.number(1, 600)
            options = SearchOptions(beam_size=1, sampling=True, num_hypotheses=draws)
            [found] = search(engine, [replace(jobs[0], limit=2)], options)
            assert len(found) == draws
            return True
        rows = self.one_of(self.number(1, 40), self.number(500, 600))
        memory = engine.encode([jobs[0].source])
        decoding = engine.decode(memory, width=rows, max_positions=5)
        ones = np.zeros(1, np.int64)
        decoding.advance(np.array([jobs[0].prompt]), ones, ones)
        decoding.advance(np.full((rows, self.number(1, 2)), 3), np.zeros(rows, np.int64), ones)
        count = self.number(1, min(engine.config.vocabulary_size, 40))
        values, ids = decoding.best(count)
        assert np.isfinite(values).all() and ids.max() < engine.config.vocabulary_size
        assert (values == values[0]).all() and (ids == ids[0]).all()  # all rows are the same
        return True

    def weights_not_finite(self) -> bool:
        config = self.config(**SMALL)
        weights = self.weights(config)
        name = self.one_of(*[name for name, t in weights.items() if t.is_floating_point()])
        value = self.one_of(*NOT_FINITE, *NOT_FINITE, 1e30, 3e38, 1e-40, -3e38)
        flat = weights[name].view(-1)
        flat[self.number(0, len(flat) - 1)] = value
        try:
            engine = self.make_engine(config, weights)
            search(engine, self.jobs(config), self.options(config.vocabulary_size))
        except CheckpointError as error:
            text = str(error)
            assert name.removesuffix(".scale") in text or (
                "not finite" in text and value not in NOT_FINITE
            ), (name, value, text)
            return False
        # An expert is read when a token asks for it: one that none asked for is not looked at.
        assert np.isfinite(value) or ".experts." in name, (name, value)
        return True

    def weights_of_other_shape(self) -> bool:
        config = self.config(**SMALL, num_experts=0)
        weights = self.weights(config)
        name = self.one_of(*weights)
        tensor = weights[name]
        kinds = ["longer", "shorter", "type", "flat"] + ["wider"] * (tensor.ndim == 2)
        match self.one_of(*kinds):
            case "longer":
                changed = torch.cat([tensor, tensor[:1]])
            case "shorter":
                changed = tensor[:-1]
            case "wider":
                changed = torch.cat([tensor, tensor[:, :1]], 1)
            case "type":
                changed = tensor.to(self.one_of(torch.int64, torch.int32, torch.bool))
            case _:
                changed = tensor.reshape(1, -1) if tensor.ndim == 1 else tensor.reshape(-1)
        weights[name] = changed
        return self.refused(lambda: self.make_engine(config, weights))

    def ids_outside(self) -> bool:
        engine = self.engine()
        jobs = self.jobs(engine.config)
        wrong = self.one_of(-1, -HUGE, HUGE, engine.config.vocabulary_size, 1 << 31)
        job = jobs[-1]
        source, prompt = list(job.source), list(job.prompt)
        where = self.one_of(source, prompt)
        where[self.number(0, len(where) - 1)] = wrong
        if self.number(0, 1):
            jobs[-1] = replace(job, source=tuple(source), prompt=(prompt[0], prompt[1]))
            return self.refused(lambda: search(engine, jobs, SearchOptions(beam_size=1)))
        return self.refused(lambda: self.run(engine, source, prompt))

    def run(self, engine: KernelEngine, source: list[int], prompt: list[int]) -> None:
        decoding = engine.decode(engine.encode([source]), width=1, max_positions=4)
        decoding.advance(np.array([prompt]), np.zeros(1, np.int64), np.zeros(1, np.int64))

    def choice_outside(self) -> bool:
        engine = self.engine()
        jobs = self.jobs(engine.config)
        choice = self.choice(engine, jobs)
        wrong = self.one_of(-1, -HUGE, HUGE, engine.config.vocabulary_size)
        ids = choice.ids.copy()
        ids[self.number(0, len(ids) - 1)] = wrong
        match self.number(0, 4):
            case 0:
                return self.refused(lambda: engine.restrict(ids))
            case 1:
                return self.refused(lambda: engine.restrict(ids[:0]))
            case 2:
                changed = replace(choice, ids=ids)
            case 3:
                changed = replace(choice, extra=(*choice.extra[:-1], np.array([wrong])))
            case _:
                longer = np.concatenate([choice.ids, choice.ids])
                changed = replace(choice, ids=longer)
        return self.refused(
            lambda: search(engine, jobs, SearchOptions(beam_size=1), choice=changed)
        )

    def calls_of_other_shape(self) -> bool:
        engine = self.engine()
        positions = engine.config.max_positions
        memory = engine.encode([[2, 3], [4, 2]])
        width, room = self.number(1, 3), self.number(2, positions)
        decoding = engine.decode(memory, width=width, max_positions=room)
        two = np.arange(2)
        calls = (
            lambda: engine.encode([]),
            lambda: engine.encode([[2], []]),
            lambda: engine.encode([[2] * (positions + 1)]),
            lambda: engine.decode(memory, width=0, max_positions=4),
            lambda: engine.decode(memory, width=1, max_positions=positions + 1),
            lambda: decoding.advance(np.full((2, room + 1), 2), two, two),
            lambda: decoding.advance(
                np.full((2 * width + 2, 1), 2), np.zeros(2 * width + 2, int), two
            ),
            lambda: decoding.advance(np.full((2, 1), 2), two, np.array([0, 2])),
            lambda: decoding.advance(np.full((2, 1), 2), two, np.array([-1, 0])),
        )
        return self.refused(self.one_of(*calls))

    def config_outside(self) -> bool:
        name = self.one_of("bos_id", "pad_id", "eos_id", "unk_id", "decoder_start_id")
        wrong = self.one_of(-1, -HUGE, HUGE, 700)
        return self.refused(lambda: self.config(**{name: wrong}))

    def activations(self) -> bool:
        """Rows with any values: the others are what they are without them."""
        engine = self.engine()
        outputs, inputs = self.number(1, 70), self.number(1, 150)
        weight = torch.randint(-128, 128, (outputs, inputs)).to(torch.int8)
        matrix = PackedMatrix(engine.runtime, outputs, inputs)
        matrix.fill(0, weight, torch.rand(outputs), torch.randn(outputs))
        rows = torch.randn(self.number(2, 600), inputs) * 10.0 ** self.number(-44, 37)
        mixed = rows.clone()
        row, column = self.number(0, len(rows) - 1), self.number(0, inputs - 1)
        mixed[row, column] = self.one_of(*NOT_FINITE, 3e38, 1e-45)
        plain, found = matrix(rows), matrix(mixed)
        others = torch.arange(len(rows)) != row
        assert torch.equal(plain[others], found[others])
        finite = bool(torch.isfinite(mixed[row]).all())
        assert finite or bool(found[row].isnan().all())
        return True

    def post_norm_layers(self) -> bool:
        """A sentence's states do not depend on the others, whatever values these have."""
        runtime = self.engine().runtime
        heads, layers = self.number(1, 3), (PostNormLayerStruct * self.number(1, 2))()
        dim, ffn_dim = 16 * heads * self.number(1, 2), self.number(1, 90)
        lengths = self.random.integers(1, self.one_of(3, 40, 160), self.number(1, 4))
        starts = np.concatenate([[0], lengths.cumsum()])
        kept = [self.fill_post_norm(layer, runtime, dim, ffn_dim) for layer in layers]
        state = torch.randn(int(starts[-1]), dim)
        spoiled = self.number(-1, len(lengths) - 1)
        if spoiled >= 0:
            state[starts[spoiled], self.number(0, dim - 1)] = self.one_of(*NOT_FINITE, 3e38)

        depth = max(dim, -(-ffn_dim // 16) * 16 + 16)

        def run(x: torch.Tensor, counts: np.ndarray, heads: int, depth: int) -> torch.Tensor:
            work = Workspace(runtime, rows=len(x), dim=dim, depth=depth, heads=heads)
            begin = np.concatenate([[0], counts.cumsum()[:-1]]).astype(np.int32)
            counts = counts.astype(np.int32)
            runtime.kernel.library.nllb_encode_post_norm(
                *(byref(work.struct), layers, 0, len(layers), 1e-5, len(counts)),
                *(pointer(begin), pointer(counts), len(x), x.data_ptr()),
            )
            return x

        found = run(state.clone(), lengths, heads, depth)
        for number, (start, length) in enumerate(zip(starts, lengths, strict=False)):
            part = slice(start, start + length)
            alone = run(state[part].clone(), lengths[number : number + 1], heads, depth)
            assert torch.equal(found[part].isnan(), alone.isnan())
            assert torch.equal(found[part].nan_to_num(), alone.nan_to_num())
            assert number == spoiled or bool(alone.isfinite().all())
        wrong = self.one_of((5 * heads, depth), (heads, 0))
        self.refused(lambda: run(state.clone(), lengths, *wrong), (RuntimeError,))
        del kept
        return True

    def fill_post_norm(
        self, layer: PostNormLayerStruct, runtime: Runtime, dim: int, ffn_dim: int
    ) -> list[object]:
        """Fill a layer with random numbers, and return what holds their memory."""
        shapes = {
            **{"qkv": (3 * dim, dim), "out": (dim, dim)},
            **{"inner": (ffn_dim, dim), "outer": (dim, ffn_dim)},
        }
        kept: list[object] = []
        for name, (outputs, inputs) in shapes.items():
            matrix = PackedMatrix(runtime, outputs, inputs)
            weight = torch.randint(-127, 128, (outputs, inputs)).to(torch.int8)
            matrix.fill(0, weight, torch.rand(outputs) / 100, torch.randn(outputs))
            setattr(layer, name, matrix.struct)
            kept.append(matrix)
        vectors = [torch.rand(dim) + 0.5 for _ in range(6)]
        addresses = [vector.data_ptr() for vector in vectors]
        layer.attention_norm = NormStruct(*addresses[:2])
        layer.feed_norm = NormStruct(*addresses[2:4])
        layer.qkv_factors, layer.inner_factors = addresses[4:]
        return [*kept, *vectors]

    def calls_at_once(self) -> bool:
        engine = self.engine()
        batches = [self.jobs(engine.config, 2) for _ in range(3)]
        options = SearchOptions(beam_size=self.number(1, 3))
        expected = [search(engine, jobs, options) for jobs in batches]
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda jobs: search(engine, jobs, options), batches))
        assert found == expected
        return True

    def refused(
        self,
        call: Callable[[], object],
        errors: tuple[type[Exception], ...] = (CheckpointError, ConfigError, ValueError),
    ) -> bool:
        try:
            call()
        except errors:
            return False
        raise AssertionError("a wrong call was answered")


def main(library: str, seed: str, count: str) -> None:
    fuzzer = Fuzzer(Path(library), int(seed))
    kinds = [
        *(fuzzer.odd_sizes, fuzzer.weights_not_finite, fuzzer.weights_of_other_shape),
        *(fuzzer.ids_outside, fuzzer.choice_outside, fuzzer.calls_of_other_shape),
        *(fuzzer.config_outside, fuzzer.activations, fuzzer.many_rows, fuzzer.calls_at_once),
        fuzzer.post_norm_layers,
    ]
    outcomes: Counter[str] = Counter()
    torch.set_num_threads(1)
    packed_matrices.BLOCK_BYTES = 0  # each matrix has memory of its own, with red zones around it
    with torch.inference_mode():
        for number in range(int(count)):
            kind = kinds[number % len(kinds)]
            print(number, kind.__name__, flush=True)
            outcomes["answered" if kind() else "refused"] += 1
    print(dict(outcomes))
    print([LEVELS[kernel.level] for kernel in fuzzer.kernels])


main(*sys.argv[1:])

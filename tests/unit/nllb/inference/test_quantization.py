"""int8: the error of single linears, the kernel against plain torch, and batch invariance."""

import numpy as np
import pytest
import torch

from nllb.errors import ConfigError
from nllb.inference.engine import OutputChoice, TorchEngine
from nllb.inference.generator import SearchOptions
from nllb.inference.kernels import compiled_engine as kernels
from nllb.inference.kernels.compiled_engine import KernelEngine, int8_engine
from nllb.inference.kernels.library import LEVELS as ALL_LEVELS
from nllb.inference.kernels.library import load_kernel
from nllb.inference.kernels.packed_matrices import PackedMatrix
from nllb.inference.quantization import Int8Linear, Int8TorchEngine, read_int8
from nllb.inference.search import Job, search
from nllb.model.configuration import ModelConfig
from nllb.model.formats.quantized_storage import dequantize_rows
from nllb.model.transformer import Transformer

LEVELS = [level for level in ALL_LEVELS[1:] if load_kernel(level) is not None]
needs_kernel = pytest.mark.skipif(
    not LEVELS, reason="the int8 kernel is not built: install with a C compiler at hand"
)


def make_model(sparse: bool = False) -> Transformer:
    sparse_shape = {"num_experts": 6, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
    config = ModelConfig(
        vocabulary_size=307,
        model_dim=48,
        encoder_layers=2,
        decoder_layers=2,
        encoder_heads=4,
        decoder_heads=6,
        encoder_ffn_dim=100,
        decoder_ffn_dim=72,
        max_positions=80,
        **(sparse_shape if sparse else {}),
    )
    torch.manual_seed(11)
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.15)
            if "norm.weight" in name:
                parameter.add_(1)
    return model


def make_jobs(count: int) -> list[Job]:
    random = np.random.default_rng(2)
    return [
        Job(
            source=(*random.integers(4, 300, random.integers(2, 40)).tolist(), 2),
            prompt=(2, 301),
            limit=int(random.integers(3, 20)),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("inputs", [64, 1024, 4096])
def test_the_error_of_a_linear_is_bounded(inputs) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(256, inputs) / inputs**0.5, torch.randn(256)
    x = torch.randn(50, inputs)
    int8, scale = read_int8({"w": weight}, "w")
    y = Int8Linear(weight=int8, scale=scale, bias=bias)(x)
    exact = torch.nn.functional.linear(x, weight, bias)
    assert float((y - exact).norm() / exact.norm()) < 0.015


def test_the_error_of_every_linear_of_a_model_is_bounded() -> None:
    model = make_model()
    torch.manual_seed(1)
    for name, parameter in model.state_dict().items():
        if parameter.ndim == 2:
            x = torch.randn(20, parameter.shape[1])
            int8, scale = read_int8({name: parameter}, name)
            y = Int8Linear(weight=int8, scale=scale, bias=None)(x)
            exact = x @ parameter.t()
            assert float((y - exact).norm() / exact.norm()) < 0.015, name


@needs_kernel
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_kernel_multiplies_as_plain_torch_does(level, num_threads) -> None:
    model = make_model()
    kernel = load_kernel(level)
    engine = KernelEngine(model.config, model.state_dict(), kernel=kernel, num_threads=num_threads)
    torch.manual_seed(4)
    for outputs, inputs, rows in [(16, 64, 1), (100, 48, 3), (33, 130, 9), (500, 256, 70)]:
        int8 = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
        scale, bias = torch.rand(outputs), torch.randn(outputs)
        packed = PackedMatrix(engine.runtime, outputs, inputs)
        packed.fill(0, int8, scale, bias)
        x = torch.randn(rows, inputs)
        expected = Int8Linear(weight=int8, scale=scale, bias=bias)(x)
        assert torch.allclose(packed(x), expected, rtol=1e-5, atol=1e-4)


def logits_of(engine, *, new: int = 2) -> torch.Tensor:
    jobs = make_jobs(7)
    decoding = engine.decode(engine.encode([job.source for job in jobs]), width=1, max_positions=9)
    rows = np.arange(7)
    decoding.advance(np.tile([[2, 301]], (7, 1)), rows, rows)
    for token in range(40, 40 + new):
        decoding.advance(np.full((7, 1), token), rows, rows)
    return decoding.logits()


@needs_kernel
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_the_kernel_engine_agrees_with_plain_torch(sparse) -> None:
    model = make_model(sparse)
    exact = logits_of(TorchEngine(model.config, model.state_dict()))
    plain = logits_of(Int8TorchEngine(model.config, model.state_dict()))
    assert exact.std() > 0.5
    assert (plain - exact).norm() / exact.norm() < 0.1
    for level in LEVELS:
        engine = KernelEngine(
            model.config, model.state_dict(), kernel=load_kernel(level), num_threads=1
        )
        found = logits_of(engine)
        # bfloat16 keys and values are the only difference beside the order of sums
        assert (found - plain).norm() / plain.norm() < 0.05, level
        assert (found - exact).norm() / exact.norm() < 0.1, level


@needs_kernel
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_levels_threads_and_batches_change_nothing(sparse, beam_size) -> None:
    model = make_model(sparse)
    jobs = make_jobs(12)
    ids = np.unique(np.random.default_rng(3).integers(2, 300, 80))
    options = SearchOptions(beam_size=beam_size, num_hypotheses=beam_size)
    found = []
    for level in LEVELS:
        for num_threads in (1, 2):
            engine = KernelEngine(
                model.config,
                model.state_dict(),
                kernel=load_kernel(level),
                num_threads=num_threads,
            )
            for size in (12, 5, 1) if level == LEVELS[-1] else (12,):
                outputs = []
                for start in range(0, len(jobs), size):
                    part = jobs[start : start + size]
                    extra = tuple(np.setdiff1d(job.source, ids) for job in part)
                    choice = OutputChoice(projection=engine.restrict(ids), ids=ids, extra=extra)
                    outputs += search(engine, part, options, choice=choice)
                    outputs += search(engine, part, options)
                found.append(sorted(outputs, key=repr))
    assert all(outputs == found[0] for outputs in found[1:])
    assert len({output.token_ids for of in found[0] for output in of}) > 12


@needs_kernel
def test_best_equals_the_logits(monkeypatch) -> None:
    model = make_model()
    engine = int8_engine(model.config, model.state_dict(), num_threads=2)
    jobs = make_jobs(6)
    ids = np.arange(2, 200, 3)
    extra = tuple(np.setdiff1d(job.source, ids) for job in jobs)
    for choice in (None, OutputChoice(projection=engine.restrict(ids), ids=ids, extra=extra)):
        memory = engine.encode([job.source for job in jobs])
        decoding = engine.decode(memory, width=1, max_positions=4, choice=choice)
        decoding.advance(np.tile([[2, 301]], (6, 1)), np.arange(6), np.arange(6))
        values, tokens = decoding.best(9)
        top = decoding.logits().log_softmax(-1).topk(9)
        assert np.allclose(values, top.values.numpy(), atol=1e-5)
        assert (tokens == top.indices.numpy()).all()


def test_the_setting_switches_the_kernel_off_and_names_its_values() -> None:
    assert load_kernel("off") is None
    with pytest.raises(ConfigError, match=r"did you mean amx\?"):
        load_kernel("amxx")


def test_without_the_kernel_plain_torch_takes_its_place(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "load_kernel", lambda: None)
    model = make_model()
    engine = int8_engine(model.config, model.state_dict(), num_threads=1)
    assert isinstance(engine, Int8TorchEngine)
    assert len(search(engine, make_jobs(3), SearchOptions(beam_size=2))) == 3


def test_stored_int8_weights_run_as_they_are() -> None:
    model = make_model()
    stored = {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 2:
            stored[name], stored[f"{name}.scale"] = read_int8({name: tensor}, name)
        else:
            stored[name] = tensor
    found = logits_of(int8_engine(model.config, stored, num_threads=1))
    assert torch.equal(
        found, logits_of(int8_engine(model.config, model.state_dict(), num_threads=1))
    )
    floats = logits_of(TorchEngine(model.config, stored))  # dequantised where floats are asked for
    embedding = dequantize_rows(stored["embedding.weight"], stored["embedding.weight.scale"])
    assert torch.isfinite(floats).all() and embedding.shape == (307, 48)

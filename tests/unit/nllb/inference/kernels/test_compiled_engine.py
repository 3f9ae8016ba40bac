"""What the compiled engine refuses before the kernel is called, and calls of many rows."""

import re
from ctypes import byref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nllb.errors import CheckpointError, ResourceError
from nllb.inference.engine import OutputChoice
from nllb.inference.generator import MAX_BEAM_SIZE, SearchOptions
from nllb.inference.kernels import packed_matrices
from nllb.inference.kernels.compiled_engine import KernelEngine
from nllb.inference.kernels.library import load_kernel
from nllb.inference.kernels.packed_matrices import PANEL, PackedMatrix, Workspace, allocate
from nllb.inference.search import Job, search
from nllb.model.configuration import ModelConfig
from nllb.model.formats.weight_names import list_weights

pytestmark = pytest.mark.skipif(
    load_kernel() is None, reason="the int8 kernel is not built: install with a C compiler at hand"
)
SIZE = 600
CONFIG = ModelConfig(
    vocabulary_size=SIZE,
    model_dim=32,
    encoder_layers=1,
    decoder_layers=1,
    encoder_heads=2,
    decoder_heads=2,
    encoder_ffn_dim=40,
    decoder_ffn_dim=40,
    max_positions=20,
)


def make_weights(config: ModelConfig = CONFIG) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {weight.name: torch.randn(weight.shape) * 0.4 for weight in list_weights(config)}


@pytest.fixture(scope="module")
def engine() -> KernelEngine:
    return KernelEngine(CONFIG, make_weights(), kernel=load_kernel(), num_threads=2)


@pytest.fixture
def decoding(engine):
    return engine.decode(engine.encode([[2, 3], [4, 2]]), width=2, max_positions=6)


JOB = Job(source=(5, 6, 2), prompt=(2, 9), limit=4)


@pytest.mark.parametrize("rows", [1, 31, PANEL, PANEL + 1, PANEL + 33, 2 * PANEL + 5])
def test_any_number_of_rows_gives_what_one_row_gives(engine, rows) -> None:
    found = []
    for width in (1, rows):
        decoding = engine.decode(engine.encode([JOB.source]), width=width, max_positions=4)
        first, sentence = np.zeros(1, np.int64), np.zeros(1, np.int64)
        decoding.advance(np.array([JOB.prompt]), first, sentence)
        decoding.advance(np.full((width, 1), 7), np.zeros(width, np.int64), sentence)
        found.append((*decoding.best(9), decoding.logits().numpy()))
    for one, many in zip(*found, strict=True):
        assert (many == one).all() and len(many) == rows


def test_the_largest_beam_is_searched(engine) -> None:
    options = SearchOptions(beam_size=MAX_BEAM_SIZE, num_hypotheses=MAX_BEAM_SIZE)
    [found] = search(engine, [JOB], options)
    assert len({output.token_ids for output in found}) == MAX_BEAM_SIZE


@pytest.mark.parametrize("wrong", [-1, SIZE, 1 << 40, -(1 << 62)])
def test_ids_outside_of_the_vocabulary(engine, decoding, wrong) -> None:
    message = rf"{wrong} .*0 to {SIZE - 1}"
    two = np.arange(2)
    with pytest.raises(CheckpointError, match=message):
        engine.encode([[2, wrong]])
    with pytest.raises(CheckpointError, match=message):
        decoding.advance(np.array([[2, 3], [2, wrong]]), two, two)
    with pytest.raises(CheckpointError, match=message):
        engine.restrict(np.array([3, wrong]))
    with pytest.raises(CheckpointError, match=rf"from .*{wrong}|{wrong} to"):
        search(engine, [replace(JOB, prefix=(wrong,))], SearchOptions())
    ids = np.array([3, 5])
    choice = OutputChoice(projection=engine.restrict(ids), ids=ids, extra=(np.array([wrong]),) * 2)
    with pytest.raises(CheckpointError, match=message):
        engine.decode(engine.encode([[2], [2]]), width=1, max_positions=4, choice=choice)


def test_a_choice_belongs_to_its_projection(engine) -> None:
    ids = np.array([3, 5, 9])
    memory = engine.encode([[2], [2]])
    right = OutputChoice(projection=engine.restrict(ids), ids=ids, extra=(ids[:0],) * 2)
    engine.decode(memory, width=1, max_positions=4, choice=right)
    for wrong in (
        replace(right, ids=np.arange(50)),
        replace(right, ids=ids[:2]),
        replace(right, extra=right.extra[:1]),
        replace(right, ids=ids.astype(np.int32)),
    ):
        with pytest.raises(CheckpointError, match=r"choice of|must be int64"):
            engine.decode(memory, width=1, max_positions=4, choice=wrong)


@pytest.mark.parametrize("sources", [[], [[]], [[2], []], [[2] * 21]])
def test_sources_have_a_length_that_the_model_allows(engine, sources) -> None:
    with pytest.raises(ValueError, match="must have 1 to 20 tokens"):
        engine.encode(sources)


@pytest.mark.parametrize(("width", "positions"), [(0, 4), (-1, 4), (1, 0), (1, 21)])
def test_decodings_have_a_size_that_the_model_allows(engine, width, positions) -> None:
    with pytest.raises(ValueError, match="1 to 20 positions"):
        engine.decode(engine.encode([[2]]), width=width, max_positions=positions)


def test_steps_stay_within_their_decoding(decoding) -> None:
    two, token = np.arange(2), np.full((2, 1), 3)
    for tokens, parents, sentences in (
        (np.full((6, 1), 3), np.zeros(6, np.int64), two),  # more rows than there are
        (np.full((2, 7), 3), two, two),  # more positions
        (np.full((3, 1), 3), np.arange(3), two),  # rows that no sentence has
        (token, two, np.array([0, 2])),
        (token, two, np.array([-1, 1])),
    ):
        with pytest.raises(ValueError, match="sentences"):
            decoding.advance(tokens, parents, sentences)
    decoding.advance(token, two, two)
    with pytest.raises(ValueError, match="at least one"):
        decoding.best(0)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("embedding.weight", (SIZE, 48)),
        ("embedding.weight", (SIZE - 1, 32)),
        ("encoder.layers.0.self_attention.query.weight", (16, 32)),
        ("encoder.layers.0.self_attention.key.weight", (32, 48)),
        ("encoder.layers.0.feed_forward.inner.bias", (41,)),
        ("encoder.layers.0.feed_forward.outer.weight", (32, 56)),
        ("decoder.layers.0.cross_attention.output.weight", (48, 32)),
        ("decoder.layers.0.cross_attention.value.weight", (48, 32)),
        ("decoder.layers.0.cross_attention_norm.bias", (31,)),
        ("decoder.norm.weight", (64,)),
    ],
)
def test_weights_of_other_shapes_than_the_configuration(name, shape) -> None:
    weights = make_weights() | {name: torch.ones(shape)}
    with pytest.raises(CheckpointError):
        KernelEngine(CONFIG, weights, kernel=load_kernel(), num_threads=1)


def test_matrices_are_filled_with_what_fits_them(engine) -> None:
    matrix = PackedMatrix(engine.runtime, 20, 30)
    weight, scale = torch.ones(10, 30, dtype=torch.int8), torch.ones(10)
    matrix.fill(10, weight, scale, None)
    for arguments in (
        (11, weight, scale, None),
        (-1, weight, scale, None),
        (0, weight[:, :29], scale, None),
        (0, weight.float(), scale, None),
        (0, weight, scale[:9], None),
        (0, weight, scale, scale[:9]),
    ):
        with pytest.raises(CheckpointError, match="matrix of 20 x 30 cannot be filled"):
            matrix.fill(*arguments)
    for outputs, inputs in ((0, 8), (8, 0), (8, packed_matrices.MAX_DIM + 1)):
        with pytest.raises(CheckpointError, match="cannot be packed"):
            PackedMatrix(engine.runtime, outputs, inputs)


def test_the_kernel_compares_a_call_with_its_workspace(engine) -> None:
    matrix = engine.embedding
    x, y = torch.zeros(40, 32), torch.zeros(40, matrix.padded)
    for rows, depth in ((39, 64), (40, 0)):
        work = Workspace(engine.runtime, rows=rows, dim=32, depth=depth)
        with pytest.raises(RuntimeError, match="nllb_linear: the sizes of the call"):
            engine.library.nllb_linear(
                *(byref(work.struct), None, byref(matrix.struct)),
                *(x.data_ptr(), 40, y.data_ptr(), matrix.padded),
            )


def test_memory_that_is_not_there() -> None:
    with pytest.raises(ResourceError, match="use a smaller beam"):
        allocate(1 << 60)


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="no huge pages here"
)
def test_large_memory_is_requested_in_huge_pages(engine) -> None:
    memory = allocate(16 << 20, torch.uint8, kernel=engine.runtime.kernel)
    inside, flags = memory.data_ptr() + len(memory) // 2, ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            here = int(place[1], 16) <= inside < int(place[2], 16)
        elif line.startswith("VmFlags:") and here:
            flags = line
    assert "hg" in flags.split()

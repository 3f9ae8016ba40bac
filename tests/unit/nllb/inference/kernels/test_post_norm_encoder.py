"""The int8 encoder is close to float32, and a sequence's states depend on nothing but itself."""

from dataclasses import replace

import pytest
import torch

from nllb.errors import CheckpointError
from nllb.inference.encoder_engine import TorchEncoderEngine
from nllb.inference.kernels.library import LEVELS, load_kernel
from nllb.inference.kernels.post_norm_encoder import (
    KernelEncoder,
    evening_factors,
    find_encoder_kernel,
)
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.shipped_encoder import SHIPPED_ENCODER

MIN_COSINE = 0.995
TEXTS = [
    "Where does the river end?",
    "In der Nacht wurde es so kalt, dass der See zufror; am Morgen lag Schnee, und niemand kam.",
    "नदी बहुत गहरी है।",
    "Она спросила, когда придёт поезд.",
    "ok",
]


def sequences(count: int, config, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, config.max_positions - 2, (count,), generator=generator).tolist()
    return [
        [0, *torch.randint(4, config.vocabulary_size, (n,), generator=generator).tolist(), 2]
        for n in lengths
    ]


def cosines(directory: EncoderDirectory, encoder: KernelEncoder, ids: list[list[int]]):
    ours = encoder.encode(ids, layers=None).states_LTD
    theirs = TorchEncoderEngine(directory.load()).encode(ids, layers=None).states_LTD
    return torch.cosine_similarity(ours, theirs, dim=-1)


@pytest.fixture(scope="module")
def directory(encoder_dir) -> EncoderDirectory:
    return EncoderDirectory.open(encoder_dir)


@pytest.fixture(params=LEVELS[1:])
def kernel(request):
    found = load_kernel(request.param)
    if found is None or LEVELS[found.level] != request.param:
        pytest.skip(f"this processor or installation does not have {request.param}")
    return found


def test_states_are_close_to_float32_at_every_level(directory, kernel) -> None:
    encoder = KernelEncoder(directory, kernel, num_threads=1)
    found = cosines(directory, encoder, sequences(9, directory.config))
    assert float(found[0].min()) > 0.999999  # the embeddings are not quantised again
    assert float(found.min()) >= MIN_COSINE


@pytest.mark.skipif(not SHIPPED_ENCODER.is_dir(), reason="installed without the encoder")
def test_states_of_the_shipped_encoder_are_close_to_float32(kernel) -> None:
    directory = EncoderDirectory.open(SHIPPED_ENCODER)
    encoder = KernelEncoder(directory, kernel, num_threads=1)
    tokenizer = directory.tokenizer()
    ids = [
        list(text.windows[0])
        for prefix in ("", "query: ")
        for text in tokenizer.tokenize(TEXTS, prefix=prefix)
    ]
    assert float(cosines(directory, encoder, ids).min()) >= MIN_COSINE


def test_a_sequence_does_not_depend_on_the_others(directory, kernel) -> None:
    encoder = KernelEncoder(directory, kernel, num_threads=1)
    ids = sequences(40, directory.config)  # more tokens than go through the layers together
    together = encoder.encode(ids, layers=None).split()
    for number in (0, 7, 39):
        alone = encoder.encode([ids[number]], layers=None).states_LTD
        assert torch.equal(alone, together[number])


def test_threads_change_nothing(directory, kernel) -> None:
    ids = sequences(30, directory.config)
    one, three = (
        KernelEncoder(directory, kernel, num_threads=count).encode(ids, layers=None).states_LTD
        for count in (1, 3)
    )
    assert torch.equal(one, three)


def test_layers_come_in_the_order_asked_for(directory, kernel) -> None:
    encoder = KernelEncoder(directory, kernel, num_threads=1)
    ids = sequences(3, directory.config)
    every = encoder.encode(ids, layers=None).states_LTD
    chosen = encoder.encode(ids, layers=[2, 0, -1, 2]).states_LTD
    assert torch.equal(chosen, every[[2, 0, 3, 2]])


def test_input_ranges_make_the_states_closer(directory, kernel, monkeypatch) -> None:
    """One channel of a norm's output is made 50 times as large, as some are in e5."""
    read, ranged = EncoderDirectory.read, EncoderDirectory.input_range

    def with_outlier(self, name):
        tensor = read(self, name)
        if name.startswith("layers.0.attention_norm"):
            tensor[5] *= 50
        return tensor

    def range_with_outlier(self, name):
        tensor = ranged(self, name).clone()
        if name == "layers.0.inner":
            tensor[5] *= 50
        return tensor

    monkeypatch.setattr(EncoderDirectory, "read", with_outlier)
    ids, means = sequences(9, directory.config), []
    for ranges in (range_with_outlier, lambda self, name: None):
        monkeypatch.setattr(EncoderDirectory, "input_range", ranges)
        encoder = KernelEncoder(directory, kernel, num_threads=1)
        means.append(float(cosines(directory, encoder, ids)[1].mean()))
    assert means[0] > means[1]


def test_factors_balance_inputs_and_columns() -> None:
    weight_RD = torch.tensor([[1.0, -4.0, 0.5], [0.5, 2.0, -1.0]])
    factor_D = evening_factors(weight_RD, torch.tensor([9.0, 1.0, 4.0]))
    assert factor_D.tolist() == pytest.approx([1.5, 0.25, 1.0])
    assert evening_factors(weight_RD, None).tolist() == [1, 1, 1]


def test_no_sequences_give_no_states(directory, kernel) -> None:
    encoder = KernelEncoder(directory, kernel, num_threads=1)
    assert encoder.encode([]).states_LTD.shape == (1, 0, directory.config.model_dim)


@pytest.mark.parametrize("token", [-1, 10**6])
def test_ids_outside_of_the_vocabulary_are_refused(directory, kernel, token) -> None:
    encoder = KernelEncoder(directory, kernel, num_threads=1)
    with pytest.raises(CheckpointError, match=rf"token {token} is not in the encoder's vocabulary"):
        encoder.encode([[0, 5, 2], [0, token, 2]])


@pytest.mark.parametrize("length", [0, 41])
def test_sequences_of_other_lengths_are_refused(directory, kernel, length) -> None:
    encoder = KernelEncoder(directory, kernel, num_threads=1)
    with pytest.raises(ValueError, match="each must have 1 to 40 tokens"):
        encoder.encode([[0, 5, 2], [5] * length])


@pytest.mark.parametrize(
    "changes", [{"num_heads": 8}, {"ffn_dim": 100}, {"ffn_dim": 9000}, {"max_positions": 5000}]
)
def test_shapes_that_the_kernel_cannot_run_have_none(directory, changes) -> None:
    assert find_encoder_kernel(replace(directory.config, **changes)) is None

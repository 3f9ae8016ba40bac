"""Engines return the states of the module, whatever the batch; the right engine is chosen."""

import pytest
import torch

from nllb.errors import ConfigError
from nllb.inference import encoder_engine
from nllb.inference.encoder_engine import TorchEncoderEngine, load_encoder_engine
from nllb.inference.kernels.post_norm_encoder import KernelEncoder, find_encoder_kernel
from nllb.inference.token_states import TokenStates
from nllb.model.formats.encoder_directory import EncoderDirectory

IDS = [[0, 5, 6, 7, 2], [0, 2], [0, 9, 9, 2]]


@pytest.fixture(scope="module")
def directory(encoder_dir) -> EncoderDirectory:
    return EncoderDirectory.open(encoder_dir)


def test_torch_gives_the_states_of_the_module(directory) -> None:
    found = load_encoder_engine(directory, dtype="float32", num_threads=1).encode(IDS, layers=[1])
    assert found.lengths == (5, 2, 4)
    for ids, states_LSD in zip(IDS, found.split(), strict=True):
        with torch.inference_mode():
            expected = directory.load()(torch.tensor([ids]), layers=[1])[:, 0]
        torch.testing.assert_close(states_LSD, expected, atol=1e-5, rtol=1e-5)


def test_small_batches_give_the_same_order(directory, monkeypatch) -> None:
    whole = TorchEncoderEngine(directory.load()).encode(IDS)
    monkeypatch.setattr(encoder_engine, "_CPU_BATCH_TOKENS", 5)
    parts = TorchEncoderEngine(directory.load()).encode(IDS)
    torch.testing.assert_close(parts.states_LTD, whole.states_LTD, atol=1e-5, rtol=1e-5)


def test_no_sequences_give_no_states(directory) -> None:
    found = TorchEncoderEngine(directory.load()).encode([], layers=None)
    assert found.states_LTD.shape == (4, 0, 64)


def test_bfloat16_is_near_float32(directory) -> None:
    near = load_encoder_engine(directory, dtype="bfloat16", num_threads=1).encode(IDS)
    exact = load_encoder_engine(directory, dtype="float32", num_threads=1).encode(IDS)
    assert near.states_LTD.dtype == torch.float32
    cosine = torch.cosine_similarity(near.states_LTD, exact.states_LTD, dim=-1)
    assert float(cosine.min()) > 0.99


def test_int8_is_the_default_on_the_cpu(directory) -> None:
    if find_encoder_kernel(directory.config) is None:
        pytest.skip("this processor or installation does not have the compiled kernel")
    assert isinstance(load_encoder_engine(directory, num_threads=1), KernelEncoder)


def test_without_the_kernel_the_default_is_float32(directory, monkeypatch) -> None:
    monkeypatch.setattr(encoder_engine, "find_encoder_kernel", lambda config: None)
    assert isinstance(load_encoder_engine(directory, num_threads=1), TorchEncoderEngine)


def test_int8_that_cannot_run_is_refused(directory, monkeypatch) -> None:
    monkeypatch.setattr(encoder_engine, "find_encoder_kernel", lambda config: None)
    with pytest.raises(ConfigError, match="use 'auto' or 'float32'"):
        load_encoder_engine(directory, dtype="int8")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_states_of_the_cpu(directory) -> None:
    here = load_encoder_engine(directory, dtype="float32", num_threads=1).encode(IDS, layers=None)
    there = load_encoder_engine(directory, device="cuda").encode(IDS, layers=None)
    torch.testing.assert_close(there.states_LTD, here.states_LTD, atol=1e-4, rtol=1e-4)


def test_states_are_split_and_padded_by_sequence() -> None:
    states = TokenStates(states_LTD=torch.arange(24.0).view(2, 4, 3), lengths=(1, 3))
    first, second = states.split()
    assert (first.shape, second.shape) == ((2, 1, 3), (2, 3, 3))
    padded_LBSD = states.padded()
    assert padded_LBSD.shape == (2, 2, 3, 3)
    assert torch.equal(padded_LBSD[:, 1], second)
    assert torch.equal(padded_LBSD[:, 0, :1], first)
    assert not padded_LBSD[:, 0, 1:].any()

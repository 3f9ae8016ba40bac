"""Common directions are found and removed."""

import pytest
import torch

from nllb.model.sentence_space import SentenceSpace


def test_the_mean_and_the_widest_directions_are_removed() -> None:
    generator = torch.Generator().manual_seed(0)
    spread_D = torch.tensor([1.0, 9.0, 1.0, 5.0, 1.0])
    vectors_ND = torch.randn(4000, 5, generator=generator) * spread_D + 3
    space = SentenceSpace.fit(vectors_ND, 2)
    assert space.mean_D == pytest.approx(torch.full((5,), 3.0), abs=0.5)
    assert space.directions_KD.abs() == pytest.approx(torch.eye(5)[[1, 3]], abs=0.05)
    left_ND = space.remove_from(vectors_ND)
    assert left_ND.norm(dim=1) == pytest.approx(torch.ones(4000), abs=1e-5)
    assert left_ND[:, [1, 3]].abs().max() < 0.3


def test_a_vector_that_is_the_mean_becomes_zero() -> None:
    space = SentenceSpace(mean_D=torch.ones(3), directions_KD=torch.eye(3)[:1])
    assert space.remove_from(torch.ones(1, 3)).tolist() == [[0.0, 0.0, 0.0]]


def test_the_sign_of_directions_is_fixed() -> None:
    vectors_ND = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    first, second = SentenceSpace.fit(vectors_ND), SentenceSpace.fit(-vectors_ND)
    assert torch.allclose(first.directions_KD, second.directions_KD, atol=1e-4)

"""Muon: orthogonal updates of matrices, AdamW for everything else."""

import torch

from nllb.training.muon import Muon, orthogonalize
from nllb.training.optimization import build_optimizer
from nllb.training.train_config import OptimizerSection


def reference(matrix: torch.Tensor) -> torch.Tensor:
    """Five Newton-Schulz iterations on the matrix itself, as they are published."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if is_tall else x


def test_updates_are_those_of_the_published_iterations() -> None:
    for shape in ((48, 16), (16, 48), (24, 24)):
        matrices = torch.randn(3, *shape)
        found = orthogonalize(matrices)
        for matrix, update in zip(matrices, found, strict=True):
            torch.testing.assert_close(update, reference(matrix), rtol=0, atol=1e-4)
            low = orthogonalize(matrix[None], low_precision=True)[0]
            assert torch.nn.functional.cosine_similarity(low.flatten(), update.flatten(), 0) > 0.99
            values = torch.linalg.svdvals(update)
            assert values.max() < 1.3 and values.median() > 0.6


def test_vectors_and_embeddings_follow_adamw() -> None:
    model = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(20, 8),
            "layers": torch.nn.ModuleList([torch.nn.Linear(8, 16)]),
        }
    )
    wrapped = torch.nn.ModuleDict({"decoder": model})
    section = OptimizerSection(kind="muon", learning_rate=0.01, weight_decay=0.1)
    optimizer = build_optimizer(wrapped, section)
    assert isinstance(optimizer, Muon)
    others = [model["embedding"].weight, model["layers"][0].bias]
    copies = [other.detach().clone().requires_grad_() for other in others]
    expected = torch.optim.AdamW(copies, lr=0.01, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    matrix = model["layers"][0].weight
    before = matrix.detach().clone()
    for step in range(3):
        for parameter, copy in zip([*others, matrix], [*copies, None], strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=torch.manual_seed(step))
            if copy is not None:
                copy.grad = parameter.grad.clone()
        optimizer.step()
        expected.step()
    for parameter, copy in zip(others, copies, strict=True):
        torch.testing.assert_close(parameter, copy)
    change = (matrix - before).square().mean().sqrt()
    assert 0.001 < change < 0.012  # three updates of a root mean square of about 0.2 * 0.01
    assert set(optimizer.state[matrix]) == {"step", "exp_avg"}

"""Muon: orthogonal updates of matrices, AdamW for everything else."""

import torch

from nllb.training.muon import Muon, orthogonalize
from nllb.training.optimization import build_optimizer
from nllb.training.train_config import OptimizerSection


def test_updates_are_nearly_orthogonal_with_the_singular_vectors_of_the_gradient() -> None:
    for shape in ((48, 16), (16, 48), (24, 24)):
        left, _, right = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
        values = torch.logspace(0, -2.2, min(shape))  # relative to the norm at least 0.002
        matrices = left @ torch.diag(values) @ right
        found = orthogonalize(matrices)
        inner = left.mT @ found @ right.mT
        diagonal = inner.diagonal(dim1=1, dim2=2)
        assert 0.67 < diagonal.min() and diagonal.max() < 1.33
        torch.testing.assert_close(inner, torch.diag_embed(diagonal), rtol=0, atol=1e-3)
        for matrix, update in zip(matrices, found, strict=True):
            low = orthogonalize(matrix[None], low_precision=True)[0]
            assert torch.nn.functional.cosine_similarity(low.flatten(), update.flatten(), 0) > 0.98


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

"""Muon for the matrices of hidden layers, and AdamW for everything else, as one optimizer.

Muon replaces the update of a matrix by the nearest orthogonal matrix, which Newton-Schulz
iterations approximate. They run in the number type of the run's matrix products: torch's
implementation always uses bfloat16, which is several times slower on processors without bfloat16
instructions, and 1.8 times as fast with them. Matrices of the same shape are updated together. The
size of an update matches that of AdamW, so that both share one learning rate.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale is
that of Liu et al. 2025, "Muon is scalable for LLM training"; coefficients that are optimal for each
iteration are the idea of Amsel et al. 2025, "The Polar Express".
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_COEFFICIENTS: Final = (
    (8.4268, -24.9363, 18.4926),
    (4.1117, -3.0591, 0.5750),
    (3.7146, -2.7781, 0.5429),
    (2.7819, -2.0749, 0.4635),
)
"""Coefficients of x, x^3 and x^5 for each iteration. They minimise the greatest error over singular
values from 0.002 to 1, which is 0.32 after these four iterations, as after five iterations of
Jordan's single polynomial; that takes a quarter more time. A norm of 1 keeps values below 1."""
_RMS: Final = 0.2
"""Root mean square of an update, which is about that of AdamW."""
_MIN_NORM: Final = 1e-7
_MAX_BATCH: Final = 16
"""Maximum number of matrices in one product; more require more memory and are not faster."""


class Muon(torch.optim.Optimizer):
    """Muon for groups with `muon: True`, AdamW for the others."""

    def __init__(self, groups: Sequence[dict[str, Any]], **defaults: Any) -> None:
        """Create the optimizer.

        Args:
            groups: parameter groups, each with `muon`.
            defaults: `lr`, `momentum`, `betas`, `eps` and `weight_decay` of groups that lack them.
        """
        super().__init__(groups, defaults)
        self.low_precision = False
        """Whether the iterations run in bfloat16."""

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None
    ) -> None:
        """Update all parameters that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for parameter in parameters:
                self._start(parameter, is_muon=group["muon"])
            if group["muon"]:
                for matrices in _by_shape(parameters):
                    self._step_matrices(matrices, group)
            elif parameters:
                self._step_others(parameters, group)

    def _start(self, parameter: nn.Parameter, *, is_muon: bool) -> None:
        state = self.state[parameter]
        if not state:
            names = ("exp_avg",) if is_muon else ("exp_avg", "exp_avg_sq")
            state.update({name: torch.zeros_like(parameter) for name in names})
            state["step"] = torch.tensor(0.0)

    def _step_matrices(self, matrices: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        updates = []
        for matrix in matrices:
            assert matrix.grad is not None
            updates.append(nesterov(matrix.grad, self.state[matrix]["exp_avg"], group["momentum"]))
        orthogonal_NRC = orthogonalize(torch.stack(updates), low_precision=self.low_precision)
        for matrix, update_RC in zip(matrices, orthogonal_NRC, strict=True):
            apply_update(matrix, update_RC, rate=group["lr"], weight_decay=group["weight_decay"])

    def _step_others(self, parameters: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        """Update by AdamW, in one pass over memory."""
        states = [self.state[parameter] for parameter in parameters]
        beta_1, beta_2 = group["betas"]
        adamw(
            list(parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=beta_1,
            beta2=beta_2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
            fused=True,
        )


def nesterov(gradient: Tensor, average: Tensor, momentum: float) -> Tensor:
    """Add a gradient to its moving average in place, and return Nesterov's update."""
    average.lerp_(gradient, 1 - momentum)
    return gradient.lerp(average, momentum)


def apply_update(matrix: Tensor, orthogonal: Tensor, *, rate: float, weight_decay: float) -> None:
    """Change a matrix (R, C), or several of one shape, by its orthogonalised update in place."""
    scale = _RMS * max(matrix.shape[-2:]) ** 0.5
    matrix.mul_(1 - rate * weight_decay).sub_(orthogonal, alpha=rate * scale)


def orthogonalize(updates_NRC: Tensor, *, low_precision: bool = False) -> Tensor:
    """Return the nearest (semi-)orthogonal matrices, whose singular values are about 1.

    Each iteration multiplies x by a polynomial of its square x x^T. All polynomials commute, so
    that in float32 they are accumulated in the small square matrices, and x is multiplied once at
    the end. In bfloat16 that would lose small singular values, and x is multiplied each time.

    Shapes: N matrices, R rows, C columns, S the smaller of both.
    """
    is_tall = updates_NRC.shape[1] > updates_NRC.shape[2]
    x_NSL = updates_NRC.mT if is_tall else updates_NRC
    x_NSL = x_NSL / (x_NSL.norm(dim=(1, 2), keepdim=True) + _MIN_NORM)
    if low_precision:
        x_NSL = x_NSL.bfloat16()
        for a, b, c in _COEFFICIENTS:
            square_NSS = x_NSL @ x_NSL.mT
            step_NSS = torch.baddbmm(square_NSS, square_NSS, square_NSS, beta=b, alpha=c)
            x_NSL = torch.baddbmm(x_NSL, step_NSS, x_NSL, beta=a)
        x_NSL = x_NSL.to(updates_NRC.dtype)
        return x_NSL.mT if is_tall else x_NSL
    square_NSS, product_NSS = x_NSL @ x_NSL.mT, None
    for iteration, (a, b, c) in enumerate(_COEFFICIENTS, 1):
        step_NSS = torch.baddbmm(square_NSS, square_NSS, square_NSS, beta=b, alpha=c)
        step_NSS.diagonal(dim1=1, dim2=2).add_(a)
        product_NSS = step_NSS if product_NSS is None else step_NSS @ product_NSS
        if iteration < len(_COEFFICIENTS):
            square_NSS = step_NSS @ square_NSS @ step_NSS
    assert product_NSS is not None
    result_NSL: Tensor = product_NSS @ x_NSL
    return result_NSL.mT if is_tall else result_NSL


def _by_shape(parameters: Iterable[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    groups: dict[torch.Size, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.shape, []).append(parameter)
    for group in groups.values():
        for first in range(0, len(group), _MAX_BATCH):
            yield group[first : first + _MAX_BATCH]

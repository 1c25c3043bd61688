"""TorchJD's aggregators, applied to the terms' gradients at the output."""

from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith.balance.share import NormalizedBalance

__all__ = ["TorchJD"]

Method = Literal["UPGrad", "AlignedMTL", "DualProj", "IMTLG", "MGDA"]
"""The aggregators that are a deterministic function of the Gramian, so that all processes agree."""


@final
class TorchJD(NormalizedBalance):
    r"""Balancer that resolves conflicts between the gradients of the terms.

    .. math:: w = D \, v(D G D), \quad D_{ii} = \frac{m a_i}{\sum_j |a_j|} \cdot \frac{1}{\bar g_i}

    where :math:`G` is the Gramian of the m terms' gradients at the output, :math:`\bar g_i` are the running means of
    their norms as in :class:`Share`, and :math:`v` is the weighting of an aggregator of TorchJD. UPGrad's weights are
    1/m for terms without conflict, which is :class:`Share`. Terms without conflict at the output may still conflict in
    the network's parameters. The solver runs on the CPU; a GPU waits for it in measured steps.

    Requires ``pip install -e '.[moo]'``.

    References:
        | Jacobian Descent for Multi-Objective Optimization (Quinton & Rey, 2024)
        | https://arxiv.org/abs/2406.16232

    Args:
        method: "UPGrad", "AlignedMTL", "DualProj", "IMTLG" or "MGDA".
        ema: The decay rate of the running mean per measurement, in [0, 1).
        cap: The largest factor by which a term is amplified relative to where its gradient was largest; at least 1.
        every: The number of steps from one measurement to the next.

    Raises:
        ValueError: If the method is unknown.
        ModuleNotFoundError: If TorchJD or its solver is not installed.
    """

    def __init__(self, method: Method = "UPGrad", *, ema: float = 0.99, cap: float = 100.0, every: int = 10) -> None:
        super().__init__(ema=ema, cap=cap, every=every)
        self.method = check_choice("torchjd method", method, Method)
        self.__dict__["weighting"] = _load_weighting(method)  # outside of nn.Module's registration: it has no state

    weighting: Callable[[Tensor], Tensor]

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights of the combination without conflict, (m,)."""
        scale = weights * self.inverse_norms(gramian)
        is_active = scale != 0
        if not is_active.any():
            return torch.zeros_like(weights)
        scale = scale * (is_active.sum() / weights.abs()[is_active].sum())
        active_gramian = (scale[:, None] * gramian * scale)[is_active][:, is_active].double().cpu()
        combined = torch.zeros_like(weights)
        combined[is_active] = self.weighting(active_gramian).to(combined)
        return combined * scale


def _load_weighting(method: str) -> Callable[[Tensor], Tensor]:
    """Return TorchJD's map from a Gramian to weights, after importing what it needs."""
    import torchjd.aggregation

    if method in ("UPGrad", "DualProj"):
        import qpsolvers  # noqa: F401  # TorchJD imports the two only when the first step needs them
        import quadprog  # noqa: F401
    weighting: Callable[[Tensor], Tensor] = getattr(torchjd.aggregation, f"{method}Weighting")()
    return weighting

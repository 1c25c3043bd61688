"""TorchJD's aggregators, on the terms' gradients at the output."""

import difflib
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from lossmith.balance.share import Scale

__all__ = ["TorchJD"]

METHODS = ("UPGrad", "AlignedMTL", "DualProj", "IMTLG", "MGDA")
"""Those that look at a Gramian alone, and at nothing random, on which processes would disagree."""


@final
class TorchJD(Scale):
    r"""Lets terms give way to each other where their gradients conflict.

    .. math:: w = D \, v(D G D), \quad D_{ii} = \frac{m a_i}{\sum_j |a_j|} \cdot \frac{1}{\bar g_i}

    where :math:`G` is the Gramian of the m terms' gradients at the output, :math:`\bar g_i` are their norms as
    :class:`Share` takes them, and :math:`v` is the weighting of an aggregator of TorchJD. UPGrad's is 1/m for terms
    that do not conflict, and then this is :class:`Share`. That no two terms conflict at the output does not say that
    none do in the network's parameters. The solver runs on the CPU, which a GPU waits for in measured steps.

    It needs ``lossmith[moo]``.

    References:
        | Jacobian Descent for Multi-Objective Optimization (Quinton & Rey, 2024)
        | https://arxiv.org/abs/2406.16232

    Args:
        method: "UPGrad", "AlignedMTL", "DualProj", "IMTLG" or "MGDA".
        ema: What the mean keeps a measurement.
        cap: How many times stronger a term may be made than it was where its gradient was largest.
        every: Steps from one measurement to the next.

    Raises:
        ValueError: There is no such method.
        ModuleNotFoundError: TorchJD or its solver is not installed.
    """

    def __init__(self, method: str = "UPGrad", *, ema: float = 0.99, cap: float = 100.0, every: int = 10) -> None:
        super().__init__(ema=ema, cap=cap, every=every)
        if method not in METHODS:
            near = difflib.get_close_matches(str(method), METHODS, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(METHODS)}."
            raise ValueError(f"torchjd has no method {method!r} here{guess}")
        self.method = method
        self.__dict__["weighting"] = weighting(method)  # it has no state

    weighting: Callable[[Tensor], Tensor]

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """The weights with which no term pulls against another, as the method has it (m,)."""
        scale = weights * self.scales(gramian)
        live = scale != 0
        if not live.any():
            return torch.zeros_like(weights)
        scale = scale * (live.sum() / weights.abs()[live].sum())
        inner = (scale[:, None] * gramian * scale)[live][:, live].double().cpu()  # the solvers are
        out = torch.zeros_like(weights)
        out[live] = self.weighting(inner).to(out)
        return out * scale


def weighting(method: str) -> Callable[[Tensor], Tensor]:
    """TorchJD's map from a Gramian to weights, once all that it needs is there."""
    import torchjd.aggregation

    if method in ("UPGrad", "DualProj"):
        import qpsolvers  # noqa: F401  # TorchJD itself asks for the two in the middle of a training
        import quadprog  # noqa: F401
    found: Callable[[Tensor], Tensor] = getattr(torchjd.aggregation, f"{method}Weighting")()
    return found

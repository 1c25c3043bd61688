"""Fixed shares of the gradient, as in EnCodec's balancer."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_number
from lossmith.balance.base import Balance, RunningMean, check_ema, check_every, gradient_norms

__all__ = ["NormalizedBalance", "Share"]


class NormalizedBalance(Balance):
    """Base class of balancers that divide each term by the running mean of its gradient norm.

    The running mean is bounded below by its largest value so far divided by `cap`. Otherwise, a term that is nearly
    solved would be amplified without bound.

    Args:
        ema: The decay rate of the running mean per measurement, in [0, 1).
        cap: The largest factor by which a term is amplified relative to where its gradient was largest; at least 1.
        every: The number of steps from one measurement to the next.
    """

    weights_are_shares = True
    mean: RunningMean
    peak: Tensor

    def __init__(self, *, ema: float, cap: float, every: int) -> None:
        super().__init__()
        self.ema, self.every = check_ema(self.name, ema), check_every(self.name, every)
        self.cap = check_number(f"{self.name} cap", cap, low=1)

    def initialize(self, names: Sequence[str]) -> None:
        """Create the running means and their largest values."""
        self.mean = RunningMean(len(names), self.ema)
        self.register_buffer("peak", torch.zeros(len(names)))

    def inverse_norms(self, gramian: Tensor) -> Tensor:
        """Return the factors that make each gradient norm equal to L1's, (m,); 0 for a term without a gradient yet."""
        norms = gradient_norms(gramian)
        mean, is_known = self.mean(norms, norms > 0)
        self.peak.copy_(torch.maximum(self.peak, mean))
        bounded = torch.maximum(mean, self.peak / self.cap)
        return torch.where(is_known, 1 / torch.where(is_known, bounded, 1.0), 0.0)


@final
class Share(NormalizedBalance):
    r"""Balancer that gives each term the requested share of the gradient.

    .. math:: w_i = \frac{a_i}{\sum_j |a_j|} \cdot \frac{1}{\max(\bar g_i, \hat g_i / c)}

    with the requested weight :math:`a_i`, the running mean :math:`\bar g_i` of the term's gradient norm at the output,
    its largest value so far :math:`\hat g_i`, and the cap :math:`c`. The norms of all terms add up to L1's, so that a
    learning rate has the same effect as for L1. A term that is multiplied by 1000 trains the same network. The norm of
    the summed gradient is smaller where the gradients of the terms have different directions.

    A term without a measured gradient has weight 0.

    References:
        | High Fidelity Neural Audio Compression (Défossez et al., 2022), section 3.4
        | https://arxiv.org/abs/2210.13438

    Args:
        ema: The decay rate of the running mean per measurement, in [0, 1).
        cap: The largest factor by which a term is amplified relative to where its gradient was largest; at least 1.
        every: The number of steps from one measurement to the next.

    Example:
        >>> share = Share()
        >>> share.initialize(["L1", "perceptual"])
        >>> share(torch.tensor([0.7, 0.3]), torch.ones(2), torch.tensor([[1.0, 0.0], [0.0, 100.0]]))
        tensor([0.7000, 0.0300])
    """

    def __init__(self, *, ema: float = 0.99, cap: float = 100.0, every: int = 10) -> None:
        super().__init__(ema=ema, cap=cap, every=every)

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights that give each term its share, (m,)."""
        total = weights.abs().sum()
        return weights / torch.where(total > 0, total, 1.0) * self.inverse_norms(gramian)

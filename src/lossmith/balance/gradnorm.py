"""GradNorm: a larger share of the gradient for terms that train slowly."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_number
from lossmith.balance.base import RunningMean
from lossmith.balance.share import NormalizedBalance

__all__ = ["GradNorm"]


@final
class GradNorm(NormalizedBalance):
    r"""Balancer that gives a term a larger share of the gradient, the less its value has fallen since the start.

    .. math:: w_i = \frac{a_i r_i^\alpha}{\sum_j |a_j| r_j^\alpha} \cdot \frac{1}{\bar g_i}, \quad
        r_i = \frac{\bar L_i / L_i(0)}{\operatorname{mean}_j \bar L_j / L_j(0)}

    with the running means :math:`\bar g_i` of the gradient norms as in :class:`Share`. The paper moves the :math:`w_i`
    by gradient steps towards the point where :math:`w_i g_i` is proportional to :math:`r_i^\alpha`; here they are set
    to this point, and gradients are measured at the output instead of a shared layer. With alpha = 0, this is
    :class:`Share`. GradNorm equalises the training rates of the terms, which is not the aim of a loss that combines
    accuracy with a small perceptual term.

    References:
        | GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks (Chen et al., 2018)
        | https://arxiv.org/abs/1711.02257

    Args:
        alpha: The strength with which slow terms are favoured; at least 0.
        ema: The decay rate of the running means per measurement, in [0, 1).
        cap: The largest factor by which a term is amplified relative to where its gradient was largest; at least 1.
        every: The number of steps from one measurement to the next.

    Example:
        >>> gradnorm = GradNorm(alpha=1)
        >>> gradnorm.initialize(["fast", "slow"])
        >>> _ = gradnorm(torch.ones(2), torch.tensor([1.0, 1.0]), torch.eye(2))
        >>> gradnorm(torch.ones(2), torch.tensor([0.1, 1.0]), torch.eye(2)).round(decimals=2)
        tensor([0.3500, 0.6500])
    """

    first: Tensor
    values: RunningMean

    def __init__(self, *, alpha: float = 1.5, ema: float = 0.99, cap: float = 100.0, every: int = 10) -> None:
        super().__init__(ema=ema, cap=cap, every=every)
        self.alpha = check_number(f"{self.name} alpha", alpha, low=0)

    def initialize(self, names: Sequence[str]) -> None:
        """Create the running means and the buffer of the first values."""
        super().initialize(names)
        self.values = RunningMean(len(names), self.ema)
        self.register_buffer("first", torch.zeros(len(names)))

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights that equalise the training rates, (m,)."""
        is_active = weights != 0
        self.first.copy_(torch.where(is_active & (self.first == 0), values, self.first))
        mean, _ = self.values(values, is_active)
        rate = mean / torch.where(self.first == 0, 1.0, self.first)
        rate = torch.where(rate > 0, rate, 1.0)  # a value that has changed its sign has no rate
        mean_rate = (rate * is_active).sum() / is_active.sum().clamp_min(1)
        requested = weights * (rate / torch.where(mean_rate > 0, mean_rate, 1.0)) ** self.alpha
        total = requested.abs().sum()
        return requested / torch.where(total > 0, total, 1.0) * self.inverse_norms(gramian)

"""GradNorm: terms that lag behind get more of the gradient."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.balance.base import Mean, limit
from lossmith.balance.share import Scale

__all__ = ["GradNorm"]


@final
class GradNorm(Scale):
    r"""Gives a term more of the gradient, the less it has fallen since the start.

    .. math:: w_i = \frac{a_i r_i^\alpha}{\sum_j |a_j| r_j^\alpha} \cdot \frac{1}{\bar g_i}, \quad
        r_i = \frac{\bar L_i / L_i(0)}{\operatorname{mean}_j \bar L_j / L_j(0)}

    with the norms :math:`\bar g_i` as :class:`Share` takes them. The paper moves the :math:`w_i` by steps of their own
    towards the point where :math:`w_i g_i` is in proportion to :math:`r_i^\alpha`; we put them there, and measure at
    the output instead of a shared layer. With alpha = 0 it is :class:`Share`. It evens out how fast terms train, which
    is not what somebody wants who asks for accuracy with a little realism.

    References:
        | GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks (Chen et al., 2018)
        | https://arxiv.org/abs/1711.02257

    Args:
        alpha: How strongly terms that lag are favoured, at least 0.
        ema: What the means keep a measurement.
        cap: How many times stronger a term may be made than it was where its gradient was largest.
        every: Steps from one measurement to the next.

    Example:
        >>> gradnorm = GradNorm(alpha=1)
        >>> gradnorm.begin(["fast", "slow"])
        >>> _ = gradnorm(torch.ones(2), torch.tensor([1.0, 1.0]), torch.eye(2))
        >>> gradnorm(torch.ones(2), torch.tensor([0.1, 1.0]), torch.eye(2)).round(decimals=2)
        tensor([0.3500, 0.6500])
    """

    first: Tensor
    values: Mean

    def __init__(self, *, alpha: float = 1.5, ema: float = 0.99, cap: float = 100.0, every: int = 10) -> None:
        super().__init__(ema=ema, cap=cap, every=every)
        self.alpha = limit(self.kind, "alpha", alpha, 0)

    def begin(self, names: Sequence[str]) -> None:
        """Makes the running means, and room for the first values."""
        super().begin(names)
        self.values = Mean(len(names), self.ema)
        self.register_buffer("first", torch.zeros(len(names)))

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """The weights that let the terms train at one rate (m,)."""
        on = weights != 0
        self.first.copy_(torch.where(on & (self.first == 0), values, self.first))
        mean, _ = self.values(values, on)
        rate = mean / torch.where(self.first == 0, 1.0, self.first)
        rate = torch.where(rate > 0, rate, 1.0)  # a value that changed its sign has no rate
        mean_rate = (rate * on).sum() / on.sum().clamp_min(1)
        asked = weights * (rate / torch.where(mean_rate > 0, mean_rate, 1.0)) ** self.alpha
        total = asked.abs().sum()
        return asked / torch.where(total > 0, total, 1.0) * self.scales(gramian)

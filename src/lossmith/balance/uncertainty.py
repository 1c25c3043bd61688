"""Uncertainty weighting: equal values of all terms."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.balance.base import Balance, RunningMean, check_ema

__all__ = ["Uncertainty"]


@final
class Uncertainty(Balance):
    r"""Balancer that weights each term by the inverse of its running mean, as homoscedastic uncertainty does.

    .. math:: w_i = a_i \frac{1}{2} e^{-s_i}, \quad
        s_i = \arg\min_s \left( \tfrac{1}{2} e^{-s} \bar L_i + \tfrac{s}{2} \right) = \log \bar L_i

    The paper learns the :math:`s_i` beside the network. For given values of the terms the optimum has a closed form,
    which is used here with the running mean :math:`\bar L_i` of each term: there is no parameter to learn and no
    learning rate to choose. The weighted values are proportional to the requested weights :math:`a_i`, whatever the
    gradients. A term whose mean is not positive keeps the requested weight.

    References:
        | Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics (Kendall et al., 2018)
        | https://arxiv.org/abs/1705.07115

    Args:
        ema: The decay rate of the running means per step, in [0, 1).

    Example:
        >>> uncertainty = Uncertainty()
        >>> uncertainty.initialize(["L1", "perceptual"])
        >>> uncertainty(torch.ones(2), torch.tensor([0.05, 5.0]), torch.zeros(2, 2))
        tensor([10.0000,  0.1000])
    """

    needs_gradients = False
    every = 1
    mean: RunningMean

    def __init__(self, *, ema: float = 0.99) -> None:
        super().__init__()
        self.ema = check_ema(self.name, ema)

    def initialize(self, names: Sequence[str]) -> None:
        """Create the running means."""
        self.mean = RunningMean(len(names), self.ema)

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights that make the values of the terms proportional to the requested weights, (m,)."""
        mean, _ = self.mean(values, values.isfinite() & (weights != 0))
        return torch.where(mean > 0, weights / (2 * torch.where(mean > 0, mean, 1.0)), weights)

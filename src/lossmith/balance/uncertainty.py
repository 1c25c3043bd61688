"""Uncertainty weighting: terms are made equally large."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.balance.base import Balance, Mean, decay

__all__ = ["Uncertainty"]


@final
class Uncertainty(Balance):
    r"""Weighs each term by its own size, as if its noise were to be estimated.

    .. math:: w_i = a_i \frac{1}{2} e^{-s_i}, \quad
        s_i = \arg\min_s \left( \tfrac{1}{2} e^{-s} \bar L_i + \tfrac{s}{2} \right) = \log \bar L_i

    The paper learns the :math:`s_i` beside the network. For given terms their optimum is closed, and we take it, with
    the running mean :math:`\bar L_i` of each term: nothing is to be learnt, and no learning rate to be chosen. Terms
    come to values in the proportion of the asked weights :math:`a_i`, whatever their gradients are. A term whose mean
    is not positive keeps the weight that was asked for.

    References:
        | Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics (Kendall et al., 2018)
        | https://arxiv.org/abs/1705.07115

    Args:
        ema: What the mean keeps a step.

    Example:
        >>> uncertainty = Uncertainty()
        >>> uncertainty.begin(["L1", "perceptual"])
        >>> uncertainty(torch.ones(2), torch.tensor([0.05, 5.0]), torch.zeros(2, 2))
        tensor([10.0000,  0.1000])
    """

    gradients = False
    every = 1
    mean: Mean

    def __init__(self, *, ema: float = 0.99) -> None:
        super().__init__()
        self.ema = decay(self.kind, ema)

    def begin(self, names: Sequence[str]) -> None:
        """Makes the running means."""
        self.mean = Mean(len(names), self.ema)

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """The weights that make the terms equally large (m,)."""
        mean, _ = self.mean(values, values.isfinite() & (weights != 0))
        return torch.where(mean > 0, weights / (2 * torch.where(mean > 0, mean, 1.0)), weights)

"""Shares of the gradient that are kept, as EnCodec's balancer keeps them."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.balance.base import Balance, Mean, decay, limit, norms_of, steps

__all__ = ["Scale", "Share"]


class Scale(Balance):
    """What balances have in common that divide each term by the running mean of its gradient's norm.

    A term that is nearly solved would be amplified without end. So the mean counts for no less than its largest value
    so far divided by `cap`: from there on the term fades.

    Args:
        ema: What the mean keeps a measurement.
        cap: How many times stronger a term may be made than it was where its gradient was largest.
        every: Steps from one measurement to the next.
    """

    relative = True
    mean: Mean
    peak: Tensor

    def __init__(self, *, ema: float, cap: float, every: int) -> None:
        super().__init__()
        who = self.kind
        self.ema, self.cap, self.every = decay(who, ema), limit(who, "cap", cap, 1), steps(who, every)

    def begin(self, names: Sequence[str]) -> None:
        """Makes the running means and the largest ones."""
        self.mean = Mean(len(names), self.ema)
        self.register_buffer("peak", torch.zeros(len(names)))

    def scales(self, gramian: Tensor) -> Tensor:
        """What makes each term's gradient as large as L1's (m,); 0 for a term of which none has been seen yet."""
        norms = norms_of(gramian)
        mean, known = self.mean(norms, norms > 0)
        self.peak.copy_(torch.maximum(self.peak, mean))
        least = torch.maximum(mean, self.peak / self.cap)
        return torch.where(known, 1 / torch.where(known, least, 1.0), 0.0)


@final
class Share(Scale):
    r"""Keeps for each term the share of the gradient that was asked for.

    .. math:: w_i = \frac{a_i}{\sum_j |a_j|} \cdot \frac{1}{\max(\bar g_i, \hat g_i / c)}

    with the asked weight :math:`a_i`, the running mean :math:`\bar g_i` of the norm of the term's gradient at the
    output, its largest value so far :math:`\hat g_i`, and the cap :math:`c`. The norms of all terms together come to
    L1's, so that a learning rate means what it means for L1; a term that is multiplied by 1000 trains the same network.
    The norm of the sum is less, as far as the terms pull in different directions.

    A term whose gradient has not been seen yet has no weight.

    References:
        | High Fidelity Neural Audio Compression (Défossez et al., 2022), section 3.4
        | https://arxiv.org/abs/2210.13438

    Args:
        ema: What the mean keeps a measurement.
        cap: How many times stronger a term may be made than it was where its gradient was largest.
        every: Steps from one measurement to the next.

    Example:
        >>> share = Share()
        >>> share.begin(["L1", "perceptual"])
        >>> share(torch.tensor([0.7, 0.3]), torch.ones(2), torch.tensor([[1.0, 0.0], [0.0, 100.0]]))
        tensor([0.7000, 0.0300])
    """

    def __init__(self, *, ema: float = 0.99, cap: float = 100.0, every: int = 10) -> None:
        super().__init__(ema=ema, cap=cap, every=every)

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """The weights that give each term its share (m,)."""
        total = weights.abs().sum()
        return weights / torch.where(total > 0, total, 1.0) * self.scales(gramian)

"""VQGAN's adaptive weight: one term follows the others."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.balance.base import Balance, Mean, decay, limit, norms_of, steps

__all__ = ["Adaptive"]


@final
class Adaptive(Balance):
    r"""Weighs one term, an adversarial one as a rule, by how strongly the others pull together.

    .. math:: w_k = a_k \min\left(c, \frac{\bar g_{\text{others}}}{\bar g_k}\right), \quad
        g_{\text{others}} = \Big\| \sum_{i \ne k} a_i \nabla L_i \Big\|

    so that with the asked weight :math:`a_k = 0.8` the term's gradient is 0.8 of the others'. These keep their weights.
    The paper takes the gradients at the decoder's last layer, at every step anew, adds 1e-4 to the denominator and
    stops at c = 1e4; we take them at the output, as running means, and need the stop alone.

    References:
        | Taming Transformers for High-Resolution Image Synthesis (Esser et al., 2021), section 3.1
        | https://arxiv.org/abs/2012.09841

    Args:
        term: The name of the term; None for the adversarial one, or the last if there is none or more than one.
        ema: What the means keep a measurement.
        cap: The largest factor :math:`c`.
        every: Steps from one measurement to the next.

    Example:
        >>> adaptive = Adaptive("Adversarial")
        >>> adaptive.begin(["L1", "Adversarial"])
        >>> adaptive(torch.tensor([1.0, 0.8]), torch.ones(2), torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([1.0000, 0.4000])
    """

    mean: Mean
    follows: Tensor

    def __init__(self, term: str | None = None, *, ema: float = 0.99, cap: float = 1e4, every: int = 10) -> None:
        super().__init__()
        self.term, self.ema = term, decay(self.kind, ema)
        self.cap, self.every = limit(self.kind, "cap", cap, 0), steps(self.kind, every)

    def begin(self, names: Sequence[str]) -> None:
        """Finds the term.

        Raises:
            ValueError: There is none of this name, or no other.
        """
        if self.term is not None and self.term not in names:
            raise ValueError(f"adaptive follows the term {self.term!r}; the loss has {', '.join(names)}.")
        if len(names) < 2:
            raise ValueError(f"adaptive lets one term follow the others; the loss has {', '.join(names)} alone.")
        critics = [name for name in names if name.startswith("Adversarial")]
        followed = self.term or (critics[0] if len(critics) == 1 else names[-1])
        place = list(names).index(followed)
        self.mean = Mean(2, self.ema)
        follows = torch.tensor([i == place for i in range(len(names))])
        self.register_buffer("follows", follows, persistent=False)  # the formula says it

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """The weights, of which one has followed (m,)."""
        others = torch.where(self.follows, 0.0, weights)
        pull = (others * (gramian * others).sum(dim=1)).sum().clamp_min(0).sqrt()
        own = (norms_of(gramian) * self.follows).sum()
        both = torch.stack([pull, own])
        mean, known = self.mean(both, both > 0)
        factor = torch.where(known.all(), mean[0] / torch.where(known[1], mean[1], 1.0), 0.0).clamp_max(self.cap)
        return torch.where(self.follows, weights * factor, weights)

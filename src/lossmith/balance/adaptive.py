"""VQGAN's adaptive weight: the gradient norm of one term follows that of the others."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_number
from lossmith.balance.base import Balance, RunningMean, check_ema, check_every, gradient_norms

__all__ = ["Adaptive"]


@final
class Adaptive(Balance):
    r"""Balancer that scales one term, usually an adversarial one, by the gradient norm of the others.

    .. math:: w_k = a_k \min\left(c, \frac{\bar g_{\text{others}}}{\bar g_k}\right), \quad
        g_{\text{others}} = \Big\| \sum_{i \ne k} a_i \nabla L_i \Big\|

    With the requested weight :math:`a_k = 0.8`, the gradient norm of the term is 0.8 of the others'. The other terms
    keep their weights. The paper measures the gradients at the decoder's last layer, at every step, adds 1e-4 to the
    denominator and clamps at c = 1e4; here they are running means at the output, which need only the clamp.

    References:
        | Taming Transformers for High-Resolution Image Synthesis (Esser et al., 2021), section 3.1
        | https://arxiv.org/abs/2012.09841

    Args:
        term: The name of the term; None for the adversarial one, or for the last one if there is no adversarial term or
            more than one.
        ema: The decay rate of the running means per measurement, in [0, 1).
        cap: The largest factor :math:`c`.
        every: The number of steps from one measurement to the next.

    Example:
        >>> adaptive = Adaptive("Adversarial")
        >>> adaptive.initialize(["L1", "Adversarial"])
        >>> adaptive(torch.tensor([1.0, 0.8]), torch.ones(2), torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([1.0000, 0.4000])
    """

    mean: RunningMean
    is_adapted: Tensor

    def __init__(self, term: str | None = None, *, ema: float = 0.99, cap: float = 1e4, every: int = 10) -> None:
        super().__init__()
        self.term, self.ema, self.every = term, check_ema(self.name, ema), check_every(self.name, every)
        self.cap = check_number(f"{self.name} cap", cap, low=0)

    def initialize(self, names: Sequence[str]) -> None:
        """Create the running means and find the term.

        Raises:
            ValueError: If there is no term of this name, or no other term.
        """
        if self.term is not None and self.term not in names:
            raise ValueError(f"adaptive needs a term named {self.term!r}; the loss has {', '.join(names)}.")
        if len(names) < 2:
            raise ValueError(f"adaptive needs at least two terms; the loss has only {', '.join(names)}.")
        adversarial = [name for name in names if name.startswith("Adversarial")]
        adapted = self.term or (adversarial[0] if len(adversarial) == 1 else names[-1])
        index = list(names).index(adapted)
        self.mean = RunningMean(2, self.ema)
        is_adapted = torch.tensor([i == index for i in range(len(names))])
        self.register_buffer("is_adapted", is_adapted, persistent=False)  # determined by the formula

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights, one of which is adapted, (m,)."""
        others = torch.where(self.is_adapted, 0.0, weights)
        others_norm = (others * (gramian * others).sum(dim=1)).sum().clamp_min(0).sqrt()
        own_norm = (gradient_norms(gramian) * self.is_adapted).sum()
        norms = torch.stack([others_norm, own_norm])
        mean, is_known = self.mean(norms, norms > 0)
        ratio = mean[0] / torch.where(is_known[1], mean[1], 1.0)
        factor = torch.where(is_known.all(), ratio, 0.0).clamp_max(self.cap)
        return torch.where(self.is_adapted, weights * factor, weights)

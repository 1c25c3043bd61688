"""Contrast between the positions of one image."""

import math
from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_integer
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.losses._similarity import Temperature, normalize_vectors

__all__ = ["PatchNCE"]


@final
class PatchNCE(Distance):
    r"""PatchNCE: each position of the prediction is to be closer to its position in the target than to others.

    .. math:: \frac{1}{P} \sum_p -\log \frac{e^{s(x_p, y_p) / \tau}}{\sum_{q \in G(p)} e^{s(x_p, y_q) / \tau}}

    with :math:`x_p` the features at one position, and :math:`G(p)` the group of positions to which :math:`p` belongs.
    The paper samples 256 positions per image and step; here a fixed permutation divides all positions into groups of at
    most this size, so that each position is a query once and the value is deterministic. The paper's trained head of
    two layers is not included: behind a lens, the features are compared as they are. Memory grows with P times the
    group size.

    References:
        | Contrastive Learning for Unpaired Image-to-Image Translation (Park et al., 2020)
        | https://arxiv.org/abs/2007.15651

    Args:
        patches: The maximal number of positions in a group, at least 2.
        temperature: The temperature of the softmax, in units of the cosine; positive.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> x = torch.eye(2).view(1, 2, 1, 2)  # two positions with orthogonal features
        >>> PatchNCE(temperature=1.0)(x, x)
        tensor(0.3133)
    """

    citation_keys = ("park2020",)
    default_gate_logsnr = 1.0

    def __init__(self, patches: int = 256, *, temperature: float = 0.07) -> None:
        super().__init__()
        self.patches = check_integer("PatchNCE patches", patches, low=2)
        self.temperature = Temperature("PatchNCE", temperature, False)

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of each image, (N,)."""
        n, _, height, width = pred.shape
        positions = height * width
        groups = -(-positions // self.patches)
        size = -(-positions // groups)
        slots = torch.arange(groups * size, device=pred.device).view(size, groups).T.reshape(-1)
        is_used = (slots < positions).view(groups, size)  # the last slots of some groups are empty
        order = _fixed_permutation(positions, pred.device)[slots.clamp_max(positions - 1)]
        x, y = (
            normalize_vectors(maps.flatten(2).transpose(1, 2))[:, order].view(n, groups, size, -1)
            for maps in (pred, target)
        )
        logits = self.temperature() * torch.einsum("ngpc,ngqc->ngpq", x, y)
        positive_logits = logits.diagonal(dim1=2, dim2=3)
        losses = logits.masked_fill(~is_used[:, None, :], -math.inf).logsumexp(dim=3) - positive_logits
        total: Tensor = (losses * is_used).sum(dim=(1, 2))
        return total / positions

    def __repr__(self) -> str:
        patches = [] if self.patches == 256 else [self.patches]
        temperature = None if self.temperature.value == 0.07 else self.temperature.value
        return repr_of(self, *patches, temperature=temperature)


def _fixed_permutation(count: int, device: torch.device) -> Tensor:
    """Return the same pseudo-random permutation of the numbers below a count on every device."""
    # arithmetic instead of a generator runs on the device; this is murmur3's finaliser, which is a bijection
    key = torch.arange(count, device=device)
    for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
        key = ((key ^ (key >> shift)) * factor) & 0xFFFFFFFF
    return key.argsort()

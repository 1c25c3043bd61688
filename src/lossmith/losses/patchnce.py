"""Contrast between the places of one picture."""

import math
from typing import final

import torch
from torch import Tensor

from lossmith._repr import spelled
from lossmith.formula.distance import Distance
from lossmith.losses.cosine import Temperature, unit

__all__ = ["PatchNCE"]


@final
class PatchNCE(Distance):
    r"""Each place of the prediction is nearer to the same place of the target than to its other places.

    .. math:: \frac{1}{P} \sum_p -\log \frac{e^{s(x_p, y_p) / \tau}}{\sum_{q \in G(p)} e^{s(x_p, y_q) / \tau}}

    with :math:`x_p` the features of one place, and :math:`G(p)` the group of places that :math:`p` falls into. The
    paper draws 256 places an image and step; here a fixed shuffle deals all of them into groups of at most that many,
    so that each place asks once and the value does not depend on chance. The paper's trained head of two layers is no
    part of it: through a lens it compares the features as they are. Its memory is P times the size of a group.

    References:
        | Contrastive Learning for Unpaired Image-to-Image Translation (Park et al., 2020)
        | https://arxiv.org/abs/2007.15651

    Args:
        patches: The most places that are compared with each other.
        temperature: How soft the comparison is, in units of the cosine.

    Raises:
        ValueError: A bad argument.

    Example:
        >>> x = torch.eye(2).view(1, 2, 1, 2)  # two places with orthogonal features
        >>> PatchNCE(temperature=1.0)(x, x)
        tensor(0.3133)
    """

    papers = ("park2020",)
    opens = 1.0

    def __init__(self, patches: int = 256, *, temperature: float = 0.07) -> None:
        super().__init__()
        if isinstance(patches, bool) or not isinstance(patches, int) or patches < 2:
            raise ValueError(f"PatchNCE wants at least 2 patches; got {patches!r}.")
        self.temperature = Temperature("PatchNCE", temperature, False)
        self.patches = patches

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """How hard it is for the places of each image to find themselves, (N,)."""
        n, _, height, width = pred.shape
        places = height * width
        groups = -(-places // self.patches)
        size = -(-places // groups)
        dealt = shuffled(places, pred.device)
        seats = torch.arange(groups * size, device=pred.device).view(size, groups).T.reshape(-1)
        taken = (seats < places).view(groups, size)  # the last seats of some groups stay empty
        order = dealt[seats.clamp_max(places - 1)]
        x, y = (unit(v.flatten(2).transpose(1, 2))[:, order].view(n, groups, size, -1) for v in (pred, target))
        logits = self.temperature() * torch.einsum("ngpc,ngqc->ngpq", x, y)
        own = logits.diagonal(dim1=2, dim2=3)
        hardness = logits.masked_fill(~taken[:, None, :], -math.inf).logsumexp(dim=3) - own
        asked: Tensor = (hardness * taken).sum(dim=(1, 2))
        return asked / places

    def __repr__(self) -> str:
        patches = [] if self.patches == 256 else [self.patches]
        temperature = None if self.temperature.start == 0.07 else self.temperature.start
        return spelled(self, *patches, temperature=temperature)


def shuffled(count: int, device: torch.device) -> Tensor:
    """The numbers below a count in an order without pattern, always the same one."""
    # arithmetic and no generator, so that it is made on the device; murmur3's last step, which repeats no number
    key = torch.arange(count, device=device)
    for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
        key = ((key ^ (key >> shift)) * factor) & 0xFFFFFFFF
    return key.argsort()

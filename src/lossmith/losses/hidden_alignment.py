"""Hidden features: losses on what a network knows in its middle."""

import math
from typing import final

import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import spelled
from lossmith.distributed import gathered
from lossmith.formula.distance import Distance
from lossmith.losses.contrastive import kin
from lossmith.losses.cosine import check_switches, unit

__all__ = ["Dispersive", "HiddenAlignment"]


@final
class Dispersive(Distance):
    r"""The hidden features of the pictures of a batch lie apart: a contrast without positives.

    .. math:: \log \frac{1}{N} \sum_j e^{-\lVert h_i - h_j \rVert^2 / (D \tau)}

    on the view ``hidden``, (N, ...), over all pictures, itself included. It lies between :math:`-\log N` and 0. It does
    not look at the picture that is made, and so leaves what is right there as it is. The view ``groups``, (N,), counts
    where ``.on()`` names it: pictures of one number are not driven apart.

    References:
        | Diffuse and Disperse: Image Generation with Representation Regularization (Wang and He, 2025)
        | https://arxiv.org/abs/2506.09027

    Args:
        temperature: What a squared distance is compared with, more than 0.
        gather: Whether the batches of all processes, which must be of one size, are one batch.

    Raises:
        ValueError: A bad argument, or at the call numbers that do not fit.

    Example:
        >>> import torch
        >>> Dispersive(temperature=1.0)(hidden=torch.tensor([[0.0, 0.0], [1.0, 1.0]]))  # log((1 + 1/e) / 2)
        tensor(-0.3799)
    """

    papers = ("wanghe2025",)
    bounds = (-math.inf, 0.0)
    mean_preserving = True
    mixes = True
    pictures = False

    def __init__(self, temperature: float = 0.5, *, gather: bool = False) -> None:
        super().__init__()
        check_switches("Dispersive", gather=gather)
        if isinstance(temperature, bool) or not 0 < temperature < math.inf:
            raise ValueError(f"Dispersive wants a temperature > 0; got {temperature!r}.")
        self.temperature, self.gather = temperature, gather

    def measure(self, hidden: Tensor, groups: Tensor | None = None) -> Tensor:
        """How near each picture's features are to those of others, (N,)."""
        if groups is not None and tuple(groups.shape) != (len(hidden),):
            raise ValueError(f"{self!r} wants groups ({len(hidden)},), a number an image; got {tuple(groups.shape)}.")
        flat = hidden.flatten(1)
        everyone = gathered(flat) if self.gather else flat
        squares, others = flat.square().sum(dim=1), everyone.square().sum(dim=1)
        apart = (squares[:, None] + others - 2 * flat @ everyone.T).clamp_min(0) / flat.shape[1]
        own, alike = kin(len(flat), groups, flat.device, gather=self.gather)
        logits = (-apart / self.temperature).masked_fill(own, 0).masked_fill(alike & ~own, -math.inf)
        return logits.logsumexp(dim=1) - (logits > -math.inf).to(logits).sum(dim=1).log()

    def __repr__(self) -> str:
        return spelled(self, *([] if self.temperature == 0.5 else [self.temperature]), gather=self.gather or None)


@final
class HiddenAlignment(Distance):
    r"""Two places are as alike in a network's hidden features as they are to a frozen network that sees the picture.

    .. math:: \overline{(s(h_p, h_q) - s(\phi_p, \phi_q))^2}

    with the cosine :math:`s` between any two places :math:`p, q` of one picture. The lens is the frozen network
    :math:`\phi`, on ``target``; no lens looks at ``hidden``, (N, C, h, w), to whose size the features are averaged, or
    repeated. REPA compares the features themselves, and trains a head for it; here their relations are compared, which
    needs neither a head nor equal widths.

    References:
        | Representation Alignment for Generation (Yu et al., 2025), https://arxiv.org/abs/2410.06940
        | Reconstruction vs. Generation: Taming Optimization Dilemma in Latent Diffusion Models (Yao et al., 2025), for
          the relations

    Raises:
        ValueError: At the call, features that are no maps, or maps of other proportions.

    Example:
        >>> import torch
        >>> hidden = torch.eye(2).view(1, 2, 1, 2)  # two places that have nothing in common
        >>> HiddenAlignment()(target=torch.ones(1, 3, 1, 2), hidden=hidden)  # and look the same
        tensor(0.5000)
    """

    papers = ("yu2025",)
    bare = frozenset({"hidden"})
    bounds = (0.0, 4.0)
    mean_preserving = True

    def measure(self, target: Tensor, hidden: Tensor) -> Tensor:
        """How differently alike the places of each picture are, (N,)."""
        if target.dim() != 4 or hidden.dim() != 4 or len(target) != len(hidden):
            raise ValueError(f"{self!r} wants maps (N, C, H, W); got {tuple(target.shape)} and {tuple(hidden.shape)}.")
        size = (hidden.shape[-2], hidden.shape[-1])
        high, wide = target.shape[-2], target.shape[-1]
        if abs(size[0] * wide - size[1] * high) >= max(high, wide):  # a whole place too many on one side
            raise ValueError(
                f"{self!r} wants hidden maps as tall and wide as target's are; got {size}, {(high, wide)}."
            )
        teacher = F.adaptive_avg_pool2d(target.detach(), size)
        mine, theirs = (unit(each.flatten(2).transpose(1, 2)) for each in (hidden, teacher))
        return (mine @ mine.transpose(1, 2) - theirs @ theirs.transpose(1, 2)).square().flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        return spelled(self)

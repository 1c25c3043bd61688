"""Losses on the hidden features of the network that is trained."""

import math
from collections.abc import Mapping
from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_bool, check_number
from lossmith._repr import repr_of
from lossmith.distributed import all_gather_with_gradient
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput
from lossmith.losses._info_nce import positive_mask
from lossmith.losses._similarity import normalize_vectors

__all__ = ["Dispersive", "HiddenAlignment"]

_HIDDEN = ExampleInput("normal", (4, 6, 6))


@final
class Dispersive(Distance):
    r"""Dispersive loss: hidden features of different images are pushed apart, a contrastive loss without positives.

    .. math:: \log \frac{1}{N} \sum_j e^{-\lVert h_i - h_j \rVert^2 / (D \tau)}

    on the input ``hidden``, (N, ...), over all images including the own one. The value lies between :math:`-\log N` and
    0. The loss does not depend on the output image and does not bias it. The optional input ``groups``, (N,), is read
    if ``.on()`` names it: images of one group are not pushed apart.

    References:
        | Diffuse and Disperse: Image Generation with Representation Regularization (Wang and He, 2025)
        | https://arxiv.org/abs/2506.09027

    Args:
        temperature: The scale of the squared distances, positive.
        gather: Whether the batches of all processes, which must have one size, form one batch.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shape of `groups` does not match.

    Example:
        >>> import torch
        >>> Dispersive(temperature=1.0)(hidden=torch.tensor([[0.0, 0.0], [1.0, 1.0]]))  # log((1 + 1/e) / 2)
        tensor(-0.3799)
    """

    citation_keys = ("wanghe2025",)
    value_range = (-math.inf, 0.0)
    is_mean_seeking = True
    is_batch_dependent = True
    reads_images = False
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "hidden": _HIDDEN,
        "groups": ExampleInput("uniform", (), requires_grad=False),
    }

    def __init__(self, temperature: float = 0.5, *, gather: bool = False) -> None:
        super().__init__()
        check_number("Dispersive temperature", temperature, low=0, open_low=True)
        self.temperature, self.gather = temperature, check_bool("Dispersive gather", gather)

    def measure(self, hidden: Tensor, groups: Tensor | None = None) -> Tensor:
        """Compute the loss of each image, (N,)."""
        if groups is not None and tuple(groups.shape) != (len(hidden),):
            raise ValueError(f"{self!r} needs groups ({len(hidden)},), a number per image; got {tuple(groups.shape)}.")
        own_features = hidden.flatten(1)
        features = all_gather_with_gradient(own_features) if self.gather else own_features
        own_squares, squares = own_features.square().sum(dim=1), features.square().sum(dim=1)
        distances = (own_squares[:, None] + squares - 2 * own_features @ features.T).clamp_min(0)
        distances = distances / own_features.shape[1]
        own, same_group = positive_mask(len(own_features), groups, own_features.device, gather=self.gather)
        logits = (-distances / self.temperature).masked_fill(own, 0).masked_fill(same_group & ~own, -math.inf)
        return logits.logsumexp(dim=1) - (logits > -math.inf).to(logits).sum(dim=1).log()

    def __repr__(self) -> str:
        return repr_of(self, *([] if self.temperature == 0.5 else [self.temperature]), gather=self.gather or None)


@final
class HiddenAlignment(Distance):
    r"""Relational alignment: similarities between positions of hidden features match those of a frozen network.

    .. math:: \overline{(s(h_p, h_q) - s(\phi_p, \phi_q))^2}

    with the cosine similarity :math:`s` of any two positions :math:`p, q` of one image. The lens is the frozen network
    :math:`\phi`, applied to ``target``; no lens is applied to ``hidden``, (N, C, h, w), to whose size the features are
    averaged, or repeated. REPA compares the features themselves through a trained head; the similarities need neither a
    head nor equal numbers of channels.

    References:
        | Representation Alignment for Generation (Yu et al., 2025), https://arxiv.org/abs/2410.06940
        | Reconstruction vs. Generation: Taming Optimization Dilemma in Latent Diffusion Models (Yao et al., 2025), for
          the relations

    Raises:
        ValueError: At the call, if an input is not a map, or the aspect ratios differ.

    Example:
        >>> import torch
        >>> hidden = torch.eye(2).view(1, 2, 1, 2)  # two positions with orthogonal features
        >>> HiddenAlignment()(target=torch.ones(1, 3, 1, 2), hidden=hidden)  # and equal colours
        tensor(0.5000)
    """

    citation_keys = ("yu2025",)
    unlensed_inputs = frozenset({"hidden"})
    value_range = (0.0, 4.0)
    is_mean_seeking = True
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {"hidden": _HIDDEN}

    def measure(self, target: Tensor, hidden: Tensor) -> Tensor:
        """Compute the loss of each image, (N,)."""
        if target.dim() != 4 or hidden.dim() != 4 or len(target) != len(hidden):
            raise ValueError(f"{self!r} needs maps (N, C, H, W); got {tuple(target.shape)} and {tuple(hidden.shape)}.")
        size, (height, width) = (hidden.shape[-2], hidden.shape[-1]), target.shape[-2:]
        if abs(size[0] * width - size[1] * height) >= max(height, width):  # more than a position of rounding
            raise ValueError(
                f"{self!r} needs hidden maps with the aspect ratio of target's; got {size}, {(height, width)}."
            )
        teacher = F.adaptive_avg_pool2d(target.detach(), size)
        own, reference = (normalize_vectors(maps.flatten(2).transpose(1, 2)) for maps in (hidden, teacher))
        difference = own @ own.transpose(1, 2) - reference @ reference.transpose(1, 2)
        return difference.square().flatten(1).mean(dim=1)

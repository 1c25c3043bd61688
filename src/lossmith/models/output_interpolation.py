"""Another use of a network with a knob: its answers at both ends of the range, mixed."""

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.formula.weight import WeightValue
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.base import Restorer
from lossmith.models.slider import Slider, to_fraction

__all__ = ["OutputInterpolation"]


@final
class OutputInterpolation(Restorer):
    r"""A network with one knob, turned not by its layers but by mixing its answers at both ends, for twice the work.

    .. math:: y = (1 - a) \, f(x, \lambda_\text{low}) + a \, f(x, \lambda_\text{high}), \quad
        a = \frac{w(\lambda) - w(\lambda_\text{low})}{w(\lambda_\text{high}) - w(\lambda_\text{low})}, \quad
        w(\lambda) = \frac{\lambda}{\lambda_0 + \lambda}

    The answers are mixed as the losses are: what was trained on at :math:`\lambda`, the sum of the terms over the sum
    of their weights, is :math:`(1 - a)` of the loss at the low end and :math:`a` of that at the high one. At the ends
    it is the network itself. It is turned as that is, by a number, one a picture, or a map, which mixes pixel by pixel;
    and has a slider of its own.

    References:
        | A Theory of the Distortion-Perception Tradeoff in Wasserstein Space (Freirich et al., 2021)
        | https://arxiv.org/abs/2107.02555

    Args:
        network: The network with its knob; it is used and not copied.
        even: :math:`\lambda_0`, where the terms with the knob weigh as much as those without: 1 for "L1 + lam * TV".

    Raises:
        ValueError: It has no knob, or several, between all of whose ends there is no one line; or `even` is not
            positive.

    Example:
        >>> from lossmith.models import EDSR
        >>> model = OutputInterpolation(ConditionedNetwork(EDSR(2, channels=8, blocks=2), {"lam": (0.03, 30.0)}))
        >>> model(torch.rand(1, 3, 8, 8), lam=0.5).shape
        torch.Size([1, 3, 16, 16])
        >>> round(model.share(1.0), 3)
        0.502
    """

    def __init__(self, network: ConditionedNetwork, even: float = 1.0) -> None:
        if not isinstance(network, ConditionedNetwork):
            raise ValueError("OutputInterpolation mixes the answers of one network at the ends of its knob; this one has none.")
        if len(network.knobs) > 1:
            raise ValueError(
                f"Answers are mixed between the ends of one knob; the network has {', '.join(network.knobs)}. Turn it "
                "by its layers."
            )
        if not 0 < even < math.inf:
            raise ValueError(f"OutputInterpolation wants even as a value of the knob above 0; got {even!r}.")
        super().__init__(network.scale, network.receptive_radius, {"name": "ends", "network": network.spec, "even": even})
        self.network, self.even, self.in_channels, self.knobs = network, even, network.in_channels, network.knobs

    @property
    def slider(self) -> Slider | None:
        """What equal moves of the slider are here, once it was measured; kept with the network."""
        return self.network.interpolation_slider

    @slider.setter
    def slider(self, table: Slider | None) -> None:
        self.network.interpolation_slider = table

    def forward(self, image: Tensor, **knobs: WeightValue) -> Tensor:
        """The image restored at both ends, and mixed.

        Raises:
            ValueError: As the network's, for the same reasons.
        """
        ((name, (low, high)),) = self.knobs.items()
        value = low * torch.pow(high / low, (self.network.normalize_knobs(image, knobs) + 1) / 2)
        share = self.share(value)
        assert isinstance(share, Tensor)
        if share.shape[-2:] != (1, 1):
            share = F.interpolate(share, scale_factor=self.scale, mode="bilinear", align_corners=False)
        first, second = (self.network(image, **{name: end}) for end in (low, high))
        return torch.lerp(first, second, share.to(first.dtype))

    def share(self, value: WeightValue) -> WeightValue:
        """How much of the high end's answer there is with the knob at a value, from 0 to 1."""
        ((low, high),) = self.knobs.values()
        first, second, now = (end / (self.even + end) for end in (low, high, value))
        part = (now - first) / (second - first)
        return part.clamp(0, 1) if isinstance(part, Tensor) else min(max(part, 0.0), 1.0)

    def knobs_at(self, t: WeightValue) -> dict[str, WeightValue]:
        """What the knob is at a place of the slider from 0 to 1, as :meth:`ConditionedNetwork.knobs_at` says it, by its own table."""
        return self.knobs_at_fraction(to_fraction(t, self.slider))

    def knobs_at_fraction(self, place: WeightValue) -> dict[str, WeightValue]:
        """What the knob is at a part of its range, in its logarithm."""
        return self.network.knobs_at_fraction(place)

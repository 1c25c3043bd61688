"""Interpolation between the outputs of a conditioned network at the two ends of its knob."""

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.formula.weight import WeightValue
from lossmith.models.base import Restorer
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.slider import Slider, position_to_fraction

__all__ = ["OutputInterpolation"]


@final
class OutputInterpolation(Restorer):
    r"""A network with one knob, used by interpolating its outputs at both ends of the range, at twice the cost.

    .. math:: y = (1 - a) \, f(x, \lambda_\text{low}) + a \, f(x, \lambda_\text{high}), \quad
        a = \frac{w(\lambda) - w(\lambda_\text{low})}{w(\lambda_\text{high}) - w(\lambda_\text{low})}, \quad
        w(\lambda) = \frac{\lambda}{\lambda_0 + \lambda}

    The outputs are combined as the losses are: the loss trained at :math:`\lambda`, which is the sum of the terms
    divided by the sum of their weights, is :math:`(1 - a)` of the loss at the low end plus :math:`a` of the loss at the
    high end. At both ends the result is that of the network. The knob may be a number, one for each image, or a map,
    which interpolates pixel by pixel. The interpolation has its own slider.

    References:
        | A Theory of the Distortion-Perception Tradeoff in Wasserstein Space (Freirich et al., 2021)
        | https://arxiv.org/abs/2107.02555

    Args:
        network: The network with its knob; it is referenced, not copied.
        balanced_value: :math:`\lambda_0`, the knob value at which the terms with the knob have the same weight as the
            others: 1 for "L1 + lam * TV".

    Raises:
        ValueError: The network has no knob or more than one, or `balanced_value` is not positive.

    Example:
        >>> from lossmith.models import EDSR
        >>> model = OutputInterpolation(ConditionedNetwork(EDSR(2, channels=8, blocks=2), {"lam": (0.03, 30.0)}))
        >>> model(torch.rand(1, 3, 8, 8), lam=0.5).shape
        torch.Size([1, 3, 16, 16])
        >>> round(model.interpolation_weight(1.0), 3)
        0.502
    """

    def __init__(self, network: ConditionedNetwork, balanced_value: float = 1.0) -> None:
        if not isinstance(network, ConditionedNetwork):
            raise ValueError(
                f"OutputInterpolation needs a network with a knob, a ConditionedNetwork; got {type(network).__name__}."
            )
        if len(network.knobs) > 1:
            raise ValueError(
                f"OutputInterpolation supports one knob; the network has {', '.join(network.knobs)}. Use the network "
                "itself."
            )
        if not 0 < balanced_value < math.inf:
            raise ValueError(f"OutputInterpolation balanced_value must be positive and finite; got {balanced_value!r}.")
        spec = {"name": "output-interpolation", "network": network.spec, "balanced_value": balanced_value}
        super().__init__(network.scale, network.receptive_radius, spec)
        self.network, self.balanced_value = network, balanced_value
        self.image_channels, self.in_channels = network.image_channels, network.in_channels
        self.knobs = network.knobs

    @property
    def slider(self) -> Slider | None:
        """The calibrated slider of the interpolation, stored with the network; None before calibration."""
        return self.network.interpolation_slider

    @slider.setter
    def slider(self, slider: Slider | None) -> None:
        self.network.interpolation_slider = slider

    def forward(self, image: Tensor, **knobs: WeightValue) -> Tensor:
        """Return the interpolated images; arguments and errors are those of :meth:`ConditionedNetwork.forward`."""
        ((name, (low, high)),) = self.knobs.items()
        value = low * torch.pow(high / low, (self.network.normalize_knobs(image, knobs) + 1) / 2)
        weight = self.interpolation_weight(value)
        assert isinstance(weight, Tensor)
        if weight.shape[-2:] != (1, 1):
            weight = F.interpolate(weight, scale_factor=self.scale, mode="bilinear", align_corners=False)
        first, second = (self.network(image, **{name: end}) for end in (low, high))
        return torch.lerp(first, second, weight.to(first.dtype))

    def interpolation_weight(self, value: WeightValue) -> WeightValue:
        """Return the weight :math:`a` of the output at the high end for a knob value, from 0 to 1."""
        ((low, high),) = self.knobs.values()
        first, second, current = (end / (self.balanced_value + end) for end in (low, high, value))
        weight = (current - first) / (second - first)
        return weight.clamp(0, 1) if isinstance(weight, Tensor) else min(max(weight, 0.0), 1.0)

    def knobs_at(self, t: WeightValue) -> dict[str, WeightValue]:
        """Return the knob value at a slider position from 0 to 1, by the slider of the interpolation.

        Raises:
            ValueError: The position is not in [0, 1].
        """
        return self.knobs_at_fraction(position_to_fraction(t, self.slider))

    def knobs_at_fraction(self, fraction: WeightValue) -> dict[str, WeightValue]:
        """Return the knob value at a fraction of its logarithmic range."""
        return self.network.knobs_at_fraction(fraction)

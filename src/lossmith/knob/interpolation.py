"""Interpolation between two trained networks, of their outputs or of their weights, which a knob is compared with."""

from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_number
from lossmith.formula.loss import Loss
from lossmith.formula.weight import Knob
from lossmith.models import Restorer, build_network

__all__ = ["WeightedEnsemble", "balanced_value", "interpolate_weights"]


@final
class WeightedEnsemble(Restorer):
    r"""The interpolated outputs of two networks, at twice the cost of one.

    .. math:: y = (1 - \alpha) \, f_0(x) + \alpha \, f_1(x)

    For the squared error and a perfect distribution at the other end, the optimal trade-offs lie on this line.

    References:
        | A Theory of the Distortion-Perception Tradeoff in Wasserstein Space (Freirich et al., 2021)
        | https://arxiv.org/abs/2107.02555

    Args:
        first: The network at :math:`\alpha = 0`.
        second: The network at :math:`\alpha = 1`.
        alpha: :math:`\alpha` in [0, 1].

    Raises:
        ValueError: The networks have different scales, or `alpha` is out of range.

    Example:
        >>> from lossmith.models import EDSR
        >>> first, second = EDSR(2, channels=4, blocks=1), EDSR(2, channels=8, blocks=2)
        >>> WeightedEnsemble(first, second, 0.5)(torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 3, 10, 14])
    """

    def __init__(self, first: Restorer, second: Restorer, alpha: float) -> None:
        _check_interpolation(first, second, alpha)
        radii = [first.receptive_radius, second.receptive_radius]
        radius = None if None in radii else max(radius for radius in radii if radius is not None)
        super().__init__(first.scale, radius, {"name": "weighted-ensemble"})
        self.first, self.second, self.alpha = first, second, alpha

    def forward(self, image: Tensor) -> Tensor:
        """Return the interpolated outputs."""
        return torch.lerp(self.first(image), self.second(image), self.alpha)


@torch.no_grad()
def interpolate_weights(first: Restorer, second: Restorer, alpha: float) -> Restorer:
    r"""Return a network with the interpolated weights of two networks.

    .. math:: \theta = (1 - \alpha) \, \theta_0 + \alpha \, \theta_1

    The two networks must have been trained from the same weights; otherwise the result is useless.

    References:
        | Deep Network Interpolation for Continuous Imagery Effect Transition (Wang et al., 2019)
        | https://arxiv.org/abs/1811.10515

    Args:
        first: The network at :math:`\alpha = 0`.
        second: The network at :math:`\alpha = 1`, of the same architecture.
        alpha: :math:`\alpha` in [0, 1].

    Returns:
        A new network in evaluation mode.

    Raises:
        ValueError: The networks have different architectures, or `alpha` is out of range.
    """
    _check_interpolation(first, second, alpha)
    if first.spec != second.spec:
        raise ValueError(
            f"Weights can be interpolated between equal architectures only; got {first.spec} and {second.spec}."
        )
    model = build_network(**{**first.spec, "scale": first.scale})
    assert isinstance(model, Restorer)
    begin, end = first.state_dict(), second.state_dict()
    model.load_state_dict(
        {name: torch.lerp(w, end[name], alpha) if w.is_floating_point() else w for name, w in begin.items()}
    )
    return model.eval()


def balanced_value(loss: Loss, name: str) -> float:
    r"""Return the knob value at which the terms with the knob have the same total weight as the others.

    :class:`lossmith.models.output_interpolation.OutputInterpolation` takes this value.

    Args:
        loss: The loss that the network was trained on.
        name: The name of the knob.

    Raises:
        ValueError: The loss at a knob value is no interpolation of the losses at the ends of the range: the knob is in
            all terms or in none, or more than once in a term.

    Example:
        >>> from lossmith import parse
        >>> balanced_value(parse("2 * L1 + lam * 4 * TV"), "lam")
        0.5
    """
    with_knob = [weight for weight in loss.weights if name in weight.knobs]
    total = sum(abs(weight.final_value) for weight in with_knob)
    others = sum(abs(weight.final_value) for weight in loss.weights if name not in weight.knobs)
    if any(weight.factors.count(Knob(name)) > 1 for weight in with_knob) or not (total and others):
        raise ValueError(
            f"Outputs are interpolated as losses are, which requires terms with the knob '{name}' as a single factor "
            f"and terms without the knob; got {loss!r}. Use the knob's layers."
        )
    return others / total


def _check_interpolation(first: Restorer, second: Restorer, alpha: float) -> None:
    """Raise ValueError if two networks cannot be interpolated."""
    if first.scale != second.scale:
        raise ValueError(f"Interpolated networks must have the same scale; got {first.scale} and {second.scale}.")
    check_number("alpha", alpha, low=0, high=1)

"""What a knob stands beside: two trained networks, mixed in what they answer or in their weights; and its own ends."""

from typing import final

import torch
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.formula.weight import Knob
from lossmith.models import Restorer, build_network

__all__ = ["WeightedEnsemble", "interpolate_weights", "balanced_value"]


@final
class WeightedEnsemble(Restorer):
    r"""The answers of two networks, mixed: the free way to stand between them, for twice the work.

    .. math:: y = (1 - a) \, f_0(x) + a \, f_1(x)

    For the squared error and a perfect distribution on the other end, the best trade-offs lie on this very line.

    References:
        | A Theory of the Distortion-Perception Tradeoff in Wasserstein Space (Freirich et al., 2021)
        | https://arxiv.org/abs/2107.02555

    Args:
        first: What it is at share 0.
        second: What it is at share 1.
        share: a, from 0 to 1.

    Raises:
        ValueError: The networks do not enlarge alike, or the share is beyond.

    Example:
        >>> from lossmith.models import EDSR
        >>> first, second = EDSR(2, channels=4, blocks=1), EDSR(2, channels=8, blocks=2)
        >>> Mixed(first, second, 0.5)(torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 3, 10, 14])
    """

    def __init__(self, first: Restorer, second: Restorer, share: float) -> None:
        check(first, second, share)
        reach = None if first.receptive_radius is None or second.receptive_radius is None else max(first.receptive_radius, second.receptive_radius)
        super().__init__(first.scale, reach, {"name": "mixed"})
        self.first, self.second, self.share = first, second, share

    def forward(self, image: Tensor) -> Tensor:
        """The image restored by both, and mixed."""
        return torch.lerp(self.first(image), self.second(image), self.share)


@torch.no_grad()
def interpolate_weights(first: Restorer, second: Restorer, share: float) -> Restorer:
    r"""One network whose weights are those of two, mixed; for twice the storage until it is made.

    .. math:: \theta = (1 - a) \, \theta_0 + a \, \theta_1

    It wants two networks that began as the same one: between others there is nothing of use.

    References:
        | Deep Network Interpolation for Continuous Imagery Effect Transition (Wang et al., 2019)
        | https://arxiv.org/abs/1811.10515

    Args:
        first: What it is at share 0.
        second: What it is at share 1; of the same architecture.
        share: a, from 0 to 1.

    Returns:
        A new network in eval mode.

    Raises:
        ValueError: The networks are built differently, or the share is beyond.
    """
    check(first, second, share)
    if first.spec != second.spec:
        raise ValueError(f"Weights are mixed of networks that are built alike; got {first.spec} and {second.spec}.")
    model = build_network(**{**first.spec, "scale": first.scale})
    assert isinstance(model, Restorer)
    ends = first.state_dict(), second.state_dict()
    mixed = {k: torch.lerp(v, ends[1][k], share) if v.is_floating_point() else v for k, v in ends[0].items()}
    model.load_state_dict(mixed)
    return model.eval()


def balanced_value(loss: Loss, name: str) -> float:
    r"""Where a knob's terms weigh as much as the others: what :class:`lossmith.models.output_interpolation.OutputInterpolation` mixes by.

    Args:
        loss: What a network was trained on.
        name: The knob.

    Raises:
        ValueError: The sum of the loss at a place is no mix of those at the ends: the knob is in all terms or in none,
            or more than once in one.

    Example:
        >>> from lossmith import parse
        >>> even(parse("2 * L1 + lam * 4 * TV"), "lam")
        0.5
    """
    with_it = [weight for weight in loss.weights if name in weight.knobs]
    turned = sum(abs(weight.final_value) for weight in with_it)
    others = sum(abs(weight.final_value) for weight in loss.weights if name not in weight.knobs)
    if any(weight.factors.count(Knob(name)) > 1 for weight in with_it) or not (turned and others):
        raise ValueError(
            f"Answers are mixed as losses are, which wants terms with the knob '{name}' as one factor, and terms "
            f"without; got {loss!r}. Turn it by its layers."
        )
    return others / turned


def check(first: Restorer, second: Restorer, share: float) -> None:
    """Refuses what cannot be mixed."""
    if first.scale != second.scale:
        raise ValueError(
            f"Networks that are mixed enlarge alike; these enlarge {first.scale} and {second.scale} times."
        )
    if not 0 <= share <= 1:
        raise ValueError(f"A share lies between 0 and 1; got {share!r}.")

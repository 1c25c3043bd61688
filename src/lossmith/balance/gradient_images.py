"""Images of the gradient of each term at the prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from lossmith.formula.loss import Loss

__all__ = ["GradientImage", "gradient_images"]

QUANTILE = 0.99
"""The quantile of the values that is shown black or white, so that single pixels do not flatten the rest."""
MAX_SAMPLES = 2**20
"""Number of values of which the quantile is taken."""
MIN_WHITE = 1e-12


@final
@dataclass(frozen=True)
class GradientImage:
    """The gradient of a term at the prediction.

    Args:
        name: The name of the term.
        gradient: The weighted gradient of each image, (N, C, H, W), in units of L1's; zeros for a term without a path
            to the prediction.
    """

    name: str
    gradient: Tensor

    @property
    def white(self) -> float:
        """The magnitude at the 99th percentile, which stands for white or black."""
        values = self.gradient.abs().nan_to_num(0.0, 0.0).flatten()
        quantile = torch.quantile(values[:: max(1, values.numel() // MAX_SAMPLES)], QUANTILE)
        return max(float(quantile), MIN_WHITE)

    def render(self, index: int = 0, *, white: float | None = None) -> Tensor:
        """Return what gradient descent does to one image, (C, H, W) in [0, 1].

        Mid grey means no change; a pixel that descent makes brighter is lighter, and one that it makes darker is
        darker, in each channel.

        Args:
            index: The number of the image, from 0.
            white: The magnitude shown white or black; None for :attr:`white`. One value for all terms makes them
                comparable.
        """
        return (0.5 - 0.5 * self.gradient[index] / (white or self.white)).nan_to_num(0.5).clamp(0, 1)


def gradient_images(loss: Loss, inputs: Mapping[str, Tensor]) -> list[GradientImage]:
    """Compute the gradient of each term at each pixel of the prediction, times the term's weight.

    The gradient of L1 has entries of ±1, as in :func:`lossmith.calibrate`: their root mean square is the norm there.
    Knobs count as 1, and schedules as after their end.

    Args:
        loss: The loss, with numbers in place of shares, see :meth:`CalibrationReport.resolve_shares`.
        inputs: A batch of inputs by name, with "pred".

    Returns:
        One image for each term, in order.

    Raises:
        ValueError: A weight is a share of the gradient, or there is no input "pred".

    Example:
        >>> from lossmith import L1, TV
        >>> inputs = {"pred": torch.zeros(1, 3, 8, 8), "target": torch.ones(1, 3, 8, 8)}
        >>> [(image.name, float(image.gradient.mean())) for image in gradient_images(0.5 * L1() + TV(), inputs)]
        [('L1', -0.5), ('TV', 0.0)]
    """
    if any(weight.share is not None for weight in loss.weights):
        raise ValueError(
            "gradient_images needs numbers as weights; got shares of the gradient. Use "
            "calibrate(loss, inputs).resolve_shares()."
        )
    gradients = loss.gradients(inputs)
    scale = inputs["pred"].numel()
    return [
        GradientImage(name, gradients[name].float() * (scale * weight.final_value))
        for name, weight in zip(loss.names, loss.weights, strict=True)
    ]

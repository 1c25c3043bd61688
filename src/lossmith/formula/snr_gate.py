"""Gates: where over the noise levels of a diffusion a term acts."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lossmith._repr import quoted
from lossmith.formula.weight import (
    Factor,
    Value,
    Weight,
    number,
)

__all__ = ["Gate"]

LEVEL = "logsnr"
"""The view that gates read: the level of noise of each image, (N,)."""


@dataclass(frozen=True)
class Gate(Factor):
    r"""Where a term acts in a diffusion step: where the signal dominates, smoothly.

    .. math:: g(\lambda) = \operatorname{sigmoid}\Big(\frac{\lambda - \lambda_0}{w}\Big)

    with the view ``logsnr`` :math:`\lambda`, (N,). Each value of the term is multiplied with its own image's, and the
    mean is taken over all images of the batch, shut ones included: else a single open one would count for all.

    Published gates, in this clock: PixelGen's for LPIPS opens at -1.7, that of LPL and of ControlNet++ at 1.1.

    Args:
        opens: The logarithm :math:`\lambda_0` of signal to noise at which it is half open; -30 is always open.
        width: Over how much of it :math:`w` it opens, more than 0.

    Raises:
        ValueError: An argument is no such number.

    Example:
        >>> import torch
        >>> Gate(-1.7).opening(torch.tensor([-10.0, -1.7, 10.0]))
        tensor([6.1761e-08, 5.0000e-01, 1.0000e+00])
    """

    opens: float = -1.7
    width: float = 0.5

    def __post_init__(self) -> None:
        if not number("Gate", self.width) > 0:
            raise ValueError(f"Gate wants a width of more than 0; got {self.width!r}.")
        number("Gate", self.opens)

    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """1: it is no matter of steps."""
        return 1.0

    def opening(self, logsnr: Tensor) -> Tensor:
        """How far it is open at some levels (N,), 0 to 1."""
        return ((logsnr.detach() - self.opens) / self.width).sigmoid()

    def __repr__(self) -> str:
        width = "" if self.width == 0.5 else f", {quoted(self.width)}"
        return f"Gate({'' if self.opens == -1.7 and not width else quoted(self.opens)}{width})"


def gates_of(weight: Weight) -> tuple[Gate, ...]:
    """The gates in a weight."""
    return tuple(factor for factor in weight.factors if isinstance(factor, Gate))


def gated(values: Tensor, weight: Weight, views: Mapping[str, Tensor]) -> Tensor:
    """Values whose first axis is the images', as far as the gates of a weight are open."""
    for gate in gates_of(weight):
        values = values * gate.opening(views[LEVEL].to(values)).view(-1, *(1,) * (values.dim() - 1))
    return values

"""Gates: the noise levels of a diffusion step at which a term acts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith._checks import check_number
from lossmith._repr import format_literal
from lossmith.device import is_on_host
from lossmith.engine.second_derivatives import is_transformed
from lossmith.formula.weight import Factor, Weight, WeightValue

__all__ = ["Gate"]

LOGSNR = "logsnr"
"""The name of the input that gates read: the log-SNR of each image, (N,)."""

HOST_LOGSNR = "logsnr_cpu"
"""The name of an optional copy of this input on the CPU, from which closed gates are known without a wait."""

CLOSED = 1e-4
"""The value of a gate below which its image is skipped in a training step."""


@dataclass(frozen=True)
class Gate(Factor):
    r"""A smooth gate on the signal-to-noise ratio: the term acts in a diffusion step where the signal dominates.

    .. math:: g(\lambda) = \operatorname{sigmoid}\Big(\frac{\lambda - \lambda_0}{w}\Big)

    with the input ``logsnr`` :math:`\lambda`, (N,). Each value of the term is multiplied by the gate of its image. The
    mean is taken over all images of the batch, including those with a closed gate; otherwise one image with an open
    gate would count for the whole batch. In a training step, networks skip the images whose gates are below 1e-4, if
    the log-SNR is known on the host: as the input ``logsnr`` on the CPU, or as its copy ``logsnr_cpu``.

    Published gates in terms of log-SNR: PixelGen's gate for LPIPS opens at -1.7, those of LPL and ControlNet++ at 1.1.

    Args:
        opens: The log-SNR :math:`\lambda_0` at which the gate is half open; -30 is always open.
        width: The width :math:`w` of the transition in log-SNR, more than 0.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import torch
        >>> Gate(-1.7).activation(torch.tensor([-10.0, -1.7, 10.0]))
        tensor([6.1761e-08, 5.0000e-01, 1.0000e+00])
    """

    opens: float = -1.7
    width: float = 0.5

    def __post_init__(self) -> None:
        check_number("Gate width", self.width, low=0, open_low=True)
        check_number("Gate opens", self.opens)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return 1: a gate depends on the noise level, not on the training step."""
        return 1.0

    def activation(self, logsnr: Tensor) -> Tensor:
        """Return the gate's value in [0, 1] for log-SNRs (N,)."""
        return ((logsnr.detach() - self.opens) / self.width).sigmoid()

    def __repr__(self) -> str:
        width = "" if self.width == 0.5 else f", {format_literal(self.width)}"
        opens = "" if self.opens == -1.7 and not width else format_literal(self.opens)
        return f"Gate({opens}{width})"


def find_gates(weight: Weight) -> tuple[Gate, ...]:
    """Return the gates among the factors of a weight."""
    return tuple(factor for factor in weight.factors if isinstance(factor, Gate))


def find_open_images(weights: Iterable[Weight], inputs: Mapping[str, Tensor]) -> list[int] | None:
    """Return the images for which the gates of some weight are open, in ascending order.

    Args:
        weights: The weights.
        inputs: The inputs of the step. The log-SNR is read from :data:`HOST_LOGSNR`, or from :data:`LOGSNR` if it is
            on the CPU.

    Returns:
        The indices; None if there are no gates, if the levels are not known on the host, or if all gates are open.
    """
    gated = [gates for gates in map(find_gates, weights) if gates]
    logsnr = inputs.get(HOST_LOGSNR, inputs.get(LOGSNR))
    if not gated or logsnr is None or torch.compiler.is_compiling() or is_transformed():
        return None
    if not is_on_host(logsnr):
        return None
    activations = [torch.stack([gate.activation(logsnr) for gate in gates]).prod(dim=0) for gates in gated]
    is_open = torch.stack(activations).amax(dim=0) >= CLOSED
    return None if bool(is_open.all()) else is_open.nonzero().flatten().tolist()


def apply_gates(values: Tensor, weight: Weight, inputs: Mapping[str, Tensor]) -> Tensor:
    """Multiply values (N, ...) by the gates of a weight at the log-SNR of each image."""
    for gate in find_gates(weight):
        values = values * gate.activation(inputs[LOGSNR].to(values)).view(-1, *(1,) * (values.dim() - 1))
    return values

"""The interface of a balancer: a map from the requested weights of the terms to the weights of a step."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from lossmith._checks import check_integer, check_number
from lossmith._repr import format_literal

__all__ = ["Balance", "Fixed", "RunningMean"]


class Balance(nn.Module, ABC):
    r"""Base class of balancers, which adapt the weights of the terms during training.

    A balancer sees numbers alone, never the network: the requested weights, the values of the terms, and the Gramian
    of their gradients at the network's output. Gradient norms are in units of L1's gradient,
    :math:`\|\partial L / \partial x\|_F \sqrt{NCHW}`, so that L1 has norm 1 wherever no two pixels are equal. A new
    balancer defines :meth:`initialize` and :meth:`forward`. Its `repr` is its text.
    """

    needs_gradients: ClassVar[bool] = True
    """Whether the Gramian is needed."""
    weights_are_shares: ClassVar[bool] = False
    """Whether the requested weights are shares of the gradient, independent of the scales of the terms."""
    every: int
    """The number of steps from one update of the weights to the next; 0 for no updates. Each of the first `every` steps
    updates the weights."""

    def __init__(self) -> None:  # whose signature says that it takes nothing
        super().__init__()

    @abstractmethod
    def initialize(self, names: Sequence[str]) -> None:
        """Create the buffers for terms of these names."""

    @abstractmethod
    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights to use, (m,).

        Args:
            weights: The requested weights (m,); 0 for a term that is switched off or has no path to the output.
            values: The batch means of the terms, (m,).
            gramian: The inner products of the terms' gradients, (m, m); zeros for a term without a measured gradient.
        """

    @property
    def name(self) -> str:
        """The balancer's name in text."""
        return type(self).__name__.lower()

    def __repr__(self) -> str:
        options = inspect.signature(type(self)).parameters.values()
        changed = [(o, getattr(self, o.name)) for o in options if getattr(self, o.name) != o.default]
        arguments = [
            format_literal(v) if o.kind is o.POSITIONAL_OR_KEYWORD else f"{o.name}={format_literal(v)}"
            for o, v in changed
        ]
        return f"{self.name}({', '.join(arguments)})" if arguments else self.name


@final
class Fixed(Balance):
    """The requested weights, unchanged.

    Example:
        >>> fixed = Fixed()
        >>> fixed(torch.tensor([1.0, 0.1]), torch.ones(2), torch.eye(2))
        tensor([1.0000, 0.1000])
    """

    needs_gradients = False
    every = 0

    def initialize(self, names: Sequence[str]) -> None:
        """Do nothing; there is no state."""

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """Return the requested weights."""
        return weights


@final
class RunningMean(nn.Module):
    r"""An exponential moving average of m numbers, each corrected for the bias of its start.

    .. math:: \bar x_t = \sum_{s \le t} \beta^{t - s} x_s \Big/ \sum_{s \le t} \beta^{t - s}

    Args:
        size: The number of numbers m.
        decay: The decay rate :math:`\beta` per measurement, in [0, 1).
    """

    total: Tensor
    count: Tensor

    def __init__(self, size: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros(size))
        self.register_buffer("count", torch.zeros(size))

    def forward(self, new: Tensor, is_measured: Tensor) -> tuple[Tensor, Tensor]:
        """Update the averages of the measured numbers.

        Args:
            new: The measurements, (m,).
            is_measured: Which of them count, (m,), bool.

        Returns:
            The averages (m,), and which numbers have ever been measured (m,), bool.
        """
        for average, value in ((self.total, new), (self.count, torch.ones_like(new))):
            average.copy_(torch.where(is_measured, self.decay * average + value, average))
        is_known = self.count > 0
        return self.total / torch.where(is_known, self.count, 1.0), is_known


def gradient_norms(gramian: Tensor) -> Tensor:
    """Return the gradient norms (m,) from the diagonal of a Gramian (m, m)."""
    return gramian.diagonal().clamp_min(0).sqrt()


def check_ema(name: str, value: float) -> float:
    """Return the decay rate of a running mean if it is in [0, 1)."""
    if check_number(f"{name} ema", value, low=0, high=1) == 1:
        raise ValueError(f"{name} ema must be at least 0 and below 1; got {value!r}.")
    return float(value)


def check_every(name: str, value: int) -> int:
    """Return the number of steps between updates if it is a positive integer."""
    return check_integer(f"{name} every", value, low=1)

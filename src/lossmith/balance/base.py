"""What a balance is: a map from the weights that were asked for to those that are used."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from lossmith._repr import quoted
from lossmith.formula.weight import number, whole

__all__ = ["Balance", "Fixed", "Mean"]


class Balance(nn.Module, ABC):
    r"""How the terms' weights follow what the terms do in training.

    It sees numbers alone: the weights that were asked for, the terms' values, and the Gramian of their gradients at the
    network's output. Gradients are in units of L1's, :math:`\|\partial L / \partial x\|_F \sqrt{NCHW}`, so that L1 has
    norm 1 wherever no two pixels are equal. A new balance defines :meth:`forward` and :meth:`begin`; its `repr` is its
    text.
    """

    gradients: ClassVar[bool] = True
    """Whether it needs the Gramian."""
    relative: ClassVar[bool] = False
    """Whether the weights that are asked for are parts of the gradient, whatever the terms' own sizes."""
    every: int
    """It is asked once in so many steps, and in as many steps at the start; 0 for never."""

    def __init__(self) -> None:  # whose signature says that it takes nothing
        super().__init__()

    @abstractmethod
    def begin(self, names: Sequence[str]) -> None:
        """Makes the buffers for some terms, by their names."""

    @abstractmethod
    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """The weights to use (m,).

        Args:
            weights: Those that were asked for (m,); 0 for a term that is off, or that has no path to the output.
            values: The terms' batch means (m,).
            gramian: The inner products of their gradients (m, m); a term that could not be measured has a row of zeros.
        """

    @property
    def kind(self) -> str:
        """What it is called in text."""
        return type(self).__name__.lower()

    def __repr__(self) -> str:
        options = inspect.signature(type(self)).parameters.values()
        said = [(o, getattr(self, o.name)) for o in options if getattr(self, o.name) != o.default]
        told = [quoted(v) if o.kind is o.POSITIONAL_OR_KEYWORD else f"{o.name}={quoted(v)}" for o, v in said]
        return f"{self.kind}({', '.join(told)})" if told else self.kind


@final
class Fixed(Balance):
    """The weights as they were asked for.

    Example:
        >>> fixed = Fixed()
        >>> fixed(torch.tensor([1.0, 0.1]), torch.ones(2), torch.eye(2))
        tensor([1.0000, 0.1000])
    """

    gradients = False
    every = 0

    def begin(self, names: Sequence[str]) -> None:
        """There is nothing to remember."""

    def forward(self, weights: Tensor, values: Tensor, gramian: Tensor) -> Tensor:
        """The same weights."""
        return weights


@final
class Mean(nn.Module):
    r"""A running mean of m numbers, each free of the bias of its beginning.

    .. math:: \bar x_t = \sum_{s \le t} \beta^{t - s} x_s \Big/ \sum_{s \le t} \beta^{t - s}

    Args:
        size: How many.
        decay: The factor :math:`\beta` a measurement.
    """

    total: Tensor
    count: Tensor

    def __init__(self, size: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros(size))
        self.register_buffer("count", torch.zeros(size))

    def forward(self, new: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in what was seen of some numbers (m,); the means (m,), and which have been seen at all."""
        for kept, now in ((self.total, new), (self.count, torch.ones_like(new))):
            kept.copy_(torch.where(seen, self.decay * kept + now, kept))
        known = self.count > 0
        return self.total / torch.where(known, self.count, 1.0), known


def norms_of(gramian: Tensor) -> Tensor:
    """The norms (m,) that are on a Gramian's diagonal."""
    return gramian.diagonal().clamp_min(0).sqrt()


def decay(who: str, value: float) -> float:
    """The decay of a running mean, or one line on what it is instead."""
    if not 0 <= number(f"{who}'s ema", value) < 1:
        raise ValueError(f"{who}'s ema wants to be in [0, 1), the part of it that a mean keeps; got {value!r}.")
    return float(value)


def steps(who: str, value: int) -> int:
    """A number of steps, or one line on what it is instead."""
    whole(f"{who}'s every", value, least=1)
    return int(value)


def limit(who: str, name: str, value: float, least: float) -> float:
    """A number of at least so much, or one line on what it is instead."""
    if number(f"{who}'s {name}", value) < least:
        raise ValueError(f"{who}'s {name} wants to be at least {least:g}; got {value!r}.")
    return float(value)

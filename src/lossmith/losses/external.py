"""Losses of other libraries as terms of the algebra."""

import copy
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from lossmith._repr import format_literal, repr_of
from lossmith.formula.distance import Distance

__all__ = ["External"]

MODE_DEPENDENT = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
"""Layers that do something else in training mode."""


@final
class External(Distance):
    r"""Any callable ``(pred, target) -> tensor`` as a distance, so that another library's loss can be a term.

    .. math:: f\big(a + (b - a) x, \; a + (b - a) y\big)

    with [a, b] the range of values that it wants. By default it is called once an image, so that every image has a
    value of its own whatever the callable averages over: N images cost N calls. With ``batched=True`` it is called
    once a batch. If it then gives one value an image (``reduction="none"``), that is as good and N times fewer calls;
    if it gives one number, that number stands for every image, and per-image knobs and the quarantine of single images
    mean nothing.

    If the callable is a module, the term has a copy of it that is frozen and in eval mode: no parent trains it, changes
    its mode, casts it or saves it, and `to` moves it. What a plain function closes over stays as it is, and is looked
    at by the doctor. Half-precision pictures arrive in float32. Its text cannot be parsed: a formula never runs what is
    not of this package.

    Args:
        function: It takes two tensors (N, C, H, W) and gives a tensor.
        data_range: What white is where black is 0, such as 1 or 255; or the pair of both, such as (-1, 1).
        batched: Whether it is called once a batch.

    Raises:
        ValueError: A bad argument; or at the call a result that is no such tensor.

    Example:
        >>> loss = External(torch.nn.MSELoss(), data_range=255)
        >>> loss
        External("MSELoss", data_range=255)
        >>> x, y = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.2)
        >>> (0.1 * loss)(x, y)  # of 51^2
        tensor(260.1000)
    """

    value_range = (-float("inf"), float("inf"))

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        data_range: float | Sequence[float] = 1.0,
        *,
        batched: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(function, str):
            raise ValueError(
                f"External wants a Python callable (pred, target) -> tensor, which no formula can name; got the text "
                f"{format_literal(function)}. Build the loss in Python: L1() + External(...)."
            )
        if not callable(function):
            raise ValueError(f"External wants a callable (pred, target) -> tensor; got a {type(function).__name__}.")
        if not isinstance(batched, bool):
            raise ValueError(f"External wants batched=True or False; got {batched!r}.")
        self.low, self.high = _range(data_range)
        self.data_range, self.is_batch_dependent = data_range, batched
        self.arrived = ""
        if isinstance(function, nn.Module):
            self.arrived = _habits(function)
            function = copy.deepcopy(function).requires_grad_(False).eval()
        self.__dict__["function"] = function  # past nn.Module's registration

    function: Callable[[Tensor, Tensor], Tensor]
    arrived: str
    """What freezing had to change of a module, in words; empty if nothing."""

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """What the callable says of each image, (N,)."""
        x, y = (self.low + (self.high - self.low) * image for image in (pred, target))
        if self.is_batch_dependent:
            value = self.ask(x, y)
            if value.numel() not in (1, len(x)):
                raise ValueError(f"{self!r} gave {tuple(value.shape)} for {len(x)} images; it wants (N,) or a number.")
            return value.flatten().expand(len(x))
        values = [self.ask(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
        if any(value.numel() != 1 for value in values):
            raise ValueError(
                f"{self!r} gave {tuple(values[0].shape)} for one image; it wants a number: let it average."
            )
        return torch.stack([value.flatten()[0] for value in values]) if values else pred.new_zeros(0)

    def ask(self, x: Tensor, y: Tensor) -> Tensor:
        """What the callable says, if it is a tensor."""
        value: Any = self.function(x, y)
        if not isinstance(value, Tensor):
            raise ValueError(f"{self!r} gave a {type(value).__name__}; it wants a tensor, without .item().")
        return value

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if isinstance(self.function, nn.Module):
            here = next(chain(self.function.parameters(), self.function.buffers()), None)
            if here is not None:
                self.function.to(fn(here.new_empty(0)).device)  # moved, never cast
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def __repr__(self) -> str:
        known = getattr(self.function, "__name__", type(self.function).__name__)
        usual = (self.low, self.high) == (0.0, 1.0)
        wide = list(self.data_range) if isinstance(self.data_range, Sequence) else self.data_range
        return repr_of(self, known, data_range=None if usual else wide, batched=self.is_batch_dependent or None)


def _range(asked: float | Sequence[float]) -> tuple[float, float]:
    ends = tuple(asked) if isinstance(asked, Sequence) else (0.0, asked)
    numbers = all(isinstance(end, int | float) and abs(end) < float("inf") for end in ends)
    if isinstance(asked, str | bool) or len(ends) != 2 or not numbers or not ends[0] < ends[1]:
        raise ValueError(f"External wants data_range as 1.0, 255 or a pair such as (-1, 1); got {asked!r}.")
    return float(ends[0]), float(ends[1])


def _habits(module: nn.Module) -> str:
    trains = sum(p.numel() for p in module.parameters() if p.requires_grad)
    moody = sorted({type(part).__name__ for part in module.modules() if part.training and isinstance(part, MODE_DEPENDENT)})
    habits = [f"{trains:,} numbers that would train"] if trains else []
    return " and ".join(habits + ([f"{', '.join(moody)} in training mode"] if moody else []))

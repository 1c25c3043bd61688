"""Losses of other libraries as terms of a formula."""

import copy
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from lossmith._checks import check_bool
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance

__all__ = ["MODE_DEPENDENT", "External"]

MODE_DEPENDENT = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
"""Layers whose output depends on the training mode."""


@final
class External(Distance):
    r"""Any callable ``(pred, target) -> tensor`` as a distance.

    .. math:: f\big(a + (b - a) x, \; a + (b - a) y\big)

    with [a, b] the data range of the callable. By default, the callable is called once per image, so that each image
    has its own value whatever the callable averages over: N calls for N images. With ``batched=True`` it is called once
    per batch. A callable that then returns one value per image (``reduction="none"``) is equivalent and needs N times
    fewer calls. A callable that returns one number gives this number to every image; per-image knobs and the exclusion
    of non-finite images then have no effect on single images.

    If the callable is a module, the term holds a frozen copy in eval mode: a parent does not train, cast or save it or
    change its mode; `to` moves it. Objects that a plain function closes over are left unchanged; the doctor examines
    them. Half-precision images are converted to float32. The text of the term cannot be parsed, since a formula never
    runs code from outside of installed losses.

    Args:
        function: A callable that maps two tensors (N, C, H, W) to a tensor.
        data_range: The value of white with black at 0, such as 1 or 255; or the pair of both, such as (-1, 1).
        batched: Whether the callable is called once per batch.

    Raises:
        ValueError: If an argument is invalid; or at the call, if the result is not a tensor of the expected shape.

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
                f"External needs a Python callable (pred, target) -> tensor, which a formula cannot name; got the text "
                f"{function!r}. Build the loss in Python: L1() + External(...)."
            )
        if not callable(function):
            raise ValueError(f"External needs a callable (pred, target) -> tensor; got a {type(function).__name__}.")
        self.low, self.high = _parse_range(data_range)
        self.data_range, self.is_batch_dependent = data_range, check_bool("External batched", batched)
        self.frozen_parts = ""
        if isinstance(function, nn.Module):
            self.frozen_parts = _describe_training_state(function)
            function = copy.deepcopy(function).requires_grad_(False).eval()
        self.__dict__["function"] = function  # outside of nn.Module's registration

    function: Callable[[Tensor, Tensor], Tensor]
    frozen_parts: str
    """What the given module had trainable or in training mode, which the copy has not, in words; empty if nothing."""

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the callable's value of each image, (N,)."""
        x, y = (self.low + (self.high - self.low) * image for image in (pred, target))
        if self.is_batch_dependent:
            value = self.call_function(x, y)
            if value.numel() not in (1, len(x)):
                raise ValueError(
                    f"{self!r} must return (N,) or one number; got {tuple(value.shape)} for {len(x)} images."
                )
            return value.flatten().expand(len(x))
        values = [self.call_function(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
        if any(value.numel() != 1 for value in values):
            raise ValueError(
                f"{self!r} must return one number; got {tuple(values[0].shape)} for one image. Use its mean reduction."
            )
        return torch.stack([value.flatten()[0] for value in values]) if values else pred.new_zeros(0)

    def call_function(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the result of the callable if it is a tensor."""
        try:
            value: Any = self.function(x, y)
        except (AssertionError, ValueError) as error:
            if not (message := self._describe_overshoot(x, y)):
                raise
            raise ValueError(f"{self!r} failed ({error or type(error).__name__}). {message}") from error
        if not isinstance(value, Tensor):
            raise ValueError(f"{self!r} must return a tensor, without .item(); got a {type(value).__name__}.")
        return value

    def _describe_overshoot(self, x: Tensor, y: Tensor) -> str:
        """Return a hint at clamping if images exceed the data range, as those of an untrained network do."""
        both = torch.cat([x.detach().flatten(), y.detach().flatten()])
        low, high = both.min().item(), both.max().item()
        if self.low <= low and high <= self.high:
            return ""
        return (
            f"The images reach from {low:.3g} to {high:.3g}, beyond its range of {self.low:g} to {self.high:g}; clamp "
            f"them inside the callable, as in lambda x, y: f(x.clamp({self.low:g}, {self.high:g}), y)."
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if isinstance(self.function, nn.Module):
            tensor = next(chain(self.function.parameters(), self.function.buffers()), None)
            if tensor is not None:
                self.function.to(fn(tensor.new_empty(0)).device)  # moved, not cast
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        is_default = (self.low, self.high) == (0.0, 1.0)
        data_range = list(self.data_range) if isinstance(self.data_range, Sequence) else self.data_range
        return repr_of(
            self, name, data_range=None if is_default else data_range, batched=self.is_batch_dependent or None
        )


def _parse_range(data_range: float | Sequence[float]) -> tuple[float, float]:
    ends = tuple(data_range) if isinstance(data_range, Sequence) else (0.0, data_range)
    are_numbers = all(isinstance(end, int | float) and abs(end) < float("inf") for end in ends)
    if isinstance(data_range, str | bool) or len(ends) != 2 or not are_numbers or not ends[0] < ends[1]:
        raise ValueError(
            f"External data_range must be a number such as 1.0 or 255, or a pair such as (-1, 1); got {data_range!r}."
        )
    return float(ends[0]), float(ends[1])


def _describe_training_state(module: nn.Module) -> str:
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    layers = {type(part).__name__ for part in module.modules() if part.training and isinstance(part, MODE_DEPENDENT)}
    parts = [f"{count:,} trainable parameters"] if count else []
    return " and ".join(parts + ([f"{', '.join(sorted(layers))} in training mode"] if layers else []))

"""Training over a whole range of weights: where the knobs stand for each picture, and the loss that this makes."""

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.formula.weight import Value
from lossmith.models.conditioned import span

__all__ = ["Draw", "normalised"]


@final
class Draw:
    r"""Draws where the knobs stand, for each picture of a batch.

    .. math:: \lambda = \lambda_\text{low} (\lambda_\text{high} / \lambda_\text{low})^v, \quad
        v = \min(1, \max(0, (u - e / 2) / (1 - e)))

    where the :math:`u` of a batch are one random offset and steps of 1 / N from there, in random order: evenly spread
    over the range in every batch, for each knob by itself. The part :math:`e` of the pictures stands exactly on an end,
    since the ends are what such a network learns last: with 0.6 it reached 95 % of the range of separate networks in
    the distance of patches, with 0.4 92 %, with 0.125 85 % (docs/certificate.md).

    Args:
        ranges: For each knob the lowest and the highest value, both above 0.
        ends: The part of the pictures that stands on an end, half of it on each.

    Raises:
        ValueError: A range that is none, or a part that is not in [0, 1).

    Example:
        >>> lam = Draw({"lam": (0.1, 10.0)}, ends=0.5)(8, generator=torch.Generator().manual_seed(0))["lam"]
        >>> [round(value, 2) for value in lam.sort().values.tolist()]
        [0.1, 0.1, 0.31, 0.97, 3.06, 9.66, 10.0, 10.0]
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]], ends: float = 0.6) -> None:
        if not 0 <= ends < 1:
            raise ValueError(f"Draw wants the part of the pictures on the ends in [0, 1); got {ends!r}.")
        self.ranges, self.ends = {name: span(name, both) for name, both in ranges.items()}, ends

    def __call__(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """One value a picture for each knob, (count,); drawn on the CPU, so that every device draws the same."""
        drawn = {}
        for name, (low, high) in self.ranges.items():
            offset = torch.rand(1, dtype=torch.float64, generator=generator)
            u = (torch.randperm(count, generator=generator) + offset) / count
            v = ((u - self.ends / 2) / (1 - self.ends)).clamp(0, 1)
            value = (math.log(low) + math.log(high / low) * v).exp()
            drawn[name] = value.float().to(device, non_blocking=True)
        return drawn


def normalised(loss: Loss, values: Mapping[str, Tensor], step: int, knobs: Mapping[str, Value]) -> Tensor:
    r"""The weighted mean of the terms instead of their sum, picture by picture, averaged over the batch.

    .. math:: \frac{1}{N} \sum_n \frac{\sum_i w_i(\lambda_n) L_{in}}{\sum_i |w_i(\lambda_n)|}

    Else the pictures for which a knob stands high would lead every step.

    Args:
        loss: The loss, for its weights.
        values: What its ``evaluate`` gave.
        step: The step of the training.
        knobs: Where the knobs stand: numbers, or one value a picture (N,).

    Returns:
        A scalar.

    Example:
        >>> from lossmith import parse
        >>> values = {"L1": torch.tensor([1.0, 1.0]), "TV": torch.tensor([3.0, 3.0])}
        >>> normalised(parse("L1 + lam*TV"), values, 0, {"lam": torch.tensor([1.0, 3.0])})
        tensor(2.2500)
    """
    weights = {name: weight.at(step, knobs) for name, weight in zip(loss.names, loss.weights, strict=True)}
    live = {name: weight for name, weight in weights.items() if isinstance(weight, Tensor) or weight != 0}
    if not live:
        return loss.weigh(values, step=step, knobs=knobs)
    count = len(next(iter(values.values())))
    for name, weight in live.items():
        if isinstance(weight, Tensor) and weight.shape not in ((), (count,)):
            raise ValueError(
                f"The weight of '{name}' wants a number or one value a picture, ({count},); "
                f"a knob gave {tuple(weight.shape)}."
            )
    sizes: list[Value] = [w.abs() if isinstance(w, Tensor) else abs(w) for w in live.values()]
    total = sum(sizes[1:], start=sizes[0])
    return torch.stack([weight / total * values[name] for name, weight in live.items()]).sum(dim=0).mean()

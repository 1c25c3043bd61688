"""The weights of the terms in a training step, and the sum that they give."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.formula.weight import WeightValue
from lossmith.formula.weighted_sum import check_weight_shape, is_zero

__all__ = ["normalized_weighted_sum", "weights_at"]


def normalized_weighted_sum(
    loss: Loss, values: Mapping[str, Tensor], step: int, knobs: Mapping[str, WeightValue]
) -> Tensor:
    r"""Return the sum of the weighted terms over the sum of their weights, per image, averaged over the batch.

    .. math:: \frac{1}{N} \sum_n \frac{\sum_i w_i(\lambda_n) L_{in}}{\sum_i |w_i(\lambda_n)|}

    Without the normalization, images with a high knob value would dominate every step.

    Args:
        loss: The loss, for its weights.
        values: Its terms (N,), as ``loss.evaluate`` returns them.
        step: The training step.
        knobs: The knob values: numbers, or one value per image (N,).

    Returns:
        A scalar.

    Example:
        >>> from lossmith import parse
        >>> values = {"L1": torch.tensor([1.0, 1.0]), "TV": torch.tensor([3.0, 3.0])}
        >>> normalized_weighted_sum(parse("L1 + lam*TV"), values, 0, {"lam": torch.tensor([1.0, 3.0])})
        tensor(2.2500)
    """
    weights = weights_at(loss, step, knobs, count=len(next(iter(values.values()))))
    if not weights:
        return loss.weighted_sum(values, step=step, knobs=knobs)
    return torch.stack([weight * values[name] for name, weight in weights.items()]).sum(dim=0).mean()


def weights_at(
    loss: Loss, step: int, knobs: Mapping[str, WeightValue] | None = None, *, count: int | None = None
) -> dict[str, WeightValue]:
    """Return the weights of a step that are not 0; with knobs, over the sum of their magnitudes, per image.

    Args:
        loss: The loss.
        step: The training step.
        knobs: The knob values: numbers, or one value per image (N,); without knobs, the weights are those of the loss.
        count: The number of images, to check the knobs' shapes; None does not check them.

    Returns:
        Numbers, or one value per image (N,), by the term's name.

    Raises:
        ValueError: A weight is neither a number nor one value per image.

    Example:
        >>> from lossmith import parse
        >>> weights_at(parse("L1 + lam*TV"), 0, {"lam": 3.0})
        {'L1': 0.25, 'TV': 0.75}
    """
    all_weights = loss.factors_at(step, knobs)
    weights = {name: weight for name, weight in all_weights.items() if not is_zero(weight)}
    if count is not None:
        for name, weight in weights.items():
            check_weight_shape(name, weight, count)
    if not (knobs and weights):
        return weights
    # a lazy term counts with its mean, also while it rests, so that the weights of the others are constant
    means = [weight.mean_at(step, knobs) for weight in loss.weights]
    magnitudes: list[WeightValue] = [w.abs() if isinstance(w, Tensor) else abs(w) for w in means]
    total = sum(magnitudes[1:], start=magnitudes[0])
    return {name: weight / total for name, weight in weights.items()}

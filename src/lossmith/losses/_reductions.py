"""Reductions of pixel errors to one value per image, with and without a mask."""

from typing import Any

import torch
from torch import Tensor

from lossmith.engine.second_derivatives import is_transformed

__all__ = ["apply_mask", "masked_mean", "mean_absolute_error", "mean_squared_error", "non_batch_dims"]


def masked_mean(errors: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean error of each image.

    Args:
        errors: Errors (N, C, ...).
        mask: Weights in [0, 1], (N, 1, H, W), as those of a weighted mean; None for a plain mean.

    Returns:
        Means (N,); 0 for an image whose mask is 0 everywhere.
    """
    if mask is None:
        return errors.mean(dim=non_batch_dims(errors))
    total = mask.sum(dim=(1, 2, 3)) * errors.shape[1]
    return apply_mask(errors, mask).sum(dim=non_batch_dims(errors)) / torch.where(total > 0, total, 1.0)


def apply_mask(errors: Tensor, mask: Tensor) -> Tensor:
    """Return errors times a mask (N, 1, H, W); 0 where the mask is 0, even if the error is not finite."""
    return torch.where(mask > 0, errors * mask, 0.0)


def non_batch_dims(tensor: Tensor) -> tuple[int, ...]:
    """Return all dimensions but the first."""
    return tuple(range(1, tensor.dim()))  # reducing over them does not copy channels-last features, as flatten would


def mean_absolute_error(pred: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error of each image, (N,); backward keeps one byte per value."""
    if is_transformed():
        return masked_mean((pred - target).abs())
    error: Tensor = _MeanAbsoluteError.apply(pred, target)  # type: ignore[no-untyped-call]
    return error


def mean_squared_error(pred: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of each image, (N,), with few passes over memory."""
    if is_transformed():
        return masked_mean((pred - target).square())
    error: Tensor = _MeanSquaredError.apply(pred, target)  # type: ignore[no-untyped-call]
    return error


class _MeanAbsoluteError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor) -> Tensor:
        difference = pred - target
        value = difference.abs().mean(dim=non_batch_dims(difference))
        ctx.save_for_backward(difference.sign().to(torch.int8), value)
        return value

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:
        signs, value = ctx.saved_tensors
        # value - value is 0, or NaN where the value is not finite: the gradient must then not be finite either
        scale = (grad_output + (value - value)) / signs[0].numel()
        grad = signs * scale.view(-1, *(1,) * (signs.dim() - 1))
        return (grad if ctx.needs_input_grad[0] else None), (-grad if ctx.needs_input_grad[1] else None)


class _MeanSquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor) -> Tensor:
        difference = pred - target
        ctx.save_for_backward(pred, target, difference)
        norm: Tensor = torch.linalg.vector_norm(difference, dim=non_batch_dims(difference))
        return norm.square() / difference[0].numel()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:
        pred, target, difference = ctx.saved_tensors
        scale = (2 / pred[0].numel()) * grad_output
        if torch.is_grad_enabled():  # create_graph=True
            difference = pred - target
        grad = difference * scale.view(-1, *(1,) * (pred.dim() - 1))
        return (grad if ctx.needs_input_grad[0] else None), (-grad if ctx.needs_input_grad[1] else None)

"""The gradients of the terms at the network's output, and their inner products."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lossmith.lens import autocast_disabled

__all__ = ["gradient_gramian", "output_gradients"]


def output_gradients(values: Mapping[str, Tensor], output: Tensor) -> dict[str, Tensor]:
    r"""Compute the gradient of each term's batch mean at the network's output, times the number :math:`NCHW` of pixels.

    The gradient of L1 then has entries of ±1, and its root mean square is 1. The graph is kept.

    Args:
        values: The values (N,) of the terms by name, with their graphs.
        output: The output (N, C, H, W) that the graphs contain.

    Returns:
        Gradients of the output's shape by name, without the terms that have no path to the output.
    """
    gradients: dict[str, Tensor] = {}
    for name, value in values.items():
        if not value.requires_grad:
            continue
        with autocast_disabled(value):
            mean, scale = value.mean(), output.numel()
            # float16 holds neither 1e-6 nor 1e6: apply half of the scale before backward and half after
            scale_before = math.sqrt(scale) if output.dtype == torch.float16 else scale
            grad_output = torch.full_like(mean, scale_before)
            (gradient,) = torch.autograd.grad(mean, output, grad_output, retain_graph=True, allow_unused=True)
        if gradient is not None:
            gradients[name] = gradient if scale_before == scale else gradient.float() * (scale / scale_before)
    return gradients


def gradient_gramian(gradients: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """Compute the inner products of the terms' gradients, in units of L1's.

    Args:
        gradients: The result of :func:`output_gradients`.
        names: The names of all terms, in order.

    Returns:
        The Gramian (m, m), with zeros for terms without a gradient.
    """
    device = next(iter(gradients.values())).device
    gramian = torch.zeros(len(names), len(names), device=device)
    by_index = {names.index(name): gradient.float() for name, gradient in gradients.items()}
    for i, one in by_index.items():
        for j, other in by_index.items():
            if i <= j:  # no matrix product, which settings may round to TF32 or half precision
                gramian[i, j] = gramian[j, i] = (one * other).mean()
    return gramian

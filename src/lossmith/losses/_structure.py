"""The mean similarity of SSIM, with a gradient that is computed in the forward pass by few operators.

With u = x + y and v = x - y about their means, the moments of four maps are enough, where x and y need five:

    2 mean(x) mean(y) = (mean(u)^2 - mean(v)^2) / 2        mean(x)^2 + mean(y)^2 = (mean(u)^2 + mean(v)^2) / 2
    2 cov(x, y)       = (var(u) - var(v)) / 2              var(x) + var(y)       = (var(u) + var(v)) / 2

The four maps are filtered as the channels of one image. Every sum over positions is linear in the gradient of the
value, so that the gradient at the images is computed at once (:mod:`lossmith.losses._structure_gradient`), and is all
that the backward pass keeps beside them.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lossmith.engine.second_derivatives import is_transformed
from lossmith.losses._structure_gradient import (
    SimilarityWindow,
    average,
    compute_by_kernels,
    compute_by_operators,
    load_kernels,
)

__all__ = ["SimilarityWindow", "compute_similarity_map", "mean_dissimilarity"]


def compute_similarity_map(x: Tensor, y: Tensor, window: SimilarityWindow) -> Tensor:
    """Compute the similarity where the window fits, (N, C, h, w), by operators that have all derivatives."""
    shift = torch.stack([x.detach() + y.detach(), x.detach() - y.detach()]).mean(dim=(3, 4), keepdim=True)
    z = torch.stack([x + y, x - y]) - shift  # variances are invariant to a shift, and more accurate about the mean
    means, squares = window.filter(torch.cat([z, z * z])).chunk(2)
    variances = (squares - means * means).clamp_min(0)
    contrast = (variances[0] - variances[1] + 2 * window.c2) / (variances[0] + variances[1] + 2 * window.c2)
    if not window.has_luminance:
        return contrast
    luminance = (means + shift).square()
    return contrast * ((luminance[0] - luminance[1] + 2 * window.c1) / (luminance[0] + luminance[1] + 2 * window.c1))


def mean_dissimilarity(
    x: Tensor, y: Tensor, window: SimilarityWindow, mask: Tensor | None = None, *, is_joint: bool = False
) -> Tensor:
    """Compute one minus the mean similarity, under the mask at the centre of each window; 0 without any.

    Args:
        x: The images, (N, C, H, W).
        y: The other images, (N, C, H, W).
        window: The window.
        mask: (N, 1, H, W); None for a plain mean.
        is_joint: Whether the mean is over the channels too.

    Returns:
        (N, C), or (N, 1) if it is over the channels.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    is_mask_learned = mask is not None and mask.requires_grad and torch.is_grad_enabled()
    if is_transformed() or torch.compiler.is_compiling() or is_mask_learned:
        return average(1 - compute_similarity_map(x, y, window), mask, is_joint)
    has_gradient = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    values: Tensor = _MeanDissimilarity.apply(x, y, mask, window, is_joint, has_gradient)  # type: ignore[no-untyped-call]
    return values


class _MeanDissimilarity(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        mask: Tensor | None,
        window: SimilarityWindow,
        is_joint: bool,
        has_gradient: bool,
    ) -> Tensor:
        needed = ctx.needs_input_grad[:2] if has_gradient else (False, False)
        kernels = load_kernels(x, y) if mask is None else None
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            if kernels is None:
                values, *gradients = compute_by_operators(x, y, mask, window, is_joint, needed)
            else:
                values, *gradients = compute_by_kernels(kernels, x, y, window, is_joint, needed)
        if has_gradient:
            ctx.window, ctx.mask, ctx.is_joint = window, mask, is_joint
            ctx.save_for_backward(x, y, *gradients)
        return values

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *gradients = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            learned = [each for each, gradient in zip((x, y), gradients, strict=True) if gradient is not None]
            values = average(1 - compute_similarity_map(x, y, ctx.window), ctx.mask, ctx.is_joint)
            found = iter(torch.autograd.grad(values, learned, grad_output, create_graph=True))
            results = [None if gradient is None else next(found) for gradient in gradients]
        else:
            factor = grad_output[:, :, None, None]
            results = [None if gradient is None else gradient * factor for gradient in gradients]
        return *results, None, None, None, None

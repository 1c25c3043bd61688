"""The mean similarity of SSIM, with a gradient that is computed in the forward pass by few operators.

With u = x + y and v = x - y about their means, the moments of four maps are enough, where x and y need five:

    2 mean(x) mean(y) = (mean(u)^2 - mean(v)^2) / 2        mean(x)^2 + mean(y)^2 = (mean(u)^2 + mean(v)^2) / 2
    2 cov(x, y)       = (var(u) - var(v)) / 2              var(x) + var(y)       = (var(u) + var(v)) / 2

The four maps are filtered as the channels of one image. Every sum over positions is linear in the gradient of the
value, so that the gradient at the images is computed at once, and is all that the backward pass keeps beside the images.
On an accelerator each operator is one launch, and the number of operators is what small images cost.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._filters import constant, gaussian_taps
from lossmith.engine.second_derivatives import is_transformed

__all__ = ["SimilarityWindow", "compute_similarity_map", "mean_dissimilarity"]


@dataclass(frozen=True)
class SimilarityWindow:
    """The window and the constants of SSIM.

    Args:
        size: The side of the Gaussian window in pixels, odd.
        sigma: Its standard deviation in pixels.
        c1: The stabilising constant of the comparison of luminance.
        c2: The stabilising constant of the comparison of contrast.
        has_luminance: Whether luminance is compared, or only contrast and structure.
    """

    size: int
    sigma: float
    c1: float
    c2: float
    has_luminance: bool = True

    def filter(self, maps: Tensor, *, back: bool = False) -> Tensor:
        """Filter each map of (..., H, W) where the window fits; or its transpose, from there to the whole image."""
        taps = gaussian_taps(self.size, self.sigma, like=maps).view(1, 1, 1, -1)
        image = maps.reshape(1, -1, *maps.shape[-2:])  # an image with as many channels as there are maps
        row, pad = taps.expand(image.shape[1], 1, 1, -1), self.size - 1 if back else 0
        image = F.conv2d(image, row, padding=(0, pad), groups=len(row))
        image = F.conv2d(image, row.transpose(2, 3), padding=(pad, 0), groups=len(row))  # the window is symmetric
        return image.view(*maps.shape[:-2], *image.shape[-2:])

    def offsets(self, like: Tensor) -> Tensor:
        """Return what is added to the moments of u and v, for contrast and luminance, (2, 2, 1, 1, 1, 1)."""
        return constant((2 * self.c2, 0.0, 2 * self.c1, 0.0), like=like).view(2, 2, 1, 1, 1, 1)


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
        return _average(1 - compute_similarity_map(x, y, window), mask, is_joint)
    has_gradient = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    values: Tensor = _MeanDissimilarity.apply(x, y, mask, window, is_joint, has_gradient)  # type: ignore[no-untyped-call]
    return values


def _average(maps: Tensor, mask: Tensor | None, is_joint: bool) -> Tensor:
    """Return the mean over positions, and over channels if it is joint, under the mask."""
    dims = (1, 2, 3) if is_joint else (2, 3)
    if mask is None:
        return maps.mean(dim=dims, keepdim=True)[:, :, 0, 0]
    return (maps * _shares(mask, maps, is_joint)).sum(dim=dims, keepdim=True)[:, :, 0, 0]


def _shares(mask: Tensor, maps: Tensor, is_joint: bool) -> Tensor:
    """Return the share of each position in the mean of maps, (N, 1, h, w); zeros for an image whose mask is empty."""
    top, left = ((mask.shape[dim] - maps.shape[dim]) // 2 for dim in (2, 3))
    centres = mask[:, :, top : top + maps.shape[2], left : left + maps.shape[3]]
    total = centres.sum(dim=(2, 3), keepdim=True) * (maps.shape[1] if is_joint else 1)
    return torch.where(total > 0, centres / torch.where(total > 0, total, 1.0), 0.0)


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
        kernels = load_kernels(x) if mask is None else None
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            if kernels is None:
                values, *gradients = _compute(x, y, mask, window, is_joint, needed)
            else:
                values, *gradients = _compute_by_kernels(kernels, x, y, window, is_joint, needed)
        if has_gradient:
            ctx.window, ctx.mask, ctx.is_joint = window, mask, is_joint
            ctx.save_for_backward(x, y, *gradients)
        return values

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *gradients = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            learned = [each for each, gradient in zip((x, y), gradients, strict=True) if gradient is not None]
            values = _average(1 - compute_similarity_map(x, y, ctx.window), ctx.mask, ctx.is_joint)
            found = iter(torch.autograd.grad(values, learned, grad_output, create_graph=True))
            results = [None if gradient is None else next(found) for gradient in gradients]
        else:
            factor = grad_output[:, :, None, None]
            results = [None if gradient is None else gradient * factor for gradient in gradients]
        return *results, None, None, None, None


def load_kernels(like: Tensor) -> ModuleType | None:
    """Return the Triton kernels if they run on the device of a tensor; None elsewhere."""
    is_supported = like.is_cuda and like.dtype == torch.float32 and type(like) in (Tensor, torch.nn.Parameter)
    return _load_kernels(like.device) if is_supported else None


@cache
def _load_kernels(device: torch.device) -> ModuleType | None:
    try:
        from lossmith.losses import _structure_kernels as kernels

        one = torch.ones(1, 1, 1, 1, device=device)
        kernels.stack_moments(one, one, one, one, 1.0)
    except Exception:  # no Triton, no C compiler for its launcher, or a GPU that it does not support
        return None
    return kernels


def _compute_by_kernels(
    kernels: ModuleType, x: Tensor, y: Tensor, window: SimilarityWindow, is_joint: bool, needed: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the mean dissimilarity, (N, C) or (N, 1), and the gradients of its sum at x and y where needed."""
    x_mean, y_mean = x.mean(dim=(2, 3), keepdim=True), y.mean(dim=(2, 3), keepdim=True)
    maps = kernels.stack_moments(x, y, x_mean, y_mean, window.c2)
    moments = window.filter(maps)
    count = moments[0, 0, 0, 0].numel() * (x.shape[1] if is_joint else 1)
    c1 = window.c1 if window.has_luminance else None
    dissimilarity = kernels.compare_moments(moments, x_mean, y_mean, 2 / count if any(needed) else None, c1, window.c2)
    values = _average(dissimilarity, None, is_joint)
    if not any(needed):
        return values, None, None
    return values, *kernels.combine_gradients(window.filter(moments, back=True), maps, x, y, needed)


def _compute(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    window: SimilarityWindow,
    is_joint: bool,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the same as :func:`_compute_by_kernels`, by PyTorch's operators, with or without a mask."""
    z, shift, moments = _compute_moments(x, y, window)
    parts = _compare(moments, shift, window)
    values = _average(1 - parts.similarity if mask is not None else parts.similarity, mask, is_joint)
    values = values if mask is not None else 1 - values
    if not any(needed):
        return values, None, None
    count = parts.similarity[0, 0].numel() * (x.shape[1] if is_joint else 1)
    share = constant((2 / count,), like=x) if mask is None else 2 * _shares(mask, parts.similarity, is_joint)
    by_mean, by_square = window.filter(_differentiate(moments, parts, share, window), back=True)
    by_sum, by_difference = by_mean.addcmul_(z, by_square)
    return (
        values,
        by_sum + by_difference if needed[0] else None,
        by_sum - by_difference if needed[1] else None,
    )


class _Comparison(NamedTuple):
    """The parts of the similarity.

    Args:
        similarity: The similarity at each position, (N, C, h, w).
        factors: The numerators and denominators of contrast and, if it is compared, luminance, (2, 1 or 2, N, C, h, w).
        products: The numerator and the denominator of the similarity, (2, N, C, h, w).
        means: The local means of u and v, (2, N, C, h, w); None without luminance.
    """

    similarity: Tensor
    factors: Tensor
    products: Tensor
    means: Tensor | None


def _compute_moments(x: Tensor, y: Tensor, window: SimilarityWindow) -> tuple[Tensor, Tensor, Tensor]:
    """Return u and v about their means, (2, N, C, H, W), these means, and the local means and mean squares."""
    maps = x.new_empty(2, 2, *x.shape)
    z = maps[0]
    torch.add(x, y, out=z[0])
    torch.sub(x, y, out=z[1])
    shift = z.mean(dim=(3, 4), keepdim=True)
    z.sub_(shift)  # variances are invariant to a shift, and more accurate about the mean
    torch.addcmul(window.offsets(x)[0], z, z, out=maps[1])
    return z, shift, window.filter(maps)


def _compare(moments: Tensor, shift: Tensor, window: SimilarityWindow) -> _Comparison:
    """Compute the similarity from the local means and mean squares of u and v."""
    centred, squares = moments
    offsets = window.offsets(centred)
    terms = centred.new_empty(1 + window.has_luminance, *centred.shape)
    torch.addcmul(squares, centred, centred, value=-1, out=terms[0])
    torch.maximum(terms[0], offsets[0], out=terms[0])  # a variance is not negative
    means = centred + shift if window.has_luminance else None
    if means is not None:
        torch.addcmul(offsets[1], means, means, out=terms[1])
    factors = centred.new_empty(2, len(terms), *centred.shape[1:])
    torch.sub(terms[:, 0], terms[:, 1], out=factors[0])
    torch.add(terms[:, 0], terms[:, 1], out=factors[1])
    products = factors[:, 0] * factors[:, 1] if window.has_luminance else factors[:, 0]
    return _Comparison(products[0] / products[1], factors, products, means)


def _differentiate(moments: Tensor, parts: _Comparison, share: Tensor, window: SimilarityWindow) -> Tensor:
    """Return the gradient of the mean dissimilarity at the local means and mean squares of u and v.

    Args:
        moments: The local means and mean squares, (2, 2, N, C, h, w).
        parts: The similarity and its parts; its factors and products are overwritten.
        share: Twice the share of each position in the mean.
        window: The window.
    """
    # d similarity / d numerator = similarity / numerator: the other numerator over the denominator of both
    shares = torch.empty_like(parts.products)
    torch.div(share, parts.products[1], out=shares[0])
    torch.mul(shares[0], parts.similarity, out=shares[1])
    by_factor = parts.factors.mul_(shares[:, None]) if window.has_luminance else shares[:, None]
    gradient = torch.empty_like(moments)
    by_term = gradient if window.has_luminance else gradient[1:]  # at the squares of the means, and at the variances
    torch.sub(by_factor[1], by_factor[0], out=by_term[:, 0])
    torch.add(by_factor[1], by_factor[0], out=by_term[:, 1])
    if parts.means is not None:
        gradient[0].mul_(parts.means).addcmul_(moments[0], gradient[1], value=-1)
    else:
        torch.addcmul(constant((0.0,), like=share), moments[0], gradient[1], value=-1, out=gradient[0])
    return gradient

"""The mean dissimilarity of SSIM and its gradient, computed together.

On an accelerator each operator is one launch and a pass over memory, so that these are few; on NVIDIA GPUs the
pointwise parts are three Triton kernels.
"""

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._filters import constant, filter_by_sums, gaussian_numbers, gaussian_taps
from lossmith.device import is_on_host

__all__ = ["SimilarityWindow", "average", "compute_by_kernels", "compute_by_operators", "load_kernels"]


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
        if maps.dtype == torch.float64 and is_on_host(maps) and not torch.is_grad_enabled():  # a metric
            padded = F.pad(maps, (self.size - 1,) * 4) if back else maps
            return filter_by_sums(padded, gaussian_numbers(self.size, self.sigma))
        taps = gaussian_taps(self.size, self.sigma, like=maps).view(1, 1, 1, -1)
        image = maps.reshape(1, -1, *maps.shape[-2:])  # an image with as many channels as there are maps
        row, pad = taps.expand(image.shape[1], 1, 1, -1), self.size - 1 if back else 0
        image = F.conv2d(image, row, padding=(0, pad), groups=len(row))
        image = F.conv2d(image, row.transpose(2, 3), padding=(pad, 0), groups=len(row))  # the window is symmetric
        return image.view(*maps.shape[:-2], *image.shape[-2:])

    def offsets(self, like: Tensor) -> Tensor:
        """Return what is added to the moments of u and v, for contrast and luminance, (2, 2, 1, 1, 1, 1)."""
        return constant((2 * self.c2, 0.0, 2 * self.c1, 0.0), like=like).view(2, 2, 1, 1, 1, 1)


def average(maps: Tensor, mask: Tensor | None, is_joint: bool) -> Tensor:
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


def load_kernels(*images: Tensor) -> ModuleType | None:
    """Return the Triton kernels if they take some images; None for other devices and dtypes, and huge images."""
    for image in images:
        is_plain = image.is_cuda and image.dtype == torch.float32 and type(image) in (Tensor, torch.nn.Parameter)
        if not is_plain or 4 * image.numel() >= 2**31 or image.untyped_storage().nbytes() >= 2**33:
            return None
    return _load_kernels(images[0].device)


@cache
def _load_kernels(device: torch.device) -> ModuleType | None:
    try:
        from lossmith.losses import _structure_kernels as kernels

        one = torch.ones(1, 1, 1, 1, device=device)
        kernels.stack_moments(one, one, one, one, 1.0)
    except Exception:  # no Triton, no C compiler for its launcher, or a GPU that it does not support
        return None
    return kernels


def compute_by_kernels(
    kernels: ModuleType, x: Tensor, y: Tensor, window: SimilarityWindow, is_joint: bool, needed: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the mean dissimilarity, (N, C) or (N, 1), and the gradients of its sum at x and y where needed."""
    x_mean, y_mean = x.mean(dim=(2, 3), keepdim=True), y.mean(dim=(2, 3), keepdim=True)
    maps = kernels.stack_moments(x, y, x_mean, y_mean, window.c2)
    moments = window.filter(maps)
    count = moments[0, 0, 0, 0].numel() * (x.shape[1] if is_joint else 1)
    c1 = window.c1 if window.has_luminance else None
    dissimilarity = kernels.compare_moments(moments, x_mean, y_mean, 2 / count if any(needed) else None, c1, window.c2)
    values = average(dissimilarity, None, is_joint)
    if not any(needed):
        return values, None, None
    return values, *kernels.combine_gradients(window.filter(moments, back=True), maps, x, y, needed)


def compute_by_operators(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    window: SimilarityWindow,
    is_joint: bool,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the same as :func:`compute_by_kernels`, by PyTorch's operators, with or without a mask."""
    z, shift, moments = _compute_moments(x, y, window)
    factors, means = _compare(moments, shift, window)
    products = factors[:, 0] * factors[:, 1] if window.has_luminance else factors[:, 0]
    similarity = products[0] / products[1]
    values = average(1 - similarity if mask is not None else similarity, mask, is_joint)
    values = values if mask is not None else 1 - values
    if not any(needed):
        return values, None, None
    count = similarity[0, 0].numel() * (x.shape[1] if is_joint else 1)
    share = constant((2 / count,), like=x) if mask is None else 2 * _shares(mask, similarity, is_joint)
    # d similarity / d numerator = similarity / numerator: the other numerator over the denominator of both
    by_factor = torch.empty_like(products)
    torch.div(share, products[1], out=by_factor[0])
    torch.mul(by_factor[0], similarity, out=by_factor[1])
    by_factor = factors.mul_(by_factor[:, None]) if window.has_luminance else by_factor[:, None]
    del factors, products, similarity  # freed before the next maps are made, to hold fewer at once
    gradient = _differentiate(by_factor, moments[0], means)
    del by_factor, moments, means
    by_mean, by_square = window.filter(gradient, back=True)
    by_sum, by_difference = by_mean.addcmul_(z, by_square)
    return (
        values,
        by_sum + by_difference if needed[0] else None,
        by_sum - by_difference if needed[1] else None,
    )


def _compute_moments(x: Tensor, y: Tensor, window: SimilarityWindow) -> tuple[Tensor, Tensor, Tensor]:
    """Return u and v about their means, (2, N, C, H, W), these means, and the local means and mean squares."""
    maps = x.new_empty(2, 2, *x.shape)
    z = maps[0]
    torch.addcmul(x, y, _signs(x)[:, 0], out=z)
    shift = z.mean(dim=(3, 4), keepdim=True)
    z.sub_(shift)  # variances are invariant to a shift, and more accurate about the mean
    torch.addcmul(window.offsets(x)[0], z, z, out=maps[1])
    return z, shift, window.filter(maps)


def _compare(moments: Tensor, shift: Tensor, window: SimilarityWindow) -> tuple[Tensor, Tensor | None]:
    """Compute the parts of the similarity from the local means and mean squares of u and v.

    Returns:
        The numerators and denominators of contrast and, if it is compared, luminance, (2, 1 or 2, N, C, h, w); and the
        local means of u and v, (2, N, C, h, w), or None without luminance.
    """
    centred, squares = moments
    offsets = window.offsets(centred)
    terms = centred.new_empty(1 + window.has_luminance, *centred.shape)
    torch.addcmul(squares, centred, centred, value=-1, out=terms[0])
    torch.maximum(terms[0], offsets[0], out=terms[0])  # a variance is not negative
    means = centred + shift if window.has_luminance else None
    if means is not None:
        torch.addcmul(offsets[1], means, means, out=terms[1])
    return torch.addcmul(terms[None, :, 0], terms[None, :, 1], _signs(centred), value=-1), means


def _differentiate(by_factor: Tensor, centred: Tensor, means: Tensor | None) -> Tensor:
    """Return the gradient of the mean dissimilarity at the local means and mean squares of u and v.

    Args:
        by_factor: The products of numerators and denominators with their shares, (2, 1 or 2, N, C, h, w).
        centred: The local means about the means of the images.
        means: The local means; None without luminance.
    """
    gradient = centred.new_empty(2, *centred.shape)
    by_term = gradient if means is not None else gradient[1:]  # at the squares of the means, and at the variances
    torch.addcmul(by_factor[1, :, None], by_factor[0, :, None], _signs(centred)[:, 0], value=-1, out=by_term)
    if means is not None:
        gradient[0].mul_(means).addcmul_(centred, gradient[1], value=-1)
    else:
        torch.addcmul(constant((0.0,), like=centred), centred, gradient[1], value=-1, out=gradient[0])
    return gradient


def _signs(like: Tensor) -> Tensor:
    """Return 1 and -1, (2, 1, 1, 1, 1, 1); a sum and a difference are one operator with them."""
    return constant((1.0, -1.0), like=like).view(2, 1, 1, 1, 1, 1)

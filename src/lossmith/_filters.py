"""The separable Gaussian filter, and the root of the squares of a filter's outputs.

torch has no Gaussian filter, and torchvision's always reflects the border.

The kernel is computed at each call and is not a buffer, since half() of a parent module would round a buffer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gaussian_filter", "gaussian_taps", "safe_sqrt"]


def gaussian_taps(size: int, sigma: float, *, like: Tensor) -> Tensor:
    """Compute the samples of a centred Gaussian with sum 1, (size,).

    Args:
        size: The number of samples.
        sigma: The standard deviation in samples.
        like: A tensor of the dtype and device of the result.

    Example:
        >>> gaussian_taps(3, 1.0, like=torch.zeros(()))
        tensor([0.2741, 0.4519, 0.2741])
    """
    offsets = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    return weights / weights.sum()


def gaussian_filter(image: Tensor, size: int, sigma: float, *, pad: bool = False) -> Tensor:
    """Filter each channel by a Gaussian window.

    Args:
        image: (N, C, H, W).
        size: The side of the window in pixels; odd if the image is padded.
        sigma: The standard deviation in pixels.
        pad: Whether to replicate the border so that the shape is kept; if not, only positions at which the window fits
            are returned.

    Returns:
        (N, C, H, W) with padding, otherwise (N, C, H - size + 1, W - size + 1).
    """
    channels, radius = image.shape[1], size // 2
    row = gaussian_taps(size, sigma, like=image).view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    padded = F.pad(image, (radius, radius, 0, 0), mode="replicate") if pad else image
    filtered = F.conv2d(padded, row, groups=channels)
    padded = F.pad(filtered, (0, 0, radius, radius), mode="replicate") if pad else filtered
    return F.conv2d(padded, row.transpose(2, 3), groups=channels)


def safe_sqrt(squares: Tensor) -> Tensor:
    """Return the square root, with gradient 0 at 0, where that of `sqrt` is infinite."""
    is_nonzero = squares != 0
    return torch.where(is_nonzero, squares, 1.0).sqrt() * is_nonzero

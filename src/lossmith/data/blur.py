"""Blur kernels (Gaussian, sinc, motion) and filtering with one kernel for each image."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice, check_integer, check_number

__all__ = ["filter2d", "gaussian_kernel", "motion_kernel", "sinc_kernel"]

KernelProfile = Literal["gaussian", "generalised", "plateau"]

PATH_POINTS_PER_PIXEL = 4
DEPTHWISE_CHANNELS = 16
"""Channels that a depthwise convolution of oneDNN computes in the time of one; an image is cut into as many strips."""


def filter2d(image: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel, with a reflected border.

    Args:
        image: (N, C, H, W).
        kernels: (N, K, K) or (1, K, K) with odd K; each sums to 1.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: The kernels have another shape, or the images are smaller than the kernels' radius.

    Example:
        >>> filter2d(torch.ones(2, 3, 16, 16), gaussian_kernel(7, 1.0)[None]).shape
        torch.Size([2, 3, 16, 16])
    """
    n, c, height, width = image.shape
    size = kernels.shape[-1]
    if kernels.ndim != 3 or len(kernels) not in (1, n) or kernels.shape[-2] != size or size % 2 == 0:
        raise ValueError(
            f"filter2d kernels must have shape ({n}, K, K) or (1, K, K) with odd K; got {tuple(kernels.shape)}."
        )
    radius = size // 2
    if min(height, width) <= radius:
        raise ValueError(f"filter2d images must have sides of at least {radius + 1} px; got {height}x{width}.")
    strips = max(1, min(DEPTHWISE_CHANNELS // (n * c), height // size)) if image.device.type == "cpu" else 1
    rows = -(-height // strips)
    padded = F.pad(F.pad(image, (radius,) * 4, mode="reflect"), (0, 0, 0, rows * strips - height))
    padded = (
        padded.unfold(2, rows + 2 * radius, rows).transpose(-1, -2).reshape(1, n * c * strips, -1, width + 2 * radius)
    )
    weight = kernels.to(image).flip(-2, -1).expand(n, size, size).repeat_interleave(c * strips, dim=0)[:, None]
    return F.conv2d(padded, weight, groups=n * c * strips).view(n, c, rows * strips, width)[:, :, :height].contiguous()


def gaussian_kernel(
    kernel_size: int,
    sigma: float,
    sigma_y: float | None = None,
    *,
    angle: float = 0.0,
    profile: KernelProfile = "gaussian",
    beta: float = 1.0,
) -> Tensor:
    r"""Return an isotropic or anisotropic Gaussian-like kernel.

    With :math:`q = d^\top \Sigma^{-1} d` of the offset :math:`d`, the values are proportional to :math:`e^{-q/2}`
    (Gaussian), :math:`e^{-q^\beta / 2}` (generalised Gaussian) or :math:`1 / (1 + q^\beta)` (plateau).

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833

    Args:
        kernel_size: Side of the kernel in pixels, odd.
        sigma: Standard deviation along the first axis in pixels.
        sigma_y: Standard deviation along the second axis in pixels; None for an isotropic kernel.
        angle: Rotation of the axes in radians.
        profile: "gaussian", "generalised" or "plateau".
        beta: Exponent of the profiles "generalised" and "plateau".

    Returns:
        (kernel_size, kernel_size) with sum 1.

    Raises:
        ValueError: The size is even, a deviation or beta is not positive, or the profile is unknown.
    """
    check_number("gaussian_kernel sigma", sigma, low=0, open_low=True)
    sigma_y = check_number("gaussian_kernel sigma_y", sigma if sigma_y is None else sigma_y, low=0, open_low=True)
    check_number("gaussian_kernel beta", beta, low=0, open_low=True)
    check_choice("gaussian_kernel profile", profile, KernelProfile)
    y, x = _offsets(kernel_size)
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    q = (u / sigma).square() + (v / sigma_y).square()
    kernel = 1 / (1 + q**beta) if profile == "plateau" else torch.exp(-(q if profile == "gaussian" else q**beta) / 2)
    return _normalize(kernel)


def sinc_kernel(kernel_size: int, cutoff: float) -> Tensor:
    """Return the isotropic ideal low-pass kernel, which produces the ringing of sharpening and of poor resizing.

    Args:
        kernel_size: Side of the kernel in pixels, odd.
        cutoff: Cutoff frequency in radians per pixel, in (0, pi].

    Returns:
        (kernel_size, kernel_size) with sum 1.

    Raises:
        ValueError: The size is even, or the cutoff is out of range.
    """
    if not 0 < cutoff <= math.pi:
        raise ValueError(f"sinc_kernel cutoff must be in (0, pi]; got {cutoff!r}.")
    y, x = _offsets(kernel_size)
    r = (x.square() + y.square()).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r.clamp(min=1e-12))
    return _normalize(torch.where(r == 0, cutoff**2 / (4 * math.pi), kernel))


def motion_kernel(
    kernel_size: int, length: float, *, turn_std: float = 0.3, generator: torch.Generator | None = None
) -> Tensor:
    """Return the kernel of camera shake: a random walk of the direction, rendered with antialiasing.

    Args:
        kernel_size: Side of the kernel in pixels, odd. The path is centred; parts outside the kernel are cut off.
        length: Length of the path in pixels, positive.
        turn_std: Standard deviation of the change of direction per pixel of the path, in radians; 0 gives a line.
        generator: Random generator on the CPU; None for torch's default one.

    Returns:
        (kernel_size, kernel_size) with sum 1.

    Raises:
        ValueError: The size is even or too small for the path, the length is not positive, or turn_std is negative.

    Example:
        >>> motion_kernel(15, 9.0, turn_std=0.0, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([15, 15])
    """
    check_number("motion_kernel length", length, low=0, open_low=True)
    check_number("motion_kernel turn_std", turn_std, low=0)
    count = max(2, round(length * PATH_POINTS_PER_PIXEL))
    turns = torch.randn(count, generator=generator, dtype=torch.float64) * turn_std / math.sqrt(PATH_POINTS_PER_PIXEL)
    heading = 2 * math.pi * torch.rand(1, generator=generator, dtype=torch.float64) + turns.cumsum(0)
    path = torch.stack([heading.sin(), heading.cos()]).cumsum(1) * (length / count)
    path = path - path.mean(dim=1, keepdim=True)
    y, x = _offsets(kernel_size)
    coverage = [(1 - (axis[..., None] - points).abs()).clamp(min=0) for axis, points in ((y, path[0]), (x, path[1]))]
    kernel = (coverage[0] * coverage[1]).sum(dim=-1)
    if float(kernel.sum()) == 0:
        raise ValueError(
            f"motion_kernel kernel_size must be large enough for a path of {length:g} px; got {kernel_size}."
        )
    return _normalize(kernel)


def _offsets(kernel_size: int) -> tuple[Tensor, Tensor]:
    """Return the row and the column offset of each entry from the centre."""
    if check_integer("kernel_size", kernel_size, low=1) % 2 == 0:
        raise ValueError(f"kernel_size must be odd; got {kernel_size!r}.")
    line = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return rows, columns


def _normalize(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()

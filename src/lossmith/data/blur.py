"""Blur: kernels of lenses and of shaking hands, one for each picture, and how a picture goes through them."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blurred", "gaussian_kernel", "motion_kernel", "sinc_kernel"]

Profile = Literal["gaussian", "generalised", "plateau"]


def blurred(image: Tensor, kernels: Tensor) -> Tensor:
    """Pictures through a kernel each, the border mirrored.

    Args:
        image: (N, C, H, W).
        kernels: (N, K, K) or (1, K, K) with odd K, each with a sum of 1.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: Kernels that do not fit the pictures.

    Example:
        >>> blurred(torch.ones(2, 3, 16, 16), gaussian_kernel(7, 1.0)[None]).shape
        torch.Size([2, 3, 16, 16])
    """
    n, c, height, width = image.shape
    side = kernels.shape[-1]
    if kernels.ndim != 3 or len(kernels) not in (1, n) or kernels.shape[-2] != side or side % 2 == 0:
        raise ValueError(f"blurred wants kernels ({n}, K, K) or (1, K, K) with odd K; got {tuple(kernels.shape)}.")
    reach = side // 2
    if min(height, width) <= reach:
        raise ValueError(f"blurred wants pictures of at least {reach + 1} px a side; got {height}x{width}.")
    weight = kernels.to(image).flip(-2, -1).expand(n, side, side).repeat_interleave(c, dim=0)[:, None]
    padded = F.pad(image, (reach,) * 4, mode="reflect").reshape(1, n * c, height + 2 * reach, width + 2 * reach)
    return F.conv2d(padded, weight, groups=n * c).view(n, c, height, width)


def gaussian_kernel(
    side: int,
    sigma: float,
    across: float | None = None,
    *,
    angle: float = 0.0,
    profile: Profile = "gaussian",
    beta: float = 1.0,
) -> Tensor:
    r"""The kernels of a lens that is out of focus, round or drawn out.

    With :math:`q = d^\top \Sigma^{-1} d` of the offset :math:`d` they are :math:`e^{-q/2}`, the generalised
    :math:`e^{-q^\beta / 2}`, and the plateau :math:`1 / (1 + q^\beta)`.

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833

    Args:
        side: The kernel's side in pixels, odd.
        sigma: The width along the first axis in pixels.
        across: The width along the second; None for a round one.
        angle: By which the axes are turned, in radians.
        profile: "gaussian", "generalised" or "plateau".
        beta: The exponent of the latter two.

    Returns:
        (side, side) with a sum of 1.

    Raises:
        ValueError: An even side, no width, or another profile.
    """
    across = sigma if across is None else across
    if min(sigma, across, beta) <= 0:
        raise ValueError(f"gaussian_kernel wants widths and beta above 0; got {sigma!r}, {across!r} and {beta!r}.")
    if profile not in get_args(Profile):
        raise ValueError(f"gaussian_kernel knows {', '.join(get_args(Profile))}; got {profile!r}.")
    y, x = _places(side)
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    q = (u / sigma).square() + (v / across).square()
    kernel = 1 / (1 + q**beta) if profile == "plateau" else torch.exp(-(q if profile == "gaussian" else q**beta) / 2)
    return _normal(kernel)


def sinc_kernel(side: int, cutoff: float) -> Tensor:
    """The round ideal low-pass, whose ringing is that of sharpened and of badly resized pictures.

    Args:
        side: The kernel's side in pixels, odd.
        cutoff: The highest frequency that passes, in radians a pixel, in (0, pi].

    Returns:
        (side, side) with a sum of 1.
    """
    if not 0 < cutoff <= math.pi:
        raise ValueError(f"sinc_kernel wants a cutoff in (0, pi]; got {cutoff!r}.")
    y, x = _places(side)
    r = (x.square() + y.square()).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r.clamp(min=1e-12))
    return _normal(torch.where(r == 0, cutoff**2 / (4 * math.pi), kernel))


def motion_kernel(side: int, length: float, *, bend: float = 0.3, generator: torch.Generator | None = None) -> Tensor:
    """The path of a shaking hand: a walk that keeps its direction more or less, drawn with soft edges.

    Args:
        side: The kernel's side in pixels, odd; the path is centred in it, and cut off where it does not fit.
        length: Of the path in pixels, above 0.
        bend: The standard deviation of the turn in each pixel of the way, in radians; 0 is a straight line.
        generator: Of the path, on the CPU.

    Returns:
        (side, side) with a sum of 1.

    Example:
        >>> motion_kernel(15, 9.0, bend=0.0, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([15, 15])
    """
    if length <= 0 or bend < 0:
        raise ValueError(f"motion_kernel wants a length above 0 and a bend of at least 0; got {length!r} and {bend!r}.")
    fine = 4  # points a pixel
    count = max(2, round(length * fine))
    turns = torch.randn(count, generator=generator, dtype=torch.float64) * bend / math.sqrt(fine)
    heading = 2 * math.pi * torch.rand(1, generator=generator, dtype=torch.float64) + turns.cumsum(0)
    path = torch.stack([heading.sin(), heading.cos()]).cumsum(1) * (length / count)
    path = path - path.mean(dim=1, keepdim=True)
    y, x = _places(side)
    near = [(1 - (axis[..., None] - way).abs()).clamp(min=0) for axis, way in ((y, path[0]), (x, path[1]))]
    kernel = (near[0] * near[1]).sum(dim=-1)
    if float(kernel.sum()) == 0:
        raise ValueError(f"motion_kernel wants a side that holds the path of {length:g} px; got {side}.")
    return _normal(kernel)


def _places(side: int) -> tuple[Tensor, Tensor]:
    """The row and the column of each entry, from the middle."""
    if isinstance(side, bool) or not isinstance(side, int) or side < 1 or side % 2 == 0:
        raise ValueError(f"A kernel wants an odd side; got {side!r}.")
    line = torch.arange(side, dtype=torch.float64) - side // 2
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return rows, columns


def _normal(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()

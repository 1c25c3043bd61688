"""Sliced Wasserstein distance between the patches of two images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.metrics._images import DataRange, fill_missing_pixels, prepare_images

__all__ = ["swd"]

PATCH_SIZE, STRIDE, LEVELS, PROJECTIONS = 7, 3, 2, 64


@torch.no_grad()
def swd(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0) -> Tensor:
    r"""Compute the sliced Wasserstein distance between the patches of two images, in grey levels of 8 bits; 0 is best.

    .. math:: \frac{255}{2 K} \sum_{l=0}^{1} \sum_{k=1}^{K} \frac1P \sum_i
        \big| \operatorname{sort}(v_k^T P_l x)_i - \operatorname{sort}(v_k^T P_l y)_i \big|

    :math:`P_l x` are the patches of 7 x 7 px, at a stride of 3 px, of the l-th level of the image's Laplacian pyramid,
    the finest first, and :math:`v_k` are 64 fixed random unit vectors. The distance compares the distributions of
    detail, not its positions; LPIPS and DISTS compare position by position.

    Departures from the paper: two levels instead of levels down to 16 px, because upscaled images agree in the coarse
    levels; each pair of images by itself; and no division by the deviations of the patches, which would rate a blurred
    image like a sharp one. torchmetrics has no sliced Wasserstein distance.

    References:
        | Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2018)
        | https://arxiv.org/abs/1710.10196

    Args:
        pred: (N, C, H, W), with sides of at least 14 px without the border.
        target: The target, of the same shape.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), in 1/255 of the range, lower is better.

    Raises:
        ValueError: The images are too small or differ in shape, or the range or the border does not fit.

    Example:
        >>> noise = 0.1 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> swd(noise, noise), swd(noise.flip(3), noise) < 2, swd(0.5 * noise, noise) > 5
        (tensor([0.], dtype=torch.float64), tensor([True]), tensor([True]))
    """
    x, y = prepare_images("swd", pred, target, data_range=data_range, border=border)
    x, y = x.float(), fill_missing_pixels(x, y)[0].float()
    if min(x.shape[-2:]) < 2 * PATCH_SIZE:
        raise ValueError(f"swd needs images with sides of at least {2 * PATCH_SIZE} px; got {tuple(x.shape)}.")
    vectors = torch.randn(PROJECTIONS, x.shape[1] * PATCH_SIZE**2, generator=torch.Generator().manual_seed(0))
    directions = F.normalize(vectors, dim=1).to(x.device)
    return torch.stack([_pair_distance(a[None], b[None], directions) for a, b in zip(x, y, strict=True)])


def _pair_distance(pred: Tensor, target: Tensor, directions: Tensor) -> Tensor:
    distances = []
    for levels in zip(laplacian_pyramid(pred), laplacian_pyramid(target), strict=True):
        x, y = ((directions @ F.unfold(level, PATCH_SIZE, stride=STRIDE)[0]).sort(dim=1).values for level in levels)
        distances.append((x - y).abs().cpu().mean(dtype=torch.float64))
    return 255 * torch.stack(distances).mean()


def laplacian_pyramid(image: Tensor) -> list[Tensor]:
    """Return the finest levels of Burt and Adelson's Laplacian pyramid of an image (N, C, H, W)."""
    channels = image.shape[1]
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=image.device) / 16
    kernel = torch.outer(row, row).expand(channels, 1, 5, 5)
    levels = []
    for _ in range(LEVELS):
        half = F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)
        full = F.conv_transpose2d(F.pad(half, (1, 1, 1, 1), mode="replicate"), 4 * kernel, stride=2, groups=channels)
        levels.append(image - full[..., 4 : 4 + image.shape[-2], 4 : 4 + image.shape[-1]])
        image = half
    return levels

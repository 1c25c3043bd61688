"""A distance between the distributions of two pictures' patches, which needs no network."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["swd"]

SIDE, STRIDE, LEVELS, PROJECTIONS = 7, 3, 2, 64


def swd(pred: Tensor, target: Tensor) -> float:
    r"""The sliced Wasserstein distance between the patches of two pictures, in grey levels of 8 bits; 0 is best.

    .. math:: \frac{255}{2 K} \sum_{l=0}^{1} \sum_{k=1}^{K} \frac1P \sum_i
        \big| \operatorname{sort}(v_k^T P_l x)_i - \operatorname{sort}(v_k^T P_l y)_i \big|

    :math:`P_l x` are the patches of 7 x 7 px, every third one each way, of the l-th level of the picture's Laplacian
    pyramid, the finest first, and :math:`v_k` are 64 unit vectors, drawn once. It asks whether there is as much detail
    of each kind as in the truth, and not whether it is at its place: it is a distance of distributions, where LPIPS and
    DISTS compare place by place.

    Where we leave the paper: it looks at two levels, not down to 16 px, as enlarged pictures agree in the coarse ones;
    it takes the pictures one by one; and it does not divide by the patches' deviations, which would make a blurred
    picture as good as a sharp one.

    References:
        | Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2018)
        | https://arxiv.org/abs/1710.10196

    Args:
        pred: One picture, (1, 3, H, W), of at least 14 px a side.
        target: The true one, of the same shape.

    Raises:
        ValueError: The pictures are too small, or not of one shape.

    Example:
        >>> noise = 0.1 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> swd(noise, noise), swd(noise.flip(3), noise) < 2, swd(0.5 * noise, noise) > 5
        (0.0, True, True)
    """
    if pred.shape != target.shape or pred.ndim != 4 or pred.shape[:2] != (1, 3) or min(pred.shape[-2:]) < 2 * SIDE:
        raise ValueError(
            f"swd wants two pictures of one shape (1, 3, H, W), of at least {2 * SIDE} px a side; "
            f"got {tuple(pred.shape)} and {tuple(target.shape)}."
        )
    drawn = torch.randn(PROJECTIONS, 3 * SIDE**2, generator=torch.Generator().manual_seed(0))
    along = F.normalize(drawn, dim=1).to(pred.device)
    distances = []
    for levels in zip(laplacian_pyramid(pred.float()), laplacian_pyramid(target.float()), strict=True):
        x, y = ((along @ F.unfold(level, SIDE, stride=STRIDE)[0]).sort(dim=1).values for level in levels)
        distances.append((x - y).abs().mean(dtype=torch.float64))
    return 255 * torch.stack(distances).mean().item()


def laplacian_pyramid(image: Tensor) -> list[Tensor]:
    """The finest levels of Burt and Adelson's Laplacian pyramid: what each halving takes away."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=image.device) / 16
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    levels = []
    for _ in range(LEVELS):
        half = F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=3)
        full = F.conv_transpose2d(F.pad(half, (1, 1, 1, 1), mode="replicate"), 4 * kernel, stride=2, groups=3)
        levels.append(image - full[..., 4 : 4 + image.shape[-2], 4 : 4 + image.shape[-1]])
        image = half
    return levels

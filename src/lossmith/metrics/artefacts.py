"""Metrics of two artefacts of image networks: a pattern that repeats on a grid, and a shift of the colours."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_integer, check_number
from lossmith._filters import filter_by_sums
from lossmith.lenses.colour import compute_xyz_roots
from lossmith.metrics._images import DataRange, compute_once, mean_over_valid, prepare_images

__all__ = ["colour_shift", "grid_strength"]

BLOCK = 32
"""Side in pixels of the blocks in which a repeating pattern is measured."""


def grid_strength(
    pred: Tensor,
    target: Tensor,
    *,
    data_range: DataRange = 1.0,
    border: int = 0,
    period: int = 4,
    quantile: float | None = None,
) -> Tensor:
    r"""Compute the strength of a pattern that repeats every few pixels, in grey levels of 255.

    Upscalers draw such a pattern with the period of their scale factor, and LPIPS and DISTS reward it. The mean of the
    channels less its mean over 9 x 9 px is cut into blocks of 32 px. The average over all tiles of `period` x `period`
    px of a block keeps what repeats and cancels what does not:

    .. math:: 255 \sqrt{\text{mean}_b \, e_b}, \quad
        e_b = \text{mean}_{ij} \, \bar t_{bij}^2 - \tfrac{1 - 1/p^2}{n} \text{mean}_{ij} \operatorname{var}_n t_{bnij}

    with the n tiles t of block b, their average less its mean, and the energy that independent values would leave by
    chance. By eye nothing is seen below 0.5, and a hatch is plain at 1.5. A peak of the power spectrum is no
    substitute, because over smooth areas the smallest peak towers.

    Args:
        pred: (N, C, H, W) with sides of at least 32 px without the border.
        target: Not used; the metrics of this package are functions of two images.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.
        period: The period in pixels.
        quantile: Use this quantile of the energies of the blocks instead of their mean: 0.9 for the worst tenth.

    Returns:
        (N,), in grey levels of 255, lower is better.

    Raises:
        ValueError: The images differ in shape or are too small, or an argument is out of range.

    Example:
        >>> import torch
        >>> stripes = torch.full((1, 3, 64, 64), 0.5)
        >>> stripes[..., ::4] += 4 / 255
        >>> round(grid_strength(stripes, stripes).item(), 1)
        1.5
    """
    check_integer("grid_strength period", period, low=2, high=BLOCK // 2)
    if quantile is not None:
        check_number("grid_strength quantile", quantile, low=0, high=1)
    x, _ = prepare_images("grid_strength", pred, target, data_range=data_range, border=border)
    side = BLOCK // period * period
    if min(x.shape[-2:]) < side:
        raise ValueError(
            f"grid_strength needs images of at least {side} px a side without the border; got "
            f"{x.shape[-2]}x{x.shape[-1]}."
        )
    energy = compute_once("grid", x, partial(_pattern_energies, period=period), period)
    value = energy.mean(dim=1) if quantile is None else energy.quantile(quantile, dim=1)
    return 255 * value.clamp_min(0).sqrt()


def _pattern_energies(x: Tensor, period: int) -> Tensor:
    """Return the energy of the repeating pattern of each block, (N, blocks)."""
    side = BLOCK // period * period
    grey = x.mean(dim=1)
    detail = grey - _average_around(grey)
    rows, columns = (length // side for length in detail.shape[1:])
    detail = detail[:, : rows * side, : columns * side]
    tile, power = _average_tile(detail, side, period), _average_tile(detail.square(), side, 1)
    variance = power - tile.square().mean(dim=(2, 4), keepdim=True)  # among the tiles, averaged over their pixels
    chance = variance / ((side // period) ** 2 - 1) * (1 - 1 / period**2)
    pattern = tile - tile.mean(dim=(2, 4), keepdim=True)
    return (pattern.square().mean(dim=(2, 4), keepdim=True) - chance).flatten(1)


def _average_tile(values: Tensor, side: int, period: int) -> Tensor:
    """Return the average of the tiles of each block, (N, blocks, period, blocks, period)."""
    count, height, width = values.shape
    rows = values.view(count, height // side, side // period, period, width).mean(dim=2)  # fast, along rows of memory
    return rows.view(count, height // side, period, width // side, side // period, period).mean(dim=4)


def _average_around(image: Tensor) -> Tensor:
    """Return the mean of the pixels of an image, (N, H, W), in the square of 9 px around each."""

    def add_up(values: Tensor, dims: tuple[int, ...]) -> Tensor:
        return filter_by_sums(F.pad(values, (4, 4) * len(dims)), (1.0,) * 9, dims=dims)

    counts = [add_up(image.new_ones(side), (-1,)) for side in image.shape[1:]]
    return add_up(image, (-2, -1)) / torch.outer(*counts)


def colour_shift(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0) -> Tensor:
    r"""Compute the distance in CIELAB between the mean colours of each image and its target.

    .. math:: \lVert \text{mean}_i \, \text{Lab}(x_i) - \text{Lab}(y_i) \rVert_2

    A distance of 2.3 is just noticeable between two surfaces. Errors that cancel over the image do not count.

    Args:
        pred: RGB images (N, 3, H, W).
        target: The target, of the same shape.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), in CIELAB units, lower is better.

    Raises:
        ValueError: The images differ in shape or are not RGB, or the range or the border does not fit.

    Example:
        >>> import torch
        >>> round(colour_shift(torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.51)).item(), 1)
        1.0
    """
    x, y = prepare_images("colour_shift", pred, target, data_range=data_range, border=border, channels=3)
    pred_roots, target_roots = (compute_xyz_roots(image.float()) for image in (x, y))  # CIELAB is linear in them
    u, v, w = mean_over_valid((pred_roots - target_roots).double(), target_roots, dims=(2, 3)).unbind(dim=1)
    return torch.stack([116 * v, 500 * (u - v), 200 * (v - w)]).square().sum(dim=0).sqrt()

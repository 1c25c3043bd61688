"""3x3 convolutions by Winograd's algorithm F(2x2, 3x3): 16 products per 2x2 outputs, where 36 are usual.

The map is cut into tiles of 4x4 values that overlap by two. Each tile is transformed into 16 sums and differences, each
of these is multiplied by its own matrix of channels, and sums and differences of the products are the outputs. The
variant with 4x4 outputs saves more products, but its rounding error is ten times as large; the error of this one does
not exceed that of `conv2d`.

References:
    | Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, 2016)
    | https://arxiv.org/abs/1509.09308
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.cpu.packed_kernels import pack_matrix, packed_matmul
from lossmith.engine.layers import Conv

__all__ = ["is_winograd_faster", "transform_kernel", "winograd_conv2d"]

MIN_CHANNELS, MIN_PIXELS = 256 * 256, 128
"""The least product of input and output channels, since the transforms cost as much for few; and pixels in a batch."""
TILES = 256
"""The number of tiles processed at once: enough for a fast matrix product, and few enough for the cache."""

KERNEL_TRANSFORM = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def is_winograd_faster(x: Tensor, conv: Conv) -> bool:
    """Return whether a convolution of a map (N, C, H, W), or of its gradient, is faster this way; in float32 only."""
    n, _, h, w = x.shape
    out_channels, in_channels, *side = conv.weight.shape
    return (
        x.dtype == torch.float32
        and (side, conv.stride, conv.padding) == ([3, 3], 1, 1)
        and out_channels * in_channels >= MIN_CHANNELS
        and n * h * w >= MIN_PIXELS
        and _has_full_precision()
    )


def _has_full_precision() -> bool:
    """Return whether matrix products of float32 use full precision, which users may lower."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was set per backend, and has no single value
        return False


def transform_kernel(kernel: Tensor, *, back: bool = False) -> list[Tensor]:
    """Return a kernel (out, in, 3, 3) as 16 packed matrices (in, out), or (out, in) for the gradient of the input."""
    transform = torch.tensor(KERNEL_TRANSFORM, dtype=torch.float64)
    matrices = torch.einsum("ip,ocpq,jq->jico", transform, kernel.double(), transform)
    matrices = matrices.flatten(0, 1).to(kernel.dtype)
    return [pack_matrix(matrix) for matrix in (matrices.transpose(1, 2) if back else matrices)]


def winograd_conv2d(
    x: Tensor, matrices: Sequence[Tensor], bias: Tensor | None, channels: int, *, back: bool = False
) -> Tensor:
    """Return the convolution of a map with zero padding of 1.

    Args:
        x: The map (N, C, H, W), channels last.
        matrices: Those of :func:`transform_kernel`.
        bias: The bias (channels,), or None.
        channels: The channels of the result.
        back: Whether x is the gradient of the output, and the gradient of the input is computed: with the kernel
            rotated by 180 degrees, which swaps the first and the last of its four transformed rows and columns.
    """
    n, _, h, w = x.shape
    order = (3, 1, 2, 0) if back else (0, 1, 2, 3)
    tile_rows, tile_columns = -(-h // 2), -(-w // 2)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 2 * tile_columns - w + 1, 1, 2 * tile_rows - h + 1))
    output = x.new_empty(n, tile_rows, 2, tile_columns, 2, channels)
    rows_at_once = min(max(TILES // tile_columns, 1), tile_rows)
    images_at_once = max(TILES // (tile_rows * tile_columns), 1)
    for image in range(0, n, images_at_once):
        for top in range(0, tile_rows, rows_at_once):
            target = output[image : image + images_at_once, top : top + rows_at_once]
            source = padded[image : image + images_at_once, 2 * top : 2 * (top + rows_at_once) + 2]
            tiles = _transform_input(_transform_input(source, 1, order), 3, order).flatten(0, 1)
            products = [  # each output contains the sixth once, with weight 1
                packed_matmul(tile, matrix, bias if k == 5 else None)
                for k, (tile, matrix) in enumerate(zip(tiles, matrices, strict=True))
            ]
            columns = x.new_empty(2, 4, *products[0].shape)
            for row in range(4):
                _transform_output(products[row::4], columns[:, row], order)
            for column, values in zip(columns, target.unbind(4), strict=True):
                _transform_output(column, values.unbind(2), order)
    return output.view(n, 2 * tile_rows, 2 * tile_columns, -1)[:, :h, :w].permute(0, 3, 1, 2)


def _transform_input(x: Tensor, dim: int, order: Sequence[int]) -> Tensor:
    """Return the four combinations of each tile's values along a dimension, as a new first dimension."""
    end = x.shape[dim] - 2
    a, b, c, d = (x[(slice(None),) * dim + (slice(first, end + first, 2),)] for first in range(4))
    combined = x.new_empty(4, *a.shape)
    first, second, third, last = (combined[index] for index in order)
    torch.sub(a, c, out=first)
    torch.add(b, c, out=second)
    torch.sub(c, b, out=third)
    torch.sub(b, d, out=last)
    return combined


def _transform_output(
    products: Sequence[Tensor] | Tensor, values: Sequence[Tensor] | Tensor, order: Sequence[int]
) -> None:
    """Write the two values that four products make."""
    first, second, third, last = (products[index] for index in order)
    torch.add(torch.add(second, third), first, out=values[0])
    torch.sub(torch.sub(second, third), last, out=values[1])

"""Convolutions of 3 x 3 pixels by Winograd's algorithm: 16 products for each 2 x 2 values, where 36 are usual.

The map is cut into tiles of 4 x 4 values that overlap by two. Of a tile's values 16 sums and differences are made, each
is multiplied by a matrix of channels of its own, and sums and differences of the products are the values wanted. The
form for 4 x 4 values saves more products, and rounds ten times as coarsely; this one rounds no more coarsely than
`conv2d`, and a convolution and its gradient share the matrices.

References:
    | Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, 2016)
    | https://arxiv.org/abs/1509.09308
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.layers import Conv

__all__ = ["is_winograd_faster", "transform_kernel", "winograd_conv2d"]

DEEP, FEW = 256 * 256, 128
"""What pays: at least so many channels times channels, for the sums cost as much for a few; and pixels in a batch."""
TILES = 144
"""How many tiles are at work at once: enough for a fast product, and few enough to stay in the processor's cache."""

FORM = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def is_winograd_faster(x: Tensor, conv: Conv) -> bool:
    """Whether a convolution of a map (N, C, H, W), or of its gradient, takes less time so; in float32 alone."""
    n, _, h, w = x.shape
    out, inward, *side = conv.weight.shape
    return (
        x.dtype == torch.float32
        and (side, conv.stride, conv.padding) == ([3, 3], 1, 1)
        and out * inward >= DEEP
        and n * h * w >= FEW
        and _precise()
    )


def _precise() -> bool:
    """Whether products of float32 are computed as such, and no user lets them be coarse."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was set backend by backend, of which PyTorch tells no whole
        return False


def transform_kernel(kernel: Tensor) -> Tensor:
    """A kernel (out, in, 3, 3) as the products take it, (16, in, out)."""
    form = torch.tensor(FORM, dtype=torch.float64)
    return torch.einsum("ip,ocpq,jq->jico", form, kernel.double(), form).flatten(0, 1).to(kernel.dtype).contiguous()


def winograd_conv2d(x: Tensor, kernel: Tensor, bias: Tensor | None, *, back: bool = False) -> Tensor:
    """The convolution of a map with zeros around it.

    Args:
        x: (N, C, H, W), channels last.
        kernel: Of :func:`planes`.
        bias: (out,), or None.
        back: Whether x is the gradient of the outcome, and that of the map is wanted: the kernel turned by 180 degrees,
            which exchanges the first of its four rows with the last, and the first of its columns with the last.
    """
    n, _, h, w = x.shape
    kernel = kernel.transpose(1, 2) if back else kernel
    order = (3, 1, 2, 0) if back else (0, 1, 2, 3)
    high, wide = -(-h // 2), -(-w // 2)  # in tiles
    ground = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 2 * wide - w + 1, 1, 2 * high - h + 1))
    outcome = x.new_empty(n, high, 2, wide, 2, kernel.shape[2])
    rows, few = min(max(TILES // wide, 1), high), max(TILES // (high * wide), 1)
    for at in range(0, n, few):
        for top in range(0, high, rows):
            values = outcome[at : at + few, top : top + rows]
            seen = ground[at : at + few, 2 * top : 2 * (top + rows) + 2]
            tiles = _apart(_apart(seen, 1, order), 3, order)
            products = torch.bmm(tiles.view(16, -1, tiles.shape[-1]), kernel)
            if bias is not None:
                products[5].add_(bias)  # the one of which each value has one
            products = products.view(4, *tiles.shape[1:-1], -1)
            columns = products.new_empty(2, *products.shape[1:])
            _together(products, columns, order)
            for column, place in zip(columns, values.unbind(4), strict=True):
                _together(column, place.unbind(2), order)
    return outcome.view(n, 2 * high, 2 * wide, -1)[:, :h, :w].permute(0, 3, 1, 2)


def _apart(x: Tensor, dim: int, order: Sequence[int]) -> Tensor:
    """What the four values of each tile along a dimension become, as a new first dimension."""
    end = x.shape[dim] - 2
    a, b, c, d = (x[(slice(None),) * dim + (slice(first, end + first, 2),)] for first in range(4))
    made = x.new_empty(4, *a.shape)
    first, second, third, last = (made[place] for place in order)
    torch.sub(a, c, out=first)
    torch.add(b, c, out=second)
    torch.sub(c, b, out=third)
    torch.sub(b, d, out=last)
    return made


def _together(products: Tensor, values: Sequence[Tensor] | Tensor, order: Sequence[int]) -> None:
    """Puts the two values that four products make into their places."""
    first, second, third, last = (products[place] for place in order)
    torch.add(torch.add(second, third), first, out=values[0])
    torch.sub(torch.sub(second, third), last, out=values[1])

"""Triton kernels of SSIM's pointwise parts, which replace some twenty operators by three launches on NVIDIA GPUs.

Each element is computed as in :mod:`lossmith.losses._structure`. Images may have any strides. The module is imported on
first use, on a GPU only; Triton is part of PyTorch's wheels for Linux. In float32 only, as Triton's numbers
are, and with positions of 32 bits, whose division is several times faster than that of 64.
"""

# ruff: noqa: ANN001, ANN202
# mypy: ignore-errors

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["combine_gradients", "compare_moments", "stack_moments"]

BLOCK = 1024


@triton.jit
def _offsets(i, channels, height, width, s0, s1, s2, s3):
    """Return where element i of (N, C, H, W) lies in a tensor of some strides."""
    row = i // width
    plane = row // height
    return (plane // channels) * s0 + (plane % channels) * s1 + (row % height) * s2 + (i % width) * s3


@triton.jit
def _stack_moments(
    x, y, x_mean, y_mean, out, total, channels, height, width,
    x0, x1, x2, x3, y0, y1, y2, y3, offset, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    plane = i // (height * width)
    a = tl.load(x + _offsets(i, channels, height, width, x0, x1, x2, x3), inside, 0.0)
    b = tl.load(y + _offsets(i, channels, height, width, y0, y1, y2, y3), inside, 0.0)
    a_mean, b_mean = tl.load(x_mean + plane, inside, 0.0), tl.load(y_mean + plane, inside, 0.0)
    u = (a + b) - (a_mean + b_mean)
    v = (a - b) - (a_mean - b_mean)
    tl.store(out + i, u, inside)
    tl.store(out + total + i, v, inside)
    tl.store(out + 2 * total + i, u * u + offset, inside)
    tl.store(out + 3 * total + i, v * v, inside)


@triton.jit
def _compare_moments(
    moments, x_mean, y_mean, values, total, positions, share, c1, c2,
    HAS_LUMINANCE: tl.constexpr, HAS_GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    u, v = tl.load(moments + i, inside, 0.0), tl.load(moments + total + i, inside, 0.0)
    u_variance = tl.load(moments + 2 * total + i, inside, 1.0) - u * u
    v_variance = tl.load(moments + 3 * total + i, inside, 0.0) - v * v
    u_variance = tl.where(u_variance < c2, c2, u_variance)  # NaN stays NaN
    v_variance = tl.where(v_variance < 0.0, 0.0, v_variance)
    contrast, spread = u_variance - v_variance, u_variance + v_variance
    similarity = contrast / spread
    if HAS_LUMINANCE:
        plane = i // positions
        a_mean, b_mean = tl.load(x_mean + plane, inside, 0.0), tl.load(y_mean + plane, inside, 0.0)
        u_mean, v_mean = u + (a_mean + b_mean), v + (a_mean - b_mean)
        product = u_mean * u_mean + c1 - v_mean * v_mean
        power = u_mean * u_mean + c1 + v_mean * v_mean
        luminance = product / power
        if HAS_GRADIENT:
            by_product = -share * similarity / power
            by_power = -by_product * luminance
            u_back = u_mean * (by_product + by_power)
            v_back = v_mean * (by_power - by_product)
        factor = luminance
        similarity = similarity * luminance
    else:
        factor = 1.0
        u_back, v_back = 0.0 * u, 0.0 * v
    tl.store(values + i, 1.0 - similarity, inside)
    if HAS_GRADIENT:
        by_contrast = -share * factor / spread
        by_spread = share * similarity / spread
        by_u, by_v = by_contrast + by_spread, by_spread - by_contrast
        tl.store(moments + i, u_back - u * by_u, inside)
        tl.store(moments + total + i, v_back - v * by_v, inside)
        tl.store(moments + 2 * total + i, by_u, inside)
        tl.store(moments + 3 * total + i, by_v, inside)


@triton.jit
def _combine_gradients(
    filtered, maps, x_gradient, y_gradient, total, channels, height, width,
    x0, x1, x2, x3, y0, y1, y2, y3, HAS_X: tl.constexpr, HAS_Y: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    u, v = tl.load(maps + i, inside, 0.0), tl.load(maps + total + i, inside, 0.0)
    by_u = tl.load(filtered + i, inside, 0.0) + u * tl.load(filtered + 2 * total + i, inside, 0.0)
    by_v = tl.load(filtered + total + i, inside, 0.0) + v * tl.load(filtered + 3 * total + i, inside, 0.0)
    if HAS_X:
        tl.store(x_gradient + _offsets(i, channels, height, width, x0, x1, x2, x3), by_u + by_v, inside)
    if HAS_Y:
        tl.store(y_gradient + _offsets(i, channels, height, width, y0, y1, y2, y3), by_u - by_v, inside)


def stack_moments(x: Tensor, y: Tensor, x_mean: Tensor, y_mean: Tensor, c2: float) -> Tensor:
    """Return u = x + y and v = x - y about their means, and their squares with the offset of u, (2, 2, N, C, H, W)."""
    maps = torch.empty((2, 2, *x.shape), dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(x.numel(), BLOCK),)
    _stack_moments[grid](
        x, y, x_mean, y_mean, maps, x.numel(), *x.shape[1:], *x.stride(), *y.stride(), 2 * c2, BLOCK=BLOCK
    )
    return maps


def compare_moments(
    moments: Tensor, x_mean: Tensor, y_mean: Tensor, share: float | None, c1: float | None, c2: float
) -> Tensor:
    """Return the dissimilarity at each position; with a share, overwrite the moments by the gradient at them.

    Args:
        moments: The local means and mean squares of u and v, (2, 2, N, C, h, w), contiguous.
        x_mean: The means of x, (N, C, 1, 1).
        y_mean: The means of y, (N, C, 1, 1).
        share: Twice the share of a position in the mean dissimilarity; None to omit the gradient.
        c1: The constant of luminance; None if luminance is not compared.
        c2: The constant of contrast.
    """
    values = torch.empty_like(moments[0, 0])
    grid = (triton.cdiv(values.numel(), BLOCK),)
    positions = values.shape[2] * values.shape[3]
    constants = (share or 0.0, 2 * (c1 or 0.0), 2 * c2)
    options = {"HAS_LUMINANCE": c1 is not None, "HAS_GRADIENT": share is not None, "BLOCK": BLOCK}
    _compare_moments[grid](moments, x_mean, y_mean, values, values.numel(), positions, *constants, **options)
    return values


def combine_gradients(
    filtered: Tensor, maps: Tensor, x: Tensor, y: Tensor, needed: tuple[bool, bool]
) -> list[Tensor | None]:
    """Return the gradients at x and y, None where none is needed.

    Args:
        filtered: The filtered gradient at the local means and mean squares, (2, 2, N, C, H, W), contiguous.
        maps: The result of :func:`stack_moments`.
        x: The images.
        y: The other images.
        needed: Whether x and y need a gradient.
    """
    outputs = [torch.empty_like(each) if need else None for each, need in zip((x, y), needed, strict=True)]
    pointers = [filtered if each is None else each for each in outputs]
    strides = [stride for each in pointers for stride in (each.stride() if each.dim() == 4 else (0, 0, 0, 0))]
    grid = (triton.cdiv(x.numel(), BLOCK),)
    _combine_gradients[grid](
        filtered, maps, *pointers, x.numel(), *x.shape[1:], *strides, HAS_X=needed[0], HAS_Y=needed[1], BLOCK=BLOCK
    )
    return outputs

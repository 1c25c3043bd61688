"""Padding and cropping of images, also in graphs of torch.export, where the sides of an image are symbols."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PadMode", "crop_to", "next_multiple", "pad_to"]


PadMode = Literal["constant", "reflect", "replicate"]


def next_multiple(side: int, multiple: int) -> int:
    """Return a side, rounded up to a multiple."""
    return (side + multiple - 1) // multiple * multiple  # no negative number, whose quotient ONNX rounds up


def pad_to(image: Tensor, height: int, width: int, mode: PadMode) -> Tensor:
    """Return images padded on the right and below.

    Args:
        image: (N, C, h, w).
        height: Height of the result.
        width: Width of the result.
        mode: "constant" for zeros, "replicate", or "reflect" as far as possible, then "replicate".
    """
    if torch.compiler.is_exporting():
        return _gather(_gather(image, -2, height, mode), -1, width, mode)
    below, right = height - image.shape[-2], width - image.shape[-1]
    if right or below:
        if mode == "reflect":
            reflected = min(right, image.shape[-1] - 1), min(below, image.shape[-2] - 1)
            image = F.pad(image, (0, reflected[0], 0, reflected[1]), mode="reflect")
            right, below = right - reflected[0], below - reflected[1]
        image = F.pad(image, (0, right, 0, below), mode="constant" if mode == "constant" else "replicate")
    return image


def crop_to(image: Tensor, height: int, width: int) -> Tensor:
    """Return the upper left part of images."""
    if torch.compiler.is_exporting():
        return _gather(_gather(image, -2, height, "replicate"), -1, width, "replicate")
    return image[..., :height, :width]


def _gather(image: Tensor, dim: int, side: int, mode: str) -> Tensor:
    """Return images padded or cropped along a dimension by an index.

    Unlike padding and slices, an index puts no conditions on symbolic sides into a graph.
    """
    last = image.shape[dim] - 1
    position = torch.arange(side, device=image.device)
    if mode == "constant":
        is_inside = (position <= last).view((-1, 1) if dim == -2 else (-1,))
        return image.index_select(dim, position.clamp(max=last)) * is_inside
    index = (last - (position - last).abs()).clamp(min=0) if mode == "reflect" else position.clamp(max=last)
    return image.index_select(dim, index)

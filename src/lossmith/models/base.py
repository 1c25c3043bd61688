"""What networks that make images have in common, and how a large image goes through it in tiles."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.formula.weight import WeightValue

__all__ = ["Network", "Restorer", "run_tiled"]


class Network(nn.Module):
    """Whatever makes pictures and knows how to be built again.

    Args:
        scale: By how much it enlarges; 1 if there is nothing to enlarge.
        spec: What builds it again: ``{"name": ..., **arguments}``.
    """

    in_channels: int = 3
    """The channels that it is given; with more than 3 the others are the task's, such as a hole."""

    def __init__(self, scale: int, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.scale, self.spec = scale, dict(spec)


class Restorer(Network, ABC):
    """A network from (N, 3, h, w) to (N, 3, scale h, scale w), RGB in [0, 1]; its answers may overshoot a little.

    Args:
        scale: By how much it enlarges.
        reach: How many pixels of its input a pixel of its answer sees to each side; None if nobody knows.
        spec: What builds it again: ``{"name": ..., **arguments}``.
    """

    def __init__(self, scale: int, reach: int | None, spec: Mapping[str, Any]) -> None:
        super().__init__(scale, spec)
        self.receptive_radius = reach

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """The image restored."""

    def pad(self, image: Tensor) -> Tensor:
        """The image, or a map of its size, enlarged to the right and below to the sides that the network asks for."""
        return image


@torch.no_grad()
def run_tiled(
    model: Restorer,
    image: Tensor,
    *,
    tile: int = 256,
    overlap: int | None = None,
    knobs: Mapping[str, WeightValue] | None = None,
) -> Tensor:
    """Restores a large image in tiles, so that memory does not grow with it.

    Each tile is read with a rim that is cut off again. With a rim of the model's reach the result is that of one piece;
    a network that looks at the whole image at once (attention, pooling) gives nearly that.

    Args:
        model: The network; it is used as it is, so put it into eval mode and where the image is.
        image: (N, 3, H, W) of any size.
        tile: The side of a tile, rim not counted, in pixels of the image.
        overlap: The rim; the model's reach by default, or 32 if that is unknown.
        knobs: Those of the network, if it has any; maps are cut as the image is.

    Returns:
        (N, 3, scale H, scale W), on the image's device.

    Raises:
        ValueError: No tile, or a negative rim.
    """
    if overlap is None:
        overlap = 32 if model.receptive_radius is None else model.receptive_radius
    if tile < 1 or overlap < 0:
        raise ValueError(f"tiled wants tile >= 1 and overlap >= 0; got {tile} and {overlap}.")
    if overlap >= max(image.shape[-2:]):  # every rim is the whole image: one tile does it once
        tile = max(image.shape[-2:])
    scale, (height, width) = model.scale, image.shape[-2:]
    answer = image.new_empty(*image.shape[:-2], height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = min(top, overlap), min(left, overlap)
            rows, columns = slice(top - above, top + tile + overlap), slice(left - before, left + tile + overlap)
            turned = {
                name: value[..., rows, columns] if isinstance(value, Tensor) and value.ndim == 4 else value
                for name, value in (knobs or {}).items()
            }
            part = model(image[..., rows, columns], **turned)
            part = part[..., above * scale :, before * scale :][..., : tile * scale, : tile * scale]
            place = answer[..., top * scale : (top + tile) * scale, left * scale : (left + tile) * scale]
            place.copy_(part)
    return answer

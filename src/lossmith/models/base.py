"""Base classes of networks that produce images, and inference in tiles."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.formula.weight import WeightValue
from lossmith.models.position_noise import content_seed

__all__ = ["Network", "Restorer", "run_tiled"]

DEFAULT_OVERLAP = 32
"""Overlap in pixels of the tiles of a network with an unknown receptive field."""


class Network(nn.Module):
    """A network that produces images and can be rebuilt from its specification.

    Args:
        scale: Upscaling factor; 1 if the network does not upscale.
        spec: Arguments of :func:`build_network` that build the network: ``{"name": ..., **arguments}``.
    """

    image_channels: int = 3
    """Number of channels of the images: 3 for RGB."""

    in_channels: int = 3
    """Number of input channels; channels after those of the image depend on the task, such as a mask."""

    former_options: ClassVar[Mapping[str, str]] = {}
    """Arguments that were renamed: the name in files of earlier versions, and today's name."""

    former_modules: ClassVar[Mapping[str, str]] = {}
    """Submodules that were renamed: the name in files of earlier versions, and today's name."""

    def __init__(self, scale: int, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.scale, self.spec = scale, dict(spec)

    @classmethod
    def current_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments from a file of any version under today's names."""
        return {cls.former_options.get(name, name): value for name, value in options.items()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load weights, those of renamed submodules included."""
        for key in [key for key in state_dict if key.startswith(prefix)] if self.former_modules else ():
            parts = key.removeprefix(prefix).split(".")
            state_dict[prefix + ".".join(self.former_modules.get(p, p) for p in parts)] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Restorer(Network, ABC):
    """A network from (N, C, h, w) to (N, C, scale h, scale w) in [0, 1]; outputs may overshoot a little.

    Args:
        scale: Upscaling factor.
        receptive_radius: Number of input pixels on each side of a pixel that influence its output; None if unknown.
        spec: Arguments of :func:`build_network` that build the network: ``{"name": ..., **arguments}``.
        image_channels: Number of channels C of the images: 3 for RGB. Other numbers are added to `spec`.
    """

    uses_noise: ClassVar[bool] = False
    """Whether the output depends on noise; `forward` then takes its ``seed``, and the ``origin`` of a tile."""

    def __init__(
        self, scale: int, receptive_radius: int | None, spec: Mapping[str, Any], *, image_channels: int = 3
    ) -> None:
        extra = self.in_channels - self.image_channels
        if image_channels != 3:
            check_integer(f"{spec['name']} image_channels", image_channels, low=1)
            spec = {**spec, "image_channels": image_channels}
        super().__init__(scale, spec)
        self.receptive_radius = receptive_radius
        self.image_channels, self.in_channels = image_channels, image_channels + extra

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return the restored images."""

    def pad(self, image: Tensor) -> Tensor:
        """Return images, or a map of their size, padded on the right and below to the sides that the network needs."""
        return image


@torch.no_grad()
def run_tiled(
    model: Restorer,
    image: Tensor,
    *,
    tile: int = 256,
    overlap: int | None = None,
    knobs: Mapping[str, WeightValue] | None = None,
    seed: int | None = None,
    origin: Sequence[int] = (0, 0),
    on_tile_end: Callable[[int, int], object] | None = None,
) -> Tensor:
    """Restore large images in tiles, with a memory use that does not depend on their size.

    Each tile is processed with a margin that is cropped from the output. With a margin of the network's receptive
    radius, the result equals that of the whole image; a network with a global receptive field (attention, pooling)
    gives an approximation.

    Args:
        model: The network, in eval mode and on the device of the images.
        image: (N, 3, H, W) of any size.
        tile: Side of a tile without its margin, in input pixels.
        overlap: Width of the margin in input pixels; None for the network's receptive radius, or 32 if it is unknown.
        knobs: Knob values of the network; maps are cropped with the images.
        seed: Seed of the noise of a network that uses noise; None for a hash of each image.
        origin: Row and column of the first pixel, if the images are themselves tiles of larger ones.
        on_tile_end: Called after each tile with the number of finished tiles and of all tiles.

    Returns:
        (N, 3, scale H, scale W), on the device of the images.

    Raises:
        ValueError: The tile is smaller than 1 pixel, or the overlap is negative.
    """
    if overlap is None:
        overlap = DEFAULT_OVERLAP if model.receptive_radius is None else model.receptive_radius
    if tile < 1 or overlap < 0:
        raise ValueError(f"run_tiled needs tile >= 1 and overlap >= 0; got {tile} and {overlap}.")
    if overlap >= max(image.shape[-2:]):  # each margin would cover the whole image, which one tile processes once
        tile = max(image.shape[-2:])
    seeds = content_seed(image) if model.uses_noise and seed is None else seed
    scale, (height, width) = model.scale, image.shape[-2:]
    output = image.new_empty(*image.shape[:-2], height * scale, width * scale)
    tops, lefts = range(0, height, tile), range(0, width, tile)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts, start=1):
            above, before = min(top, overlap), min(left, overlap)
            rows, columns = slice(top - above, top + tile + overlap), slice(left - before, left + tile + overlap)
            tile_knobs = {
                name: value[..., rows, columns] if isinstance(value, Tensor) and value.ndim == 4 else value
                for name, value in (knobs or {}).items()
            }
            place = (origin[0] + top - above, origin[1] + left - before)
            noise = {"seed": seeds, "origin": place} if model.uses_noise else {}
            part = model(image[..., rows, columns], **tile_knobs, **noise)
            part = part[..., above * scale :, before * scale :][..., : tile * scale, : tile * scale]
            region = output[..., top * scale : (top + tile) * scale, left * scale : (left + tile) * scale]
            region.copy_(part)
            if on_tile_end is not None:
                on_tile_end(i * len(lefts) + j, len(tops) * len(lefts))
    return output

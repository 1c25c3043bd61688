"""One region of an image under a network: both ends of the knob once, then every setting of the knob at little cost."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data.formats.stored import StoredImage
from lossmith.data.missing import fill_missing
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.restored_image import restore_samples
from lossmith.formula.weight import WeightValue
from lossmith.inference.image_network import ImageNetwork
from lossmith.inference.knob_settings import knobs_of_map
from lossmith.inference.output_images import check_finite_output
from lossmith.metrics import compute_metrics, find_missing_metrics
from lossmith.models import OutputInterpolation, TexturedEDSR, run_tiled
from lossmith.models.base import DEFAULT_OVERLAP
from lossmith.models.slider import Slider
from lossmith.resize import upsample

__all__ = ["KnobEnds", "Region", "RegionRestorer", "enlarge_region", "measure_slider"]

REGION_METRICS = ("psnr_y", "psnr_rgb", "ssim_y")
"""The metrics of a region, which need no network."""
CUBIC_RADIUS = 2
"""Pixels on each side of a pixel that bicubic interpolation reads."""
SLIDER_POINTS = 21
"""Number of positions at which the slider of a region is measured."""


class Region(NamedTuple):
    """A region of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def centred(cls, size: tuple[int, int], side: int, centre: tuple[float, float] = (0.5, 0.5)) -> Self:
        """Return a region of at most a side around a point, inside of an image.

        Args:
            size: Height and width of the image.
            side: The largest height and width of the region.
            centre: The point, as fractions of height and width.

        Example:
            >>> Region.centred((100, 300), 120, (0.5, 1.0))
            Region(top=0, left=180, height=100, width=120)
        """
        lengths = [min(length, side) for length in size]
        starts = [
            min(max(round(length * fraction) - part // 2, 0), length - part)
            for length, part, fraction in zip(size, lengths, centre, strict=True)
        ]
        return cls(starts[0], starts[1], lengths[0], lengths[1])

    def grow(self, margin: int, size: tuple[int, int]) -> "Region":
        """Return the region with a margin, inside of an image of a height and a width."""
        top, left = max(self.top - margin, 0), max(self.left - margin, 0)
        bottom, right = min(self.top + self.height + margin, size[0]), min(self.left + self.width + margin, size[1])
        return Region(top, left, bottom - top, right - left)

    def scaled(self, scale: int) -> "Region":
        """Return the region of the enlarged image."""
        return Region(*(scale * each for each in self))

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def crop(self, image: StoredImage) -> StoredImage:
        """Return the region of an image."""
        alpha = None if image.alpha is None else image.alpha[self.window]
        return StoredImage(image.samples[(..., *self.window)], alpha, image.metadata)


class KnobEnds(NamedTuple):
    """The outputs (1, C, H, W) of a network at the low and the high end of its knob."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class RegionRestorer:
    """A network at one region of an image; results equal those of the whole image with the same seed.

    Args:
        network: The network.
        image: The whole image.
        region: The region, in pixels of the image.
        seed: Seed of a network with noise.
        tile: Side of a tile in input pixels.
    """

    network: ImageNetwork
    image: StoredImage
    region: Region
    seed: int = 0
    tile: int = 256

    @cached_property
    def ends(self) -> KnobEnds | None:
        """The outputs at both ends of the knob for the region with its margin; None for a network without a knob."""
        model, knob = self.network.model, self.network.knob
        if knob is None:
            return None
        if isinstance(model, TexturedEDSR):  # both ends in one pass
            with torch.no_grad():
                low, high = model.forward_ends(self._input, seed=self.seed, origin=self._outer[:2])
            return KnobEnds(low, high)
        low, high = (self._run(knob.knobs_at(t)) for t in (0.0, 1.0))
        return KnobEnds(low, high)

    def restore(self, knob: float | Tensor | None = None) -> StoredImage:
        """Return the region of the restored image, as a file holds it.

        Args:
            knob: The slider position from 0 to 1, or a map of positions for the whole image, (H, W); ignored by a
                network without a knob.

        Raises:
            ValueError: The image does not suit the network, or the output is not finite.
        """
        output = self._output(knob)
        check_finite_output(output, self.network.name)
        return self._store(output)

    def restore_ends(self) -> tuple[StoredImage, StoredImage]:
        """Return the region at both ends of the knob."""
        assert self.ends is not None
        return self._store(self.ends.low), self._store(self.ends.high)

    def measure(self, truth: StoredImage, knob: float | Tensor | None = None) -> dict[str, float]:
        """Return the metrics of the region against the truth.

        Args:
            truth: The true image, `scale` times as large as the image.
            knob: See :meth:`restore`.
        """
        scale, pixels = self.network.model.scale, self.network.pixels
        target = pixels.encode(self.region.scaled(scale).crop(truth)).values
        restored = pixels.encode(self.restore(knob)).values
        border = min(scale, (min(target.shape[-2:]) - 16) // 2)
        missing = find_missing_metrics(REGION_METRICS, channels=pixels.channels)
        names = [name for name in REGION_METRICS if name not in missing]
        return compute_metrics(
            restored[None], target[None], border=max(border, 0), metrics=names, pixels=pixels, scale=scale
        )

    @cached_property
    def _outer(self) -> Region:
        radius = self.network.model.receptive_radius
        return self.region.grow(DEFAULT_OVERLAP if radius is None else radius, self.image.samples.shape[-2:])

    @cached_property
    def _input(self) -> Tensor:
        """The region with its margin as the network sees it, (1, C, h, w)."""
        device = next(self.network.model.parameters()).device
        return fill_missing(self.network.pixels.encode(self._outer.crop(self.image)).values)[None].to(device)

    def _output(self, knob: float | Tensor | None) -> Tensor:
        model, network = self.network.model, self.network.knob
        if network is None:
            return self._run({})
        positions: float | Tensor = 0.5 if knob is None else knob
        if isinstance(positions, Tensor):
            positions = positions[self._outer.window]
        if isinstance(model, TexturedEDSR | OutputInterpolation):
            return self._mix(positions)
        if isinstance(positions, Tensor):
            return self._run(knobs_of_map(network, positions, self._input))
        return self._run(network.knobs_at(positions))

    def _mix(self, positions: float | Tensor) -> Tensor:
        """Return the interpolation of the ends, which is the network's output."""
        assert self.ends is not None
        if not isinstance(positions, Tensor):
            weight = self.network.mixing_weight(positions)
            return torch.lerp(*self.ends, weight)
        weights = self.network.mixing_weight(positions[None, None].to(self._input))
        assert isinstance(weights, Tensor)
        scale = self.network.model.scale
        weights = F.interpolate(weights, scale_factor=scale, mode="bilinear", align_corners=False)
        return torch.lerp(*self.ends, weights)

    def _run(self, knobs: dict[str, WeightValue]) -> Tensor:
        return run_tiled(
            self.network.model,
            self._input,
            tile=self.tile,
            knobs=knobs,
            seed=self.seed if self.network.model.uses_noise else None,
            origin=self._outer[:2],
        )

    def _store(self, output: Tensor) -> StoredImage:
        """Return the output without the margin as samples of the file."""
        inner = Region(self.region.top - self._outer.top, self.region.left - self._outer.left, *self.region[2:])
        scale = self.network.model.scale
        cropped = output[(..., *inner.scaled(scale).window)].cpu()
        return restore_samples(self.region.crop(self.image), lambda _: cropped, self.network.pixels, scale=scale).image


def measure_slider(restorer: RegionRestorer, truth: StoredImage, points: int = SLIDER_POINTS) -> Slider:
    """Return a slider with the metrics that were measured on a region at evenly spaced positions.

    Args:
        restorer: The network, which has a knob, and the region.
        truth: The true image.
        points: Number of positions.
    """
    positions = tuple(i / (points - 1) for i in range(points))
    rows = [restorer.measure(truth, t) for t in positions]
    metrics = {name: tuple(row[name] for row in rows) for name in rows[0]}
    return Slider(positions, positions, metrics, "", "the region")


def enlarge_region(image: StoredImage, region: Region, pixels: PixelFormat, scale: int) -> Tensor:
    """Return a region of an image as a network sees it, enlarged by bicubic interpolation, (C, H, W).

    Args:
        image: The whole image.
        region: The region.
        pixels: The samples of the network.
        scale: The factor.
    """
    outer = region.grow(CUBIC_RADIUS, image.samples.shape[-2:])
    inner = Region(region.top - outer.top, region.left - outer.left, *region[2:]).scaled(scale)
    values = fill_missing(pixels.encode(outer.crop(image)).values)
    return upsample(values[None], scale)[0][(..., *inner.window)]

"""A network applied to image files: depth, bands, transparency and metadata are kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lossmith.data.formats.files import natural_suffix, read_image_header, read_stored
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.restored_image import RestoredImage, describe_counts, restore_samples
from lossmith.formula.weight import WeightValue
from lossmith.inference.output_images import (
    NonFiniteOutputError,
    check_finite_output,
    check_output_file,
    fit_format,
    write_stored_atomically,
)
from lossmith.inference.regions import is_large_tiff, restore_regions
from lossmith.inference.samples import image_pixels
from lossmith.models import Restorer, run_tiled

__all__ = ["RestoringJob", "UnreadableImageError"]


class UnreadableImageError(ValueError):
    """An image cannot be read, or does not suit the network; the message is the reason.

    Args:
        error: The reason.
        purpose: What cannot be done: "read as an image" or "restored".
    """

    def __init__(self, error: ValueError, purpose: str) -> None:
        super().__init__(str(error).removesuffix("."))
        self.purpose = purpose


@dataclass(frozen=True)
class RestoringJob:
    """A network with its settings, which restores image files.

    Args:
        model: The network, in eval mode.
        pixels: The samples that the network takes.
        knobs: Returns the knob values for an input (1, C, H, W), see
            :func:`lossmith.inference.knob_settings.parse_knob_settings`.
        has_map: Whether the knob values are maps of the whole input.
        seed: Seed of the texture of a network with noise; None for a hash of each image.
        tile: Side of a tile in input pixels.
        value_range: The range of the stored values, ``low:high`` or "auto"; None for that of the training.
        transfer: The transfer function; None for that of the training.
        page: The page of a file with several pages, from 1.
        each_band: Whether each band is restored by itself as a grey image; the network takes grey or RGB.
        on_tile_end: Called after each tile of an image in memory with the number of finished tiles and of all tiles.

    Raises:
        ValueError: Each band is to be restored by itself, and the network takes neither grey nor RGB.
    """

    model: Restorer
    pixels: PixelFormat
    knobs: Callable[[Tensor], dict[str, WeightValue]] = lambda image: {}
    has_map: bool = False
    seed: int | None = None
    tile: int = 256
    value_range: str | None = None
    transfer: str | None = None
    page: int | None = None
    each_band: bool = False
    on_tile_end: Callable[[int, int], object] | None = None

    def __post_init__(self) -> None:
        if self.each_band and self.model.image_channels not in (1, 3):
            raise ValueError(
                f"--each-band needs a network for grey or RGB images; this one takes {self.model.image_channels} bands."
            )

    def restore(self, image: Tensor, name: str, origin: tuple[int, int] | None = None) -> Tensor:
        """Return the output for an input (1, C, H, W), on the CPU.

        Args:
            image: The input.
            name: The file, for the message.
            origin: Row and column of the first pixel if the input is a region of an image.

        Raises:
            ValueError: A map of the knob is given for a region, or the output is not finite.
        """
        if self.has_map and origin is not None:
            raise ValueError("a map of the knob needs the whole image; omit --at, or give a number")
        moved = image.to(_device_of(self.model))
        if not self.each_band:
            output = self._apply(moved, origin)
        else:
            grey = (band.expand(-1, self.model.image_channels, -1, -1) for band in moved.unsqueeze(2).unbind(1))
            output = torch.cat([self._apply(band, origin).mean(dim=1, keepdim=True) for band in grey], dim=1)
        check_finite_output(output, name)
        return output

    def _apply(self, image: Tensor, origin: tuple[int, int] | None) -> Tensor:
        # regions of one image share a seed, which the content of each cannot give
        seed = 0 if self.seed is None and origin is not None else self.seed
        place = origin or (0, 0)
        return run_tiled(
            self.model,
            image,
            tile=self.tile,
            knobs=self.knobs(image),
            seed=seed,
            origin=place,
            on_tile_end=self.on_tile_end if origin is None else None,
        ).cpu()

    def run(self, file: Path, out: Path, *, has_suffix: bool) -> str:
        """Restore a file, and return the line to print.

        Args:
            file: The input.
            out: The output.
            has_suffix: Whether the suffix decides the format; otherwise, that of the format that suits the image is
                added.

        Raises:
            UnreadableImageError: The file cannot be read, or does not suit the network.
            ValueError: The output cannot be written in the format of the suffix, or is not finite.
        """
        if self.each_band:
            return replace(self, pixels=self._pixels_of(file))._run(file, out, has_suffix=has_suffix)
        return self._run(file, out, has_suffix=has_suffix)

    def _pixels_of(self, file: Path) -> PixelFormat:
        """Return the samples of the network for all bands of a file."""
        try:
            return replace(self.pixels, channels=read_image_header(file, self.page).bands)
        except ValueError as error:
            raise UnreadableImageError(error, "read as an image") from error

    def _run(self, file: Path, out: Path, *, has_suffix: bool) -> str:
        large = self._run_in_regions(file, out if has_suffix else out.with_name(f"{out.name}.tif"))
        if large is not None:
            return large
        image, counts = self._restore_whole(file, out.suffix if has_suffix else None)
        if not has_suffix:
            out = out.with_name(out.name + natural_suffix(image))
            check_output_file(out, [file])
        write_stored_atomically(out, image)
        height, width = image.samples.shape[-2:]
        return "; ".join([f"{out}: {width}x{height} px", *describe_counts(counts)])

    def _restore_whole(self, file: Path, suffix: str | None) -> RestoredImage:
        """Restore a file in memory, for a file of a suffix."""
        try:
            image = read_stored(file, self.page)
        except ValueError as error:
            raise UnreadableImageError(error, "read as an image") from error
        if suffix is not None:
            fit_format(image, suffix)  # raises before minutes of work
        try:
            if image.bands not in (1, self.pixels.channels) and self.model.image_channels in (1, 3):
                raise ValueError(
                    f"the image has {image.bands} bands; expected {self.pixels.channels}, or --each-band to restore "
                    "each as a grey image"
                )
            pixels = image_pixels(self.pixels, image, self.value_range, self.transfer)
            return restore_samples(image, lambda x: self.restore(x, str(file)), pixels, scale=self.model.scale)
        except NonFiniteOutputError:
            raise
        except ValueError as error:
            raise UnreadableImageError(error, "restored") from error

    def _run_in_regions(self, file: Path, out: Path) -> str | None:
        """Restore a large TIFF region by region, and return the line to print; None for other files."""
        if self.value_range == "auto" or not is_large_tiff(file, self.page):
            return None
        if out.suffix.lower() not in (".tif", ".tiff"):
            raise ValueError(
                f"An image of this size is written as TIFF; give an output in .tif instead of {str(out)!r}."
            )
        check_output_file(out, [file])
        try:
            height, width, notes = restore_regions(
                file,
                out,
                lambda image, origin: self.restore(image, str(file), origin),
                self.pixels,
                scale=self.model.scale,
                tile=self.tile,
                radius=self.model.receptive_radius,
                page=self.page,
            )
        except NonFiniteOutputError:
            raise
        except ValueError as error:
            raise UnreadableImageError(error, "restored by regions") from error
        return "; ".join([f"{out}: {width}x{height} px", *notes])


def _device_of(model: Restorer) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

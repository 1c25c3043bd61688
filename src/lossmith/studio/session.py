"""The image that a user has opened, and what the networks made of its region."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor

from lossmith.data.display import choose_display
from lossmith.data.formats.files import natural_suffix
from lossmith.data.formats.stored import StoredImage
from lossmith.image import to_pil
from lossmith.inference.image_network import ImageNetwork
from lossmith.inference.knob_settings import describe_position
from lossmith.inference.region import Region, RegionRestorer, enlarge_region, measure_slider
from lossmith.metrics import METRICS
from lossmith.studio.temporary import use_temporary_folder
from lossmith.studio.viewer import Side

__all__ = ["ACCURATE", "BRUSH_OPACITY", "REALISTIC", "SEED", "ImageSession"]

REALISTIC, ACCURATE = "#cf5a00", "#0068a8"
"""The colours of the brush."""
BRUSH_OPACITY = 0.6
"""The opacity of the brush, through which the image stays visible; such a stroke sets the slider's position fully."""
SEED = 0
"""The seed of networks with noise; one seed, so that the region equals that of the whole image."""
SLIDER_STEPS = 101
"""Number of positions of the slider in the page."""
OVERVIEW_SIDE = 400
"""The largest side of the overview in pixels."""


class ImageSession:
    """An opened image: its region, its truth, the slider and the painting.

    Args:
        networks: The networks.
        file: The file of the image.
        image: Its content.
        preview: The largest side of the region in pixels of the output.
    """

    def __init__(self, networks: Sequence[ImageNetwork], file: Path, image: StoredImage, preview: int) -> None:
        self.networks, self.file, self.image = networks, file, image
        self.scale = max(network.model.scale for network in networks)
        self.side = max(preview // self.scale, 1)
        self.size: tuple[int, int] = image.samples.shape[-2:]
        self.truth: StoredImage | None = None
        self.position, self.selected = 0.5, 0
        self.painting: tuple[np.ndarray, np.ndarray] | None = None
        """Slider positions and opacities of the painted pixels, (H, W), from 0 to 255."""
        self.folder = Path(tempfile.mkdtemp(dir=use_temporary_folder()))
        self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        """Delete the files of the session."""
        self.select_region((0.5, 0.5))

    def select_region(self, centre: tuple[float, float]) -> None:
        """Move the region to a point, as fractions of height and width."""
        self.region = Region.centred(self.size, self.side, centre)
        self.restorers = [RegionRestorer(network, self.image, self.region, seed=SEED) for network in self.networks]
        pixels = self.networks[0].pixels
        self._display = choose_display(pixels.encode(self.region.crop(self.image)).values, pixels)

    def set_truth(self, truth: StoredImage | None) -> None:
        """Compare with a true image; None for none.

        Raises:
            ValueError: It has another size than the output of the networks, or another number of bands.
        """
        if truth is not None:
            height, width = (self.scale * length for length in self.size)
            found = truth.samples.shape[-2:]
            if found != (height, width):
                raise ValueError(
                    f"The truth must have the size of the output, {width}x{height} px; got {found[1]}x{found[0]} px."
                )
            if truth.bands != self.image.bands:
                raise ValueError(f"The truth must have {self.image.bands} bands, as the image; got {truth.bands}.")
        self.truth = truth

    @property
    def knob_restorers(self) -> list[RegionRestorer]:
        """The networks with a knob."""
        return [restorer for restorer in self.restorers if restorer.network.knob is not None]

    def find_position(self, condition: str) -> float:
        """Return the slider position that meets a condition, such as psnr>=28.

        With a truth, the metrics are measured on the region; otherwise, those of the network's calibration are used.

        Raises:
            ValueError: No position meets the condition, or there is neither a truth nor a calibration.
        """
        restorer = self.knob_restorers[0]
        if self.truth is not None and restorer.network.model.scale == self.scale:
            return measure_slider(restorer, self.truth).find_position(condition)
        assert restorer.network.knob is not None
        slider = restorer.network.knob.slider
        if slider is None:
            raise ValueError(
                f"The slider of {restorer.network.source!r} is not measured yet; give the truth of the image, or run "
                "lossmith knob sweep."
            )
        return slider.find_position(condition)

    # The painting

    def paint(self, layers: Sequence[Image.Image]) -> None:
        """Set slider positions by strokes over the region: 1 where the colour is rather red, 0 where it is blue."""
        if self.painting is None:
            self.painting = np.zeros(self.size, np.uint8), np.zeros(self.size, np.uint8)
        positions, opacities = (plane[self.region.window] for plane in self.painting)
        positions[:], opacities[:] = 0, 0
        for layer in layers:
            size = (self.region.width, self.region.height)
            red, _, blue, alpha = np.moveaxis(
                np.asarray(layer.convert("RGBA").resize(size, Image.Resampling.BOX)), -1, 0
            )
            is_painted = alpha > 0
            positions[is_painted] = np.where(red > blue, 255, 0)[is_painted]
            strength = np.rint(np.minimum(alpha / BRUSH_OPACITY, 255)).astype(np.uint8)
            np.maximum(opacities, strength, out=opacities)

    def painted_layer(self) -> Image.Image | None:
        """Return the strokes over the region, in the colours and at the size of the editor; None without any."""
        if self.painting is None or not self.painting[1][self.region.window].any():
            return None
        positions, opacities = (plane[self.region.window] for plane in self.painting)
        colours = np.array([ImageColor.getrgb(colour) for colour in (ACCURATE, REALISTIC)], np.uint8)
        alpha = np.rint(opacities * BRUSH_OPACITY).astype(np.uint8)
        layer = Image.fromarray(np.dstack([colours[positions // 255], alpha]))
        return layer.resize((self.region.width * self.scale, self.region.height * self.scale), Image.Resampling.NEAREST)

    @property
    def has_painting(self) -> bool:
        """Whether a stroke is painted."""
        return self.painting is not None and bool(self.painting[1].any())

    def knob_map(self) -> np.ndarray:
        """Return the slider position of each pixel, (H, W), from 0 to 255: the painting over the slider's position."""
        assert self.painting is not None
        positions, opacities = (plane.astype(np.float32) for plane in self.painting)
        return np.rint(255 * self.position + (positions - 255 * self.position) * (opacities / 255)).astype(np.uint8)

    @property
    def knob(self) -> float | Tensor:
        """The slider position, or the map of positions."""
        return torch.from_numpy(self.knob_map()).float() / 255 if self.has_painting else self.position

    # What the page shows

    def sides(self) -> list[Side]:
        """Return the images of the viewer."""
        pixels = self.networks[0].pixels
        shown = pixels.encode(self.region.crop(self.image)).values
        sides = [Side("input", "input", self._render(shown))]
        if self.scale > 1:
            sides.append(Side("bicubic", "bicubic", self.background()))
        exact = self.exact_outputs()
        for index, restorer in enumerate(self.restorers):
            key, name = f"run{index}", restorer.network.name
            if restorer.network.knob is None:
                sides.append(Side(key, name, self._render_stored(restorer.restore(), restorer.network), colour=index))
                continue
            low, high = (self._render_stored(each, restorer.network) for each in restorer.restore_ends())
            places = (i / (SLIDER_STEPS - 1) for i in range(SLIDER_STEPS))
            weights = [float(restorer.network.mixing_weight(t)) for t in places]
            sides.append(Side(key, name, low, high, weights, exact[key], index))
        if self.truth is not None:
            part = self.region.scaled(self.scale).crop(self.truth)
            sides.append(Side("truth", "truth", self._render_stored(part, self.networks[0])))
        return sides

    def exact_outputs(self) -> dict[str, Image.Image]:
        """Return the outputs of the networks with a knob at the slider's position, or at the painting."""
        return {
            f"run{index}": self._render_stored(restorer.restore(self.knob), restorer.network)
            for index, restorer in enumerate(self.restorers)
            if restorer.network.knob is not None
        }

    @cached_property
    def _thumbnail(self) -> Image.Image:
        step = max(1, -(-max(self.size) // (2 * OVERVIEW_SIDE)))
        small = StoredImage(self.image.samples[:, ::step, ::step], None, self.image.metadata)
        overview = self._render(self.networks[0].pixels.encode(small).values)
        overview.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE), Image.Resampling.BOX)
        return overview

    @property
    def overview_size(self) -> tuple[int, int]:
        """Width and height of the overview."""
        return self._thumbnail.size

    def background(self) -> Image.Image:
        """Return the image to paint on: the region, enlarged."""
        pixels = self.networks[0].pixels
        return self._render(enlarge_region(self.image, self.region, pixels, self.scale))

    def overview(self) -> Image.Image:
        """Return the whole image in small, with the region outlined."""
        overview = self._thumbnail.copy()
        unit = overview.width / self.size[1], overview.height / self.size[0]
        top, left, height, width = self.region
        box = [left * unit[0], top * unit[1], (left + width) * unit[0] - 1, (top + height) * unit[1] - 1]
        pen = ImageDraw.Draw(overview)
        pen.rectangle(box, outline="black", width=3)
        pen.rectangle(box, outline="white", width=1)
        return overview

    def describe(self) -> str:
        """Return the image, the slider's position and the metrics, as Markdown."""
        (height, width), dtype = self.size, self.image.samples.dtype
        bands = {1: "grey", 3: "RGB"}.get(self.image.bands, f"{self.image.bands} bands")
        part = (
            ""
            if self.region[2:] == self.size
            else f"; region {self.region.width}x{self.region.height} px at {self.region.left},{self.region.top}"
        )
        lines = [f"`{self.file.name.replace('`', '')}`: {width}x{height} px, {bands}, {dtype}{part}"]
        for restorer in self.restorers:
            network, knob = restorer.network, restorer.network.knob
            texts = [] if knob is None or self.has_painting else describe_position(knob, self.position).splitlines()
            if self.truth is not None and network.model.scale == self.scale:
                texts.append(f"measured on this region: {self._measure(restorer, self.truth)}")
            if texts:
                lines.append(f"**{network.name}** " + "; ".join(texts))
        return "\n\n".join(lines)

    def _measure(self, restorer: RegionRestorer, truth: StoredImage) -> str:
        try:
            measured = restorer.measure(truth, self.knob)
        except ValueError as error:  # too small a region for a metric
            return str(error)
        return ", ".join(f"{METRICS[key].name} {METRICS[key].format(value)}" for key, value in measured.items())

    # The whole image

    def command(self) -> str:
        """Return the command line that restores a folder, or with a painting the image, with the selected network."""
        network = self.networks[self.selected]
        if self.has_painting:
            out = f"{self.file.stem}-restored{natural_suffix(self.image)}"
            return network.command(self.file.name, out, at="map.png", seed=SEED)
        return network.command("photos/", "restored/", at=f"{self.position:g}", seed=SEED)

    def write_map(self) -> Path:
        """Write the painted map as map.png for ``--at map.png``, and return the file."""
        file = self.folder / "map.png"
        Image.fromarray(self.knob_map()).save(file)
        return file

    def _render(self, values: Tensor) -> Image.Image:
        return to_pil(self._display.render(values))

    def _render_stored(self, image: StoredImage, network: ImageNetwork) -> Image.Image:
        return self._render(network.pixels.encode(image).values)

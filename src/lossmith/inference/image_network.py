"""A network as `lossmith restore` applies it: its samples, its knob, and the command line."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from lossmith.data.pixel_format import PixelFormat
from lossmith.device import resolve_device
from lossmith.formula.weight import WeightValue
from lossmith.inference.knob_settings import interpolate_ends
from lossmith.inference.networks import find_weights_file, load_image_network, select_weights
from lossmith.inference.samples import network_pixels
from lossmith.models import ConditionedNetwork, OutputInterpolation, Restorer, TexturedEDSR
from lossmith.models.knob_network import KnobNetwork
from lossmith.models.shipped import DEFAULT_UPSCALER

__all__ = ["ImageNetwork"]


@dataclass(frozen=True)
class ImageNetwork:
    """A network that restores images, with the samples that it takes.

    Args:
        source: The run folder, the file of weights, or the name of a network of the package.
        model: The network, in eval mode.
        pixels: The samples that the network takes.
        interpolation: The interpolation of the outputs of a conditioned network with one knob; None for other networks.
    """

    source: str
    model: Restorer
    pixels: PixelFormat
    interpolation: OutputInterpolation | None = None

    @classmethod
    def load(cls, source: str, device: str | torch.device = "cpu") -> Self:
        """Return the network of a run folder, of a file of weights or of the package.

        Raises:
            ValueError: There is no network, or it takes a mask.
        """
        file = select_weights(source, None)
        model = load_image_network(file).to(resolve_device(device))
        pixels = network_pixels(find_weights_file(file), model)
        has_one_knob = isinstance(model, ConditionedNetwork) and len(model.knobs) == 1
        return cls(source, model, pixels, interpolate_ends(model, source) if has_one_knob else None)

    @property
    def name(self) -> str:
        """The name of the run or of the file."""
        path = Path(self.source)
        return path.stem if path.suffix == ".safetensors" else path.name or self.source

    @property
    def knob(self) -> KnobNetwork | None:
        """The network, if it has a knob."""
        return self.model if isinstance(self.model, KnobNetwork) else None

    def mixing_weight(self, t: WeightValue) -> WeightValue:
        """Return the weight of the output at the high end of the knob, from 0 to 1, at a slider position.

        For a network with a texture branch, the mixture of the ends is the network's output; for a conditioned network,
        it resembles the output.
        """
        assert self.knob is not None
        if self.interpolation is not None:
            (value,) = self.knob.knobs_at(t).values()
            return self.interpolation.interpolation_weight(value)
        return self.knob.knobs_at(t)["realism"] if isinstance(self.model, TexturedEDSR) else t

    def command(self, images: str | Path, out: str | Path, *, at: str | None = None, seed: int | None = None) -> str:
        """Return the command line that restores images with the network.

        Args:
            images: An image or a folder.
            out: The output.
            at: The value of ``--at``; None for a network without a knob.
            seed: The seed of a network with noise.
        """
        words = ["lossmith", "restore", *([] if self.source == DEFAULT_UPSCALER else [self.source])]
        words += [f"./{path}" if str(path).startswith("-") else str(path) for path in (images, out)]
        words += [] if at is None or self.knob is None else ["--at", at]
        words += ["--seed", str(seed)] if self.model.uses_noise and seed is not None else []
        return shlex.join(words)

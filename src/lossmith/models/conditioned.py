"""A network conditioned on knobs: one set of weights for a range of losses, selected at inference."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.formula.weight import WeightValue
from lossmith.models.base import Restorer
from lossmith.models.conditioned_modules import find_block_convolutions, match_modules
from lossmith.models.knob_values import check_knob_range, normalize_knob
from lossmith.models.slider import Slider, position_to_fraction

__all__ = ["ConditionedNetwork"]

OCTAVES = 4
"""Octaves of the Fourier features of a knob; the finest has a period of a quarter of the range."""
HEAD_GAIN = 10.0
"""Factor of scale and shift. With Adam each weight moves by about the learning rate in a step, and the heads begin at
zero; without the factor, fine-tuning over a thousand steps does not reach the ends of the range."""


class _ForwardState(NamedTuple):
    """State that the hooks share in one forward pass."""

    knobs: Tensor
    """Knob values in [-1, 1], (1 or N, knobs, 1 or H, 1 or W)."""
    codes: list[tuple[tuple[int, ...], Tensor]]
    """Spatial sizes, and the embeddings of the knobs at these sizes; no dictionary, since symbolic sizes of
    torch.export have no hash."""
    called: list[int]
    """Indices of the conditioned modules that were called."""


@final
class ConditionedNetwork(Restorer):
    r"""A network that is conditioned on knobs of its loss, so that one set of weights serves a range of losses.

    Training draws the knobs at random; at inference they are arguments. After the first convolution of each block the
    features are scaled and shifted channel by channel, by functions of the knobs :math:`\lambda`:

    .. math:: h \leftarrow (1 + \gamma) h + \beta, \quad
        (\gamma, \beta) = 10 \, A_b f\big(u, \sin 2^k \tfrac{\pi}{2} u, \cos 2^k \tfrac{\pi}{2} u\big)_{k<4}, \quad
        u = 2 \frac{\log \lambda - \log \lambda_\text{low}}{\log \lambda_\text{high} - \log \lambda_\text{low}} - 1

    where :math:`f` is two layers of 1 x 1 convolutions shared by all blocks, and each :math:`A_b` is initialised to
    zero, so that the initial output equals that of the network exactly. With the factor 10, the layers train at the
    network's own learning rate. Since all layers are 1 x 1, a knob may be a number, one number for each image, or a
    map. The network's own weights keep their names under ``network.``.

    Blocks are found by :func:`lossmith.models.conditioned_modules.find_block_convolutions`. A map is padded like the
    image and resized to the size of the features; in a network that pads its input again, such as SwinIR, it is
    stretched accordingly.

    References:
        | FiLM: Visual Reasoning with a General Conditioning Layer (Perez et al., 2018)
        | https://arxiv.org/abs/1709.07871
        | You Only Train Once: Loss-Conditional Training of Deep Networks (Dosovitskiy & Djolonga, 2020)
        | https://openreview.net/forum?id=HyxY6JHKwr

    Args:
        network: The network, trained or not.
        knobs: Smallest and largest value of each knob, both positive; a knob varies evenly in its logarithm.
        where: Names of the modules after which features are conditioned, with ``*`` and ``?``, instead of the blocks'
            convolutions. The output of each must be (N, C, h, w), from a convolution that the module contains.
        width: Number of channels of :math:`f`.

    Raises:
        ValueError: There is no knob, a range or a name is invalid, or no module can be conditioned.

    Example:
        >>> from lossmith.models import EDSR
        >>> model = ConditionedNetwork(EDSR(2, channels=8, blocks=2), {"lam": (0.03, 30.0)})
        >>> model.where
        ('body.0.0', 'body.1.0')
        >>> model(torch.rand(1, 3, 8, 8), lam=0.5).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(
        self,
        network: Restorer,
        knobs: Mapping[str, Sequence[float]],
        *,
        where: str | Sequence[str] | None = None,
        width: int = 64,
    ) -> None:
        if isinstance(network, ConditionedNetwork):
            raise ValueError(
                f"The network already has the knobs {', '.join(network.knobs)}; use its attribute network instead."
            )
        if not knobs:
            raise ValueError(
                "ConditionedNetwork needs at least one knob with its range, such as {'lam': (0.03, 30.0)}; got none."
            )
        if "image" in knobs:
            raise ValueError("A knob must not be named 'image', which is the network's input; choose another name.")
        check_integer("ConditionedNetwork width", width, low=1)
        ranges = {name: check_knob_range(name, ends) for name, ends in knobs.items()}
        patterns = [where] if isinstance(where, str) else where
        modules = find_block_convolutions(network) if patterns is None else match_modules(network, patterns)
        spec = {"name": "conditioned", "network": network.spec, "where": list(modules), "width": width}
        spec |= {"knobs": {name: list(ends) for name, ends in ranges.items()}}
        super().__init__(network.scale, network.receptive_radius, spec)
        self.network, self.where = network, tuple(modules)
        self.image_channels, self.in_channels = network.image_channels, network.in_channels
        self.knobs: dict[str, tuple[float, float]] = ranges
        self.channels = tuple(modules.values())
        self.slider: Slider | None = None
        """The calibrated slider; None before calibration."""
        self.interpolation_slider: Slider | None = None
        """The calibrated slider of :class:`lossmith.models.output_interpolation.OutputInterpolation`."""
        self.code = nn.Sequential(
            nn.Conv2d(len(ranges) * (1 + 2 * OCTAVES), width, 1), nn.SiLU(), nn.Conv2d(width, width, 1), nn.SiLU()
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, 2 * channels, 1) for channels in self.channels)
        for head in self.heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        for index, name in enumerate(self.where):
            network.get_submodule(name).register_forward_hook(functools.partial(self._condition, index))
        self._state: _ForwardState | None = None

    def forward(self, image: Tensor, **knobs: WeightValue) -> Tensor:
        """Return the restored images.

        Args:
            image: (N, 3, h, w).
            knobs: Value of each knob: a number, one for each image, (N,), or a map (N, 1, h, w).

        Raises:
            ValueError: A knob is missing, unknown, of another shape or out of its range. Values of tensors are not
                checked in training mode and in compiled code, because the check would wait for the GPU.
        """
        called: list[int] = []
        self._state = _ForwardState(self.network.pad(self.normalize_knobs(image, knobs)), [], called)
        try:
            output: Tensor = self.network(image)
        finally:
            self._state = None
        if missed := [name for index, name in enumerate(self.where) if index not in called]:
            raise ValueError(
                f"The network does not call the conditioned module {missed[0]!r} "
                f"{'in training' if self.training else 'in inference'}; name other modules with where=."
            )
        return output

    def train(self, mode: bool = True) -> Self:
        """Set training mode; training discards the sliders, which were measured with the earlier weights."""
        if mode:
            self.slider = self.interpolation_slider = None
        return super().train(mode)

    def knobs_at(self, t: WeightValue) -> dict[str, WeightValue]:
        """Return the knob values at a slider position from 0 (all low) to 1 (all high).

        With a calibrated slider, equal moves change the output equally; without, they are equal in the logarithm of the
        knobs.

        Raises:
            ValueError: The position is not in [0, 1].
        """
        return self.knobs_at_fraction(position_to_fraction(t, self.slider))

    def knobs_at_fraction(self, fraction: WeightValue) -> dict[str, WeightValue]:
        """Return the knob values at a fraction of their logarithmic ranges, from 0 (all low) to 1 (all high)."""
        ends = {name: (math.log(low), math.log(high)) for name, (low, high) in self.knobs.items()}
        return {name: _exp(low + (high - low) * fraction) for name, (low, high) in ends.items()}

    def normalize_knobs(self, image: Tensor, knobs: Mapping[str, WeightValue]) -> Tensor:
        """Return the knob values scaled from their logarithmic ranges to [-1, 1], (1 or N, knobs, 1 or H, 1 or W)."""
        for name, (low, high) in self.knobs.items():
            if name not in knobs:
                raise ValueError(
                    f"The network has the knob '{name}', {low:g} to {high:g}; pass a number, such as "
                    f"{name}={math.sqrt(low * high):.3g}, one number for each image, or a map."
                )
        if unknown := [name for name in knobs if name not in self.knobs]:
            raise ValueError(f"The network has no knob '{unknown[0]}'; it has {', '.join(self.knobs)}.")
        check_tensor = not (self.training or torch.compiler.is_compiling())
        columns = [
            normalize_knob(name, knobs[name], ends, image, check_tensor=check_tensor)
            for name, ends in self.knobs.items()
        ]
        return torch.cat(torch.broadcast_tensors(*columns), dim=1)  # type: ignore[no-untyped-call]

    def _condition(self, index: int, module: nn.Module, inputs: object, features: Tensor) -> Tensor:
        """Return the conditioned output of a module, as its forward hook."""
        if self._state is None:
            raise ValueError(
                "A network inside a ConditionedNetwork must be called through it, without activation checkpointing of "
                "its parts."
            )
        if features.ndim != 4 or features.shape[1] != self.channels[index]:
            raise ValueError(
                f"The output of {self.where[index]!r} must be feature maps (N, {self.channels[index]}, h, w); "
                f"got {tuple(features.shape)}. Name other modules with where=."
            )
        knobs, codes, called = self._state
        called.append(index)
        size = (1, 1) if knobs.shape[-2:] == (1, 1) else tuple(features.shape[-2:])
        code = next((code for known, code in codes if known == size), None)
        if code is None:
            code = self._embed(knobs, size)
            codes.append((size, code))
        scale, shift = (HEAD_GAIN * self.heads[index](code)).to(features.dtype).chunk(2, dim=1)
        return torch.addcmul(shift, features, 1 + scale)

    def _embed(self, knobs: Tensor, size: tuple[int, ...]) -> Tensor:
        """Return the embedding of normalised knobs, resized to a spatial size."""
        if knobs.shape[-2:] != size:
            knobs = F.interpolate(knobs, size=size, mode="bilinear", align_corners=False)
        waves = [2**k * (math.pi / 2) * knobs for k in range(OCTAVES)]
        features = torch.cat([knobs, *(wave.sin() for wave in waves), *(wave.cos() for wave in waves)], dim=1)
        code: Tensor = self.code(features.to(next(self.code.parameters()).dtype))
        return code


def _exp(value: WeightValue) -> WeightValue:
    return value.exp() if isinstance(value, Tensor) else math.exp(value)

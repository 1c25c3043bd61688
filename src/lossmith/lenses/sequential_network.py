"""Frozen sequential networks such as VGG and AlexNet: a sequence of convolutions, ReLUs and max-pools."""

import zlib
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Self, final

import torch
from torch import Tensor

from lossmith._checks import check_path
from lossmith._repr import format_literal
from lossmith.backbone import Backbone, FeatureGeometry, check_rgb, get_backbone
from lossmith.engine.frozen import (
    as_grey,
    choose_compute_dtype,
    compute_shapes,
    compute_tile_margin,
    count_flops,
    prepare_steps,
    run_frozen,
)
from lossmith.engine.layers import Conv, ReLU, Step
from lossmith.engine.second_derivatives import outside_transforms
from lossmith.lens import Maps
from lossmith.pretrained.locate import PretrainedWeights, WrongWeightsError, find_weights

__all__ = ["CAFFE_UNIT", "SequentialNetwork"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # RGB
CAFFE_UNIT = 255 * 0.226
"""The factor by which the features of a Caffe network exceed those of a torchvision network.

Caffe's networks read values in 0..255; torchvision's divide by a standard deviation of about 0.226 of the range. A
network of convolutions, ReLUs and max-pools is homogeneous in its input and biases together. Its features are therefore
divided by this number exactly if the first kernel and every bias are, and a term's weight has about the same effect
with either kind of file.
"""


class SequentialNetwork(Backbone):
    """A network that is one sequence of steps.

    Args:
        name: The network's name, also the name of its weights in `lossmith.pretrained.locate`.
        weights: A path, "random" for an untrained network, or None for the usual places.
    """

    def __init__(self, name: str, weights: str | None = None) -> None:
        self.name = name
        self.weights = check_path(f"{name} weights", weights)
        self._sha256: str | None = None
        self._prepared: dict[tuple[torch.device, torch.dtype, bool], tuple[Tensor, tuple[Step, ...]]] = {}

    @property
    def fp32_until(self) -> str | None:
        """The last step whose forward pass stays in float32 under autocast; rounding would turn the gradient there."""
        return None

    @property
    @abstractmethod
    def architecture(self) -> tuple[Step, ...]:
        """The steps, with convolutions that have shapes but no weights yet (on the meta device)."""

    def extract_kernels(self, state: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the kernel and bias of each convolution from a state dict with torchvision's keys.

        The keys are step indices, unless the network's modules are nested in torchvision.
        """
        indices = (i for i, step in enumerate(self.architecture) if isinstance(step, Conv))
        return [(state[f"{i}.weight"], state[f"{i}.bias"]) for i in indices]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all steps, first to last."""
        return tuple(step.name for step in self.architecture)

    @property
    def sha256(self) -> str:
        """The hash of the weights in use, or "random"."""
        if self.weights == "random":
            return "random"
        return self._sha256 or self.find_weights().sha256

    @final
    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """Return the features at some layers, see :class:`lossmith.Backbone`."""
        layers = frozenset(layers)
        self.check_image(image, layers)
        image = image if image.dtype == torch.float64 else image.float()
        mean, steps = self.get_steps(image.device, choose_compute_dtype(image), grey=image.shape[1] == 1)
        return run_frozen(steps, image - mean, layers)  # subtracted here and not in a bias: the padding is zero

    @final
    def min_size(self, layers: Iterable[str]) -> int:
        """Return the smallest side in pixels of an image with a feature at each of these layers."""
        side = 1
        last = max(self.layers.index(layer) for layer in layers)
        for step in reversed(self.architecture[: last + 1]):
            side = step.min_input_size(side)
        return side

    @final
    def flops(self, height: int, width: int, layers: Iterable[str], *, channels: int = 3) -> float:
        """Return the operations of one image's convolutions up to the deepest of these layers."""
        _, steps = as_grey(_as_channels(MEAN), self.architecture) if channels == 1 else (None, self.architecture)
        return float(count_flops(steps, (1, channels, height, width), frozenset(layers))[0])

    @final
    def geometry(self, height: int, width: int, layers: Iterable[str]) -> FeatureGeometry:
        """Return how the features lie in an image."""
        wanted = frozenset(layers)
        margin, _ = compute_tile_margin(self.architecture, wanted)
        strides: dict[str, int] = {}
        stride = 1
        for step in self.architecture:
            stride *= 1 if isinstance(step, ReLU) else step.stride
            strides[step.name] = stride
        steps = self.architecture[: max(self.layers.index(layer) for layer in wanted) + 1]
        shapes = dict(zip(self.layers, compute_shapes(steps, (1, 3, height, width)), strict=False))
        return FeatureGeometry(
            margin,
            {n: strides[n] for n in self.layers if n in wanted},
            {n: shapes[n][2:] for n in self.layers if n in wanted},
        )

    def check_image(self, image: Tensor, layers: frozenset[str]) -> None:
        """Raise ValueError if the images are neither RGB nor grey, or are too small for these layers."""
        check_rgb(self.name, image, grey=True)
        height, width = image.shape[2:]
        if min(height, width) < (side := self.min_size(layers)):
            raise ValueError(
                f"{self.name} needs images of at least {side} px a side for the layers "
                f"{', '.join(sorted(layers))}; got {height}x{width}."
            )

    def get_steps(
        self, device: torch.device, dtype: torch.dtype, *, grey: bool = False
    ) -> tuple[Tensor, tuple[Step, ...]]:
        """Return the image mean, in float32 or float64, and the steps with weights for a device and precision.

        For grey images the kernels of the first convolution are summed, see :mod:`lossmith.engine.grey`. In half
        precision the first layers stay in float32 in the forward pass, see :attr:`fp32_until`, for every input: equal
        images have equal features.
        """
        if (device, dtype, grey) not in self._prepared and grey:
            with outside_transforms():
                self._prepared[device, dtype, grey] = as_grey(*self.get_steps(device, dtype))
        elif (device, dtype, grey) not in self._prepared:
            fp32_until = self.fp32_until if dtype.itemsize < 4 else None
            on_meta = device.type == "meta"  # a cost plan needs no weights
            with outside_transforms():
                mean, steps = (_as_channels(MEAN), self.architecture) if on_meta else self.load_steps()
                wide = torch.promote_types(dtype, torch.float32)
                prepared = prepare_steps(steps, device=device, dtype=dtype, fp32_until=fp32_until)
                self._prepared[device, dtype, grey] = mean.to(device, wide), prepared
        return self._prepared[device, dtype, grey]

    def load_steps(self) -> tuple[Tensor, tuple[Step, ...]]:
        """Read the image mean and the steps with weights on the CPU, without caching them."""
        mean, pairs = self._init_random() if self.weights == "random" else self._load_trained()
        loaded: list[Step] = []
        for step in self.architecture:
            if isinstance(step, Conv):
                kernel, bias = pairs.pop(0)
                if kernel.shape != step.weight.shape:
                    raise WrongWeightsError(
                        f"{self.name} expects a kernel {tuple(step.weight.shape)} at {step.name}; "
                        f"{str(self.find_weights().path)!r} has {tuple(kernel.shape)} and belongs to another network."
                    )
                step = replace(step, weight=kernel, bias=bias)
            loaded.append(step)
        return mean, tuple(loaded)

    @final
    def find_weights(self) -> PretrainedWeights:
        """Locate and read the weights."""
        found = find_weights(self.name, self.weights)  # not cached: the prepared steps are copies
        self._sha256 = found.sha256
        return found

    def with_weights(self, weights: str | None) -> Self:
        """Return the shared network of this architecture with other weights."""
        return get_backbone(type(self), self.name, weights)

    def _load_trained(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        found = self.find_weights()
        try:
            pairs = self.extract_kernels(found.state)
        except KeyError as error:
            raise WrongWeightsError(
                f"{self.name}: {str(found.path)!r} has no {error} and belongs to another network."
            ) from None
        (kernel, bias), *rest = [(k.double(), b.double()) for k, b in pairs]
        if found.kind == "caffe":  # BGR, 0..255, minus the mean; see CAFFE_UNIT
            pairs = [(kernel.flip(1) * 255 / CAFFE_UNIT, bias / CAFFE_UNIT), *((k, b / CAFFE_UNIT) for k, b in rest)]
            return _as_channels(CAFFE_MEAN), pairs
        return _as_channels(MEAN), [(kernel / _as_channels(STD), bias), *rest]

    def _init_random(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        pairs: list[tuple[Tensor, Tensor]] = []
        for step in self.architecture:
            if isinstance(step, Conv):
                fan_in = step.weight[0].numel()
                kernel = torch.randn(step.weight.shape, generator=generator) * (2 / fan_in) ** 0.5  # He et al. 2015
                pairs.append((kernel if pairs else kernel / _as_channels(STD), torch.zeros(len(kernel))))
        return _as_channels(MEAN), pairs

    def __reduce__(self) -> tuple[object, ...]:
        return get_backbone, (type(self), self.name, self.weights)  # without the weights

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={format_literal(self.weights)}"
        return f"{type(self).__name__}({format_literal(self.name)}{weights})"


def _as_channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)

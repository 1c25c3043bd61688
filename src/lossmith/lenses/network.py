"""Frozen sequential networks: VGG, AlexNet, SqueezeNet are a row of convolutions, ReLUs and max-pools."""

import os
import zlib
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from lossmith._repr import quoted
from lossmith.engine.frozen import (
    cast,
    flops,
    inner_dtype,
    margin,
    run,
    shapes,
)
from lossmith.engine.layers import Conv, ReLU, Step
from lossmith.lens import Backbone, Geometry, Maps
from lossmith.pretrained.locate import Found, WrongWeights, find

__all__ = ["CAFFE_UNIT", "Sequential"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # RGB
CAFFE_UNIT = 255 * 0.226
"""By what the features of a Caffe network exceed ours.

Caffe's networks read 0..255, torchvision's read deviations of about 0.226 of the range. A network of convolutions,
ReLUs and max-pools is homogeneous in its input and biases together, so we divide its features by this number, exactly,
by dividing the first kernel and every bias: then a weight means about the same with either kind of file.
"""


class Sequential(Backbone):
    """A network that is one row of steps.

    Args:
        name: Its name, which is also that of its weights in `lossmith.pretrained.locate`.
        weights: A file to take, "random" for an untrained network, or None to look in the usual places.
    """

    def __init__(self, name: str, weights: str | None = None) -> None:
        self.name = name
        self.weights = None if weights is None else os.fspath(weights)
        self._sha256: str | None = None
        self._loaded: dict[tuple[torch.device, torch.dtype], tuple[Tensor, tuple[Step, ...]]] = {}

    @property
    def fine(self) -> str | None:
        """The step up to which half precision is too coarse for the forward pass: there rounding turns the gradient."""
        return None

    @property
    @abstractmethod
    def plan(self) -> tuple[Step, ...]:
        """The row of steps, with convolutions that have shapes but no weights yet (on the meta device)."""

    def kernels(self, state: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The kernel and bias of each convolution of the plan, from a state dict with torchvision's keys.

        These are indices that count every step, unless a network's modules are nested there.
        """
        places = (i for i, step in enumerate(self.plan) if isinstance(step, Conv))
        return [(state[f"{i}.weight"], state[f"{i}.bias"]) for i in places]

    @property
    def layers(self) -> tuple[str, ...]:
        """Every step's name, first to last."""
        return tuple(step.name for step in self.plan)

    @property
    def sha256(self) -> str:
        """The hash of the weights in use, or "random"."""
        if self.weights == "random":
            return "random"
        return self._sha256 or self.find().sha256

    @final
    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """The features at some layers, see :class:`lossmith.Backbone`."""
        layers = frozenset(layers)
        self._check(image, layers)
        image = image if image.dtype == torch.float64 else image.float()
        mean, steps = self.loaded(image.device, inner_dtype(image))
        return run(steps, image - mean, layers)  # padding is zero after the mean is taken off

    @final
    def smallest(self, layers: Iterable[str]) -> int:
        """The side in pixels of the smallest picture that leaves something at these layers."""
        side = 1
        last = max(self.layers.index(layer) for layer in layers)
        for step in reversed(self.plan[: last + 1]):
            side = step.needs(side)
        return side

    @final
    def flops(self, height: int, width: int, layers: Iterable[str]) -> float:
        """The operations of one picture's convolutions up to the deepest of these layers."""
        return float(flops(self.plan, (1, 3, height, width), frozenset(layers))[0])

    @final
    def geometry(self, height: int, width: int, layers: Iterable[str]) -> Geometry:
        """How its features lie in a picture."""
        wanted = frozenset(layers)
        around, _ = margin(self.plan, wanted)
        strides: dict[str, int] = {}
        stride = 1
        for step in self.plan:
            stride *= 1 if isinstance(step, ReLU) else step.stride
            strides[step.name] = stride
        sizes = dict(zip(self.layers, shapes(self.plan, (1, 3, height, width)), strict=False))
        return Geometry(
            around,
            {n: strides[n] for n in self.layers if n in wanted},
            {n: sizes[n][2:] for n in self.layers if n in wanted},
        )

    def _check(self, image: Tensor, layers: frozenset[str]) -> None:
        shape = tuple(image.shape)
        if len(shape) != 4 or shape[1] != 3:
            cure = (
                "give grey ones as image.expand(-1, 3, -1, -1)"
                if len(shape) == 4 and shape[1] == 1
                else (
                    "turn channels last into image.permute(0, 3, 1, 2)" if shape[-1] == 3 else "cut or repeat channels"
                )
            )
            raise ValueError(f"{self.name} wants RGB pictures (N, 3, H, W); got {shape}: {cure}.")
        if min(shape[2:]) < (side := self.smallest(layers)):
            raise ValueError(
                f"{self.name} wants pictures of at least {side} px a side for the layers {', '.join(sorted(layers))}; "
                f"got {shape[2]}x{shape[3]}."
            )

    def loaded(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, tuple[Step, ...]]:
        """The mean to take off, in float32 at least, and the row with its weights, on a device and in a precision.

        In half precision the first layers run forward in float32 all the same, see :attr:`fine`, and so they do for
        every view: equal pictures have equal features.
        """
        if (device, dtype) not in self._loaded:
            fine = self.fine if dtype.itemsize < 4 else None
            mean, steps = (_channels(MEAN), self.plan) if device.type == "meta" else self.load()  # a plan needs none
            with torch.inference_mode(False):
                wide = torch.promote_types(dtype, torch.float32)
                self._loaded[device, dtype] = mean.to(device, wide), cast(steps, device=device, dtype=dtype, fine=fine)
        return self._loaded[device, dtype]

    def load(self) -> tuple[Tensor, tuple[Step, ...]]:
        """The mean to take off, and the row with its weights as they were found, on CPU; it keeps neither."""
        mean, pairs = self._random() if self.weights == "random" else self._trained()
        loaded: list[Step] = []
        for step in self.plan:
            if isinstance(step, Conv):
                kernel, bias = pairs.pop(0)
                if kernel.shape != step.weight.shape:
                    raise WrongWeights(
                        f"{self.name} wants a kernel {tuple(step.weight.shape)} at {step.name}; "
                        f"{str(self.find().path)!r} has {tuple(kernel.shape)}: it is another network's file."
                    )
                step = replace(step, weight=kernel, bias=bias)
            loaded.append(step)
        return mean, tuple(loaded)

    @final
    def find(self) -> Found:
        """Where its weights are, and what is in there."""
        found = find(self.name, self.weights)  # and not kept: what runs is a copy of its own
        self._sha256 = found.sha256
        return found

    def _trained(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        found = self.find()
        try:
            pairs = self.kernels(found.state)
        except KeyError as error:
            raise WrongWeights(
                f"{self.name}: {str(found.path)!r} has no {error}; it is another network's file."
            ) from None
        (kernel, bias), *rest = [(k.double(), b.double()) for k, b in pairs]
        if found.kind == "caffe":  # BGR, 0..255, minus the mean; see CAFFE_UNIT
            pairs = [(kernel.flip(1) * 255 / CAFFE_UNIT, bias / CAFFE_UNIT), *((k, b / CAFFE_UNIT) for k, b in rest)]
            return _channels(CAFFE_MEAN), pairs
        return _channels(MEAN), [(kernel / _channels(STD), bias), *rest]

    def _random(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        pairs: list[tuple[Tensor, Tensor]] = []
        for step in self.plan:
            if isinstance(step, Conv):
                fan_in = step.weight[0].numel()
                kernel = torch.randn(step.weight.shape, generator=generator) * (2 / fan_in) ** 0.5  # He et al. 2015
                pairs.append((kernel if pairs else kernel / _channels(STD), torch.zeros(len(kernel))))
        return _channels(MEAN), pairs

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name, self.weights)  # what was loaded stays behind

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={quoted(self.weights)}"
        return f"{type(self).__name__}({quoted(self.name)}{weights})"


def _channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)

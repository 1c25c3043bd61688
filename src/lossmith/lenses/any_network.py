"""Frozen networks of any form: modules that another library builds, looked at by the names of their parts."""

import importlib
import importlib.util
import os
import sys
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from types import ModuleType
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith._repr import quoted
from lossmith.engine.feature_extractor import Layer, Tapped, survey
from lossmith.engine.frozen import inner_dtype
from lossmith.lens import Backbone, Maps, full
from lossmith.pretrained.locate import Found

__all__ = ["Network", "library", "shared"]

Loaded = tuple[Tensor, Tensor, Tapped]


class Network(Backbone):
    """A network that is a module of another library, whatever its form.

    Its layers are the module's parts by their dotted names ("layer3.5"), in the order in which a picture meets them,
    and show what each part gives there and then: in-place operations behind it do not reach it. The pass ends at the
    deepest layer asked for. Weights never train, the network is in eval mode for good, and what only the gradients of
    weights would need is not kept, see `lossmith.engine.low_memory_ops`. Under autocast convolutions and products run in its
    precision, as PyTorch has it, and layers are handed out in float32 all the same.

    Args:
        name: What the library calls it.
        weights: A file to take, a name of weights that the library knows, "random" for an untrained network, or None to
            look in the usual places.
        recompute: Whether the backward pass computes each block of the network again, and keeps only what enters it.
    """

    package: str
    """The library."""

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        self.name = f"{self.package}.{name}"
        self.call = name
        self.weights = None if weights is None else os.fspath(weights)
        self.recompute = recompute
        self._sha256: str | None = None
        self.modules: dict[tuple[torch.device, torch.dtype], nn.Module] = {}
        self._loaded: dict[tuple[torch.device, torch.dtype, frozenset[str]], Loaded] = {}
        self._smallest: dict[frozenset[str], int] = {}

    @abstractmethod
    def untrained(self) -> nn.Module:
        """The module as the library begins it."""

    @abstractmethod
    def trained(self, found: Found) -> nn.Module:
        """The module with the weights of a file.

        Raises:
            WrongWeights: They are those of another network.
        """

    @abstractmethod
    def find(self) -> Found:
        """The weights.

        Raises:
            MissingWeights: There are none anywhere.
            WrongWeights: The file is not what its name says, or cannot be read.
        """

    @property
    @abstractmethod
    def normalisation(self) -> tuple[Sequence[float], Sequence[float]]:
        """The mean and deviation of the pictures that it was trained on, for each channel."""

    @property
    @abstractmethod
    def side(self) -> int:
        """The side of the pictures that it was made for."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its parts, first to last; a part that is called again has "_1", "_2", ... behind its name."""
        return tuple(self.known)

    @cached_property
    def known(self) -> dict[str, Layer]:
        """What its layers are like."""
        try:
            return survey(self.blank, self.side)
        except Exception as error:  # whatever a module raises that does not take a batch of pictures
            raise ValueError(f"{self.name} cannot be looked into; it takes no picture: {error}") from error

    @cached_property
    def blank(self) -> nn.Module:
        """The module without weights."""
        with torch.random.fork_rng(devices=[]):
            try:
                with torch.device("meta"):
                    module = self.untrained()
            except RuntimeError:  # some compute with tensors while they are made
                with torch.device("cpu"):
                    module = self.untrained().to("meta")
        return module.eval().requires_grad_(False)

    @property
    def sha256(self) -> str:
        """The hash of the weights in use, or "random"."""
        if self.weights == "random":
            return "random"
        if self._sha256 is None:
            self._sha256 = self.find().sha256
        return self._sha256

    @final
    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """The features at some layers, see :class:`lossmith.Backbone`."""
        layers = frozenset(layers)
        self._check(image)
        image = full(image)
        mean, deviation, tapped = self.loaded(image.device, inner_dtype(image), layers)
        picture = ((image - mean) / deviation).contiguous(memory_format=torch.channels_last)
        try:
            seen = tapped(picture)
        except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError):
            self._refuse(image.shape[2], image.shape[3], layers)
            raise
        height, width = image.shape[2:]
        return {name: full(self.known[name].shown(seen[name], height, width)) for name in tapped.layers}

    @final
    def smallest(self, layers: Iterable[str]) -> int:
        """The side in pixels of the smallest picture that passes to these layers."""
        layers = frozenset(layers)
        if layers not in self._smallest:
            # in steps of 32 at first: some networks take multiples of their stride alone
            high = next((s for s in range(32, self.side, 32) if self._passes(s, s, layers) is None), self.side)
            low = max(high - 31, 1)
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if self._passes(middle, middle, layers) is None else (middle + 1, high)
            self._smallest[layers] = low
        return self._smallest[layers]

    @final
    def flops(self, height: int, width: int, layers: Iterable[str]) -> float:
        """The operations of one picture's convolutions and matrix products up to the deepest of these layers."""
        from torch.utils.flop_counter import FlopCounterMode  # a quarter of a second that few need

        layers = frozenset(layers)
        with FlopCounterMode(display=False) as counter:
            failed = self._passes(height, width, layers)
        if failed is not None:
            self._refuse(height, width, layers)
        return float(counter.get_total_flops())

    def loaded(self, device: torch.device, dtype: torch.dtype, layers: frozenset[str]) -> Loaded:
        """The mean and deviation of pictures, and the network with taps at some layers, on a device in a precision."""
        key = device, dtype, layers
        if key not in self._loaded:
            with torch.inference_mode(False), torch.no_grad():
                wide = torch.promote_types(dtype, torch.float32)
                mean, deviation = (
                    torch.tensor(values, device=device, dtype=wide).view(1, 3, 1, 1) for values in self.normalisation
                )
                known = {name: layer for name, layer in self.known.items() if name in layers}
                tapped = Tapped(self._module(device, dtype), known, recompute=self.recompute)
                self._loaded[key] = mean, deviation, tapped
        return self._loaded[key]

    def _module(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """The one module of a device and precision, whatever is looked at in it."""
        if device.type == "meta":  # a plan needs no weights
            return self.blank
        if (device, dtype) not in self.modules:
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # making a module draws from the one generator
                module = self._random() if self.weights == "random" else self._trained()
            module = module.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
            if dtype == torch.float64:
                module = module.double()
            elif dtype != torch.float32:
                for part in module.modules():  # those whose weights autocast would cast at every call
                    if isinstance(part, nn.Conv2d | nn.Linear):
                        part.to(dtype)
            self.modules[device, dtype] = module
        return self.modules[device, dtype]

    def _trained(self) -> nn.Module:
        found = self.find()
        self._sha256 = found.sha256
        return self.trained(found)

    def _random(self) -> nn.Module:
        torch.manual_seed(zlib.crc32(self.call.encode()))
        module = self.untrained()
        for part in module.modules():
            if isinstance(part, nn.Conv2d):  # so that features neither fade nor overflow without batch statistics
                nn.init.kaiming_normal_(part.weight)
        return module

    def _passes(self, height: int, width: int, layers: frozenset[str]) -> Exception | None:
        """Why a picture of this size does not pass to these layers; None if it does."""
        device = torch.device("meta")
        with torch.no_grad():
            *_, tapped = self.loaded(device, torch.float32, layers)
            try:
                tapped(torch.empty(1, 3, height, width, device=device))
            except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
                return error
        return None

    def _refuse(self, height: int, width: int, layers: frozenset[str]) -> None:
        """Raises if it is for their size that pictures do not pass."""
        failed = self._passes(height, width, layers)
        if failed is None:
            return
        words, _, _ = str(failed).partition("\n")
        deepest = max(layers, key=self.layers.index)
        smallest = self.smallest(layers)
        if smallest == self.side and self._passes(2 * smallest, 2 * smallest, layers) is not None:
            wants = f"pictures of {smallest}x{smallest} px"
        elif min(height, width) < smallest:
            wants = f"pictures of at least {smallest} px a side for {deepest}"
        else:
            wants = f"pictures of other sides (it says: {words})"
        raise ValueError(f"{self.name} wants {wants}; got {height}x{width}.") from None

    def _check(self, image: Tensor) -> None:
        shape = tuple(image.shape)
        if len(shape) == 4 and shape[1] == 3:
            return
        grey, last = len(shape) == 4 and shape[1] == 1, shape[-1] == 3
        cure = (
            "give grey ones as image.expand(-1, 3, -1, -1)"
            if grey
            else ("turn channels last into image.permute(0, 3, 1, 2)" if last else "cut or repeat channels")
        )
        raise ValueError(f"{self.name} wants RGB pictures (N, 3, H, W); got {shape}: {cure}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (type(self), self.call, self.weights, self.recompute)  # what was loaded stays behind

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={quoted(self.weights)}"
        return f"{type(self).__name__}({quoted(self.call)}{weights}{', recompute=True' if self.recompute else ''})"


@cache
def shared(kind: type[Network], name: str, weights: str | None, recompute: bool) -> Network:
    """The one network of this name and weights, which all lenses share."""
    network = kind(name, weights, recompute=recompute)
    if recompute:
        network.modules = shared(kind, name, weights, False).modules
    return network


def library(name: str) -> ModuleType:
    """A library of networks, which comes with an extra.

    Raises:
        ValueError: It is not installed, or would end the process.
    """
    modules, package = sys.modules, name.partition(".")[0]
    if "tensorflow" in modules and not {package, "triton"} & modules.keys() and importlib.util.find_spec("triton"):
        raise ValueError(  # both bring an LLVM of their own, and the second to come aborts
            f"{package!r} brings triton, which ends a process that has imported TensorFlow: import {package} before "
            'it, or under Keras look through keras.applications, such as Applications("ResNet50", "conv4_block6_out").'
        )
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision raises the latter where it was built for another PyTorch
        raise ValueError(
            f"Networks of {name} want the package {name.split('.')[0]!r}, which cannot be imported ({error}): "
            f"pip install 'lossmith[networks]'."
        ) from None

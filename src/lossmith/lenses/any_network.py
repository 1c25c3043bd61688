"""Frozen networks of any form: modules of other libraries, whose layers are the names of their submodules."""

import zlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from lossmith._checks import check_path
from lossmith._repr import format_literal
from lossmith.backbone import Backbone, check_rgb, get_backbone
from lossmith.engine.feature_extractor import FeatureExtractor, LayerInfo, inspect_layers
from lossmith.engine.frozen import get_compute_dtype
from lossmith.engine.second_derivatives import is_transformed, outside_transforms
from lossmith.lens import Maps, at_least_float32
from lossmith.lenses._grey_module import find_grey_convolution, with_grey_convolution
from lossmith.pretrained.locate import PretrainedWeights

__all__ = ["AnyNetwork"]

Prepared = tuple[Tensor, Tensor, FeatureExtractor]
SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)
"""Errors of modules for images of a size that they do not support."""


class AnyNetwork(Backbone):
    """A network that is a module of another library, of any form.

    Layers are the dotted names of submodules ("layer3.5"), in the order of their calls. A layer's features are the
    submodule's output before any later in-place operation. The pass ends at the deepest requested layer. The weights
    are frozen, the network stays in eval mode, and activations that only weight gradients would need are not kept, see
    `lossmith.engine.low_memory_ops`. Under autocast, convolutions and matrix products run in autocast's precision as
    usual; layers are returned in float32.

    Args:
        name: The network's name in the library.
        weights: A path, a name of weights that the library knows, "random" for an untrained network, or None for the
            usual places.
        recompute: Whether the backward pass recomputes each block from its input (activation checkpointing).
    """

    library: str
    """The library's name."""

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        self.name = f"{self.library}.{name}"
        self.model_name = name
        self.weights = check_path(f"{name} weights", weights)
        self.recompute = recompute
        self._sha256: str | None = None
        self._prepared: dict[tuple[torch.device, torch.dtype, frozenset[str], bool], Prepared] = {}
        self._min_sizes: dict[frozenset[str], int] = {}
        self.modules: dict[tuple[torch.device, torch.dtype], nn.Module] = (
            get_backbone(type(self), name, weights, recompute=False).modules if recompute else {}
        )

    @abstractmethod
    def build_untrained(self) -> nn.Module:
        """Return the module as the library initialises it."""

    @abstractmethod
    def build_trained(self, found: PretrainedWeights) -> nn.Module:
        """Return the module with the weights of a file.

        Raises:
            WrongWeightsError: The weights belong to another network.
        """

    @abstractmethod
    def find_weights(self) -> PretrainedWeights:
        """Locate and read the weights.

        Raises:
            MissingWeightsError: No file was found.
            WrongWeightsError: The file does not match its name's hash, or cannot be read.
        """

    @property
    @abstractmethod
    def normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """The mean and standard deviation per channel of the images that the network was trained on."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """The side in pixels of the images that the network was trained on."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all submodules, first to last; repeated calls of a submodule get the suffixes "_1", "_2", ..."""
        return tuple(self.layer_info)

    @cached_property
    def layer_info(self) -> dict[str, LayerInfo]:
        """The output format of each layer."""
        try:
            with outside_transforms():
                return inspect_layers(self.meta_module, self.image_size)
        except Exception as error:  # a module that takes no image batch raises anything
            raise ValueError(f"{self.name} cannot be used as a lens, since it takes no image batch: {error}") from error

    @cached_property
    def meta_module(self) -> nn.Module:
        """The module on the meta device, without weights."""
        with torch.random.fork_rng(devices=[]):
            try:
                with torch.device("meta"):
                    module = self.build_untrained()
            except RuntimeError:  # some modules compute with tensors in their constructor
                with torch.device("cpu"):
                    module = self.build_untrained().to("meta")
        return module.eval().requires_grad_(False)

    @property
    def sha256(self) -> str:
        """The hash of the weights in use, or "random"."""
        if self.weights == "random":
            return "random"
        if self._sha256 is None:
            self._sha256 = self.find_weights().sha256
        return self._sha256

    @final
    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """Return the features at some layers, see :class:`lossmith.Backbone`."""
        layers = frozenset(layers)
        check_rgb(self.name, image, grey=True)
        image = at_least_float32(image)
        grey = image.shape[1] == 1 and self.grey_convolution is not None
        mean, std, extractor = self.get_extractor(image.device, get_compute_dtype(image), layers, grey=grey)
        normalized = (image - mean) / std
        if not is_transformed():  # vmap has no other memory format
            normalized = normalized.contiguous(memory_format=torch.channels_last)
        height, width = image.shape[2:]
        try:
            outputs = extractor(normalized)
        except SIZE_ERRORS:
            self._check_size(height, width, layers)
            raise
        maps = {name: self.layer_info[name].to_nchw(outputs[name], height, width) for name in extractor.layers}
        return {name: at_least_float32(features) for name, features in maps.items()}

    @final
    def min_size(self, layers: Iterable[str]) -> int:
        """Return the smallest side in pixels of an image that passes to these layers."""
        layers = frozenset(layers)
        if layers not in self._min_sizes:
            # steps of 32 first: some networks support only multiples of their stride
            sizes = range(32, self.image_size, 32)
            high = next((size for size in sizes if self._try_size(size, size, layers) is None), self.image_size)
            low = max(high - 31, 1)
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if self._try_size(middle, middle, layers) is None else (middle + 1, high)
            self._min_sizes[layers] = low
        return self._min_sizes[layers]

    @final
    def flops(self, height: int, width: int, layers: Iterable[str], *, channels: int = 3) -> float:
        """Return the operations of one image's convolutions and matrix products up to the deepest of these layers."""
        from torch.utils.flop_counter import FlopCounterMode  # takes 0.25 s to import and is rarely needed

        layers = frozenset(layers)
        with FlopCounterMode(display=False) as counter:
            error = self._try_size(height, width, layers, grey=channels == 1 and self.grey_convolution is not None)
        if error is not None:
            self._check_size(height, width, layers)
        return float(counter.get_total_flops())

    @cached_property
    def grey_convolution(self) -> str | None:
        """The convolution whose kernels are summed for grey images; None if grey images must be repeated.

        This must be the module that takes the images themselves, whatever their size: padding or resizing before it
        would not treat one channel as three.
        """
        with outside_transforms():
            return find_grey_convolution(self.meta_module, self.image_size)

    def get_extractor(
        self, device: torch.device, dtype: torch.dtype, layers: frozenset[str], *, grey: bool = False
    ) -> Prepared:
        """Return the image mean and standard deviation, and the feature extractor, for a device and precision.

        Args:
            device: The device of the images.
            dtype: The precision of the convolutions.
            layers: The layers.
            grey: Whether the images have one channel, see :attr:`grey_convolution`.
        """
        key = device, dtype, layers, grey
        if key not in self._prepared:
            with outside_transforms():
                wide = torch.promote_types(dtype, torch.float32)
                mean, std = (
                    torch.tensor(values, device=device, dtype=wide).view(1, 3, 1, 1) for values in self.normalization
                )
                info = {name: layer for name, layer in self.layer_info.items() if name in layers}
                module = self._get_module(device, dtype)
                if grey:
                    assert self.grey_convolution is not None
                    module, mean, std = with_grey_convolution(module, self.grey_convolution, mean, std)
                extractor = FeatureExtractor(module, info, recompute=self.recompute)
                self._prepared[key] = mean, std, extractor
        return self._prepared[key]

    def with_weights(self, weights: str | None) -> Self:
        """Return the shared network of this architecture with other weights."""
        return get_backbone(type(self), self.model_name, weights, recompute=self.recompute)

    def _get_module(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return the module for a device and precision, shared by all feature extractors."""
        if device.type == "meta":  # a cost plan needs no weights
            return self.meta_module
        if (device, dtype) not in self.modules:
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # constructors draw from the global generator
                module = self._init_random() if self.weights == "random" else self._load_trained()
            module = module.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
            if dtype == torch.float64:
                module = module.double()
            elif dtype != torch.float32:
                for part in module.modules():  # only modules whose weights autocast would cast at every call
                    if isinstance(part, nn.Conv2d | nn.Linear):
                        part.to(dtype)
            self.modules[device, dtype] = module
        return self.modules[device, dtype]

    def _load_trained(self) -> nn.Module:
        found = self.find_weights()
        self._sha256 = found.sha256
        return self.build_trained(found)

    def _init_random(self) -> nn.Module:
        torch.manual_seed(zlib.crc32(self.model_name.encode()))
        module = self.build_untrained()
        for part in module.modules():
            if isinstance(part, nn.Conv2d):  # keeps the scale of features without batch statistics
                nn.init.kaiming_normal_(part.weight)
        return module

    def _try_size(self, height: int, width: int, layers: frozenset[str], *, grey: bool = False) -> Exception | None:
        """Return the error that an image of this size raises on the way to these layers; None if it passes."""
        device = torch.device("meta")
        with torch.no_grad():
            *_, extractor = self.get_extractor(device, torch.float32, layers, grey=grey)
            try:
                extractor(torch.empty(1, 1 if grey else 3, height, width, device=device))
            except SIZE_ERRORS as error:
                return error
        return None

    def _check_size(self, height: int, width: int, layers: frozenset[str]) -> None:
        """Raise ValueError if images of this size do not pass to these layers."""
        error = self._try_size(height, width, layers)
        if error is None:
            return
        message, _, _ = str(error).partition("\n")
        deepest = max(layers, key=self.layers.index)
        min_size = self.min_size(layers)
        if min_size == self.image_size and self._try_size(2 * min_size, 2 * min_size, layers) is not None:
            expected = f"images of {min_size}x{min_size} px"
        elif min(height, width) < min_size:
            expected = f"images of at least {min_size} px a side for {deepest}"
        else:
            expected = f"images of another size (the network reports: {message})"
        raise ValueError(f"{self.name} expects {expected}; got {height}x{width}.") from None

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = type(self), self.model_name, self.weights
        return partial(get_backbone, *arguments, recompute=self.recompute), ()  # without the loaded weights

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={format_literal(self.weights)}"
        recompute = ", recompute=True" if self.recompute else ""
        return f"{type(self).__name__}({format_literal(self.model_name)}{weights}{recompute})"

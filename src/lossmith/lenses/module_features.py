"""The features of a module of one's own, such as a network that was trained for the domain of the images."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith._repr import repr_of
from lossmith.lens import Features
from lossmith.lenses.any_network import AnyNetwork
from lossmith.pretrained.locate import PretrainedWeights

__all__ = ["ModuleFeatures"]


@final
class ModuleFeatures(Features):
    r"""The features of a given module at some of its submodules.

    .. math:: x \mapsto \{\phi_l((x - \mu) / \sigma)\}_l

    The lens holds a frozen copy in eval mode: the given module is left as it is, and training it later does not change
    the loss. All lenses on one module with the same weights share one copy and one pass. The text of the lens names the
    class and the hash of its weights, and cannot be parsed, since a formula never runs code from outside of installed
    packages.

    Args:
        module: The module, which takes RGB images (N, 3, H, W).
        layers: The dotted name of a submodule, several names, or a mapping from names to their weights in the sum; see
            :class:`Torchvision`.
        mean: The mean of each channel that is subtracted from images in [0, 1].
        std: The standard deviation of each channel by which they are divided then.
        image_size: The side in pixels of images that the module supports, by which its layers are found.

    Raises:
        ValueError: The module is none, takes no image batch, or has no such layer.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3))
        >>> ModuleFeatures(net, ["1", "2"])
        ModuleFeatures("Sequential-...", ["1", "2"])
    """

    def __init__(
        self,
        module: nn.Module,
        layers: str | Sequence[str] | Mapping[str, float],
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        image_size: int = 224,
    ) -> None:
        if isinstance(module, str):
            raise ValueError(
                f"ModuleFeatures needs a torch.nn.Module, which a formula cannot name; got the text {module!r}. Build "
                "the loss in Python, or register a recipe that builds it (lossmith.register)."
            )
        if not isinstance(module, nn.Module):
            raise ValueError(f"ModuleFeatures needs a torch.nn.Module; got a {type(module).__name__}.")
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != 3 or (name == "std" and not all(value > 0 for value in values)):
                raise ValueError(
                    f"ModuleFeatures {name} must be three numbers{', all positive' * (name == 'std')}; got {values!r}."
                )
        check_integer("ModuleFeatures image_size", image_size, low=1)
        network = _share_network(module, tuple(mean), tuple(std), image_size)
        if not network.layers:
            raise ValueError(f"ModuleFeatures needs a module with submodules, its layers; got {module!r}.")
        super().__init__(network, layers)

    backbone: "ModuleNetwork"

    def __repr__(self) -> str:
        return repr_of(self, self.backbone.model_name, self.layer_spec)


@final
class ModuleNetwork(AnyNetwork):
    """A frozen copy of a module, the network of :class:`ModuleFeatures`."""

    library = "module"

    def __init__(
        self, module: nn.Module, name: str, mean: tuple[float, ...], std: tuple[float, ...], image_size: int
    ) -> None:
        super().__init__(name)
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.mean, self.std, self.side = mean, std, image_size
        self._sha256 = _hash_weights(module)

    @property
    def normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """The given mean and standard deviation."""
        return self.mean, self.std

    @property
    def image_size(self) -> int:
        """The given side of images."""
        return self.side

    @cached_property
    def meta_module(self) -> nn.Module:
        """The module on the meta device, without weights."""
        return copy.deepcopy(self.module).to("meta")

    def build_untrained(self) -> nn.Module:
        """Return a copy of the module, whose weights are part of it."""
        return copy.deepcopy(self.module)

    def build_trained(self, found: PretrainedWeights) -> nn.Module:
        """Return a copy of the module, whose weights are part of it."""
        return copy.deepcopy(self.module)

    def find_weights(self) -> PretrainedWeights:
        """Return the state of the module under its name in place of a file."""
        state = {name: value for name, value in self.module.state_dict().items() if isinstance(value, Tensor)}
        return PretrainedWeights(Path(self.model_name), self.sha256, "torchvision", state)

    def with_weights(self, weights: str | None) -> Self:
        """Return this network, which has no other weights."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return ModuleNetwork, (self.module, self.model_name, self.mean, self.std, self.side)


_SHARED: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], ModuleNetwork]] = WeakKeyDictionary()
"""The networks of each module by its weights and the normalisation."""
_NAMED: WeakValueDictionary[str, ModuleNetwork] = WeakValueDictionary()
"""The networks by name, since terms share the pass of networks of one name."""


def _share_network(
    module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], image_size: int
) -> ModuleNetwork:
    """Return the network of a module in its present state, one for all lenses."""
    digest = _hash_weights(module)
    shared = _SHARED.setdefault(module, {})
    key = digest, mean, std, image_size
    if key not in shared:
        name = stem = f"{type(module).__name__}-{digest[:8]}"
        count = 1
        while name in _NAMED:
            count += 1
            name = f"{stem}-{count}"
        shared[key] = _NAMED[name] = ModuleNetwork(module, name, mean, std, image_size)
    return shared[key]


def _hash_weights(module: nn.Module) -> str:
    """Return the SHA-256 of the parameters and buffers of a module, by their names."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

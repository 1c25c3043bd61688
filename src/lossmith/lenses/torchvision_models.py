"""Torchvision's classifiers as lenses: ResNet, Inception, DenseNet, EfficientNet, ConvNeXt and the others."""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith._repr import spelled
from lossmith.lens import Features
from lossmith.lenses.any_network import Network, library, shared
from lossmith.pretrained.locate import (
    Found,
    Source,
    WrongWeights,
    find,
)
from lossmith.pretrained.readers import read_tensors

__all__ = ["Torchvision"]


@final
class Torchvision(Features):
    r"""A picture as one of torchvision's classifiers sees it.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Layers are the network's parts by their dotted names, as `named_modules` has them: "layer2" and "layer3.5" of a
    ResNet, "Mixed_5d" of Inception, "features.denseblock2" of DenseNet. A part that is called again has "_1", "_2", ...
    behind its name: "layer3.5.relu_1" comes after that block's second convolution. A layer holds what its part gives
    before anything writes over it: "bn1" of a ResNet is truly before the ReLU. Maps are (N, C, H, W); of the tokens of
    a transformer those of the grid are shown, without the class token.

    VGG, AlexNet and SqueezeNet are better looked at through :class:`VGG`, :class:`AlexNet` and :class:`SqueezeNet`,
    which name each step.

    Args:
        name: One of ``torchvision.models.list_models(module=torchvision.models)``.
        layers: A layer, several, or layers with their weights in the sum.
        weights: A file, one of torchvision's names such as "IMAGENET1K_V1", "random" for an untrained network, or None
            for torchvision's default, from the usual places.
        recompute: Whether the backward pass computes each block again instead of keeping what happened in it. It pays
            where activations are no ReLUs; those keep bits alone.

    Raises:
        ValueError: An unknown network or layer, or no torchvision.

    Example:
        >>> Torchvision("resnet18", ["layer2", "layer3.1"], weights="random")
        Torchvision("resnet18", ["layer2", "layer3.1"], weights="random")
    """

    def __init__(
        self,
        name: str,
        layers: str | Sequence[str] | Mapping[str, float],
        *,
        weights: str | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__(shared(TorchvisionNetwork, name, weights, recompute), layers)

    backbone: "TorchvisionNetwork"

    def __repr__(self) -> str:
        network = self.backbone
        return spelled(self, network.call, self.asked, weights=network.weights, recompute=network.recompute or None)


@final
class TorchvisionNetwork(Network):
    """One of torchvision's classifiers, whose features :class:`Torchvision` shows."""

    package = "torchvision"

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        models = library("torchvision.models")
        known = models.list_models(module=models)
        if name not in known:
            near = ", ".join(map(repr, difflib.get_close_matches(str(name), known)))
            guess = f"did you mean {near}?" if near else f"there are {', '.join(known)}."
            raise ValueError(f"torchvision has no classifier {name!r}; {guess}")
        super().__init__(name, weights, recompute=recompute)
        self.papers = tuple(paper for family, paper in PAPERS.items() if name.startswith(family))

    @property
    def normalisation(self) -> tuple[Sequence[float], Sequence[float]]:
        """What torchvision's own transforms take off, and divide by."""
        return self._preset.mean, self._preset.std

    @property
    def side(self) -> int:
        """The side of the crops that it was made for."""
        return int(self._preset.crop_size[0])

    @property
    def _preset(self) -> Any:
        return self._variant.transforms()

    @cached_property
    def _variant(self) -> Any:
        """Which of torchvision's trainings of this network is meant."""
        kinds = library("torchvision.models").get_model_weights(self.call)
        return kinds[self.weights] if self.weights in kinds.__members__ else kinds.DEFAULT

    def find(self) -> Found:
        """The weights, see :meth:`Network.find`."""
        url, _, file = self._variant.url.rpartition("/")
        prefix = re.search(r"-([0-9a-f]{8,})\.pth$", file)
        source = Source(file, prefix[1] if prefix else "", "torchvision", read=read_model, url=f"{url}/")
        path = None if self.weights == self._variant.name else self.weights
        return find(self.name, path, (source,))

    def untrained(self) -> nn.Module:
        """The module as torchvision begins it, in the form that its trained weights want."""
        how: dict[str, Any] = {}
        if self.call in ("inception_v3", "googlenet"):  # whose weights come from TensorFlow, which took (x - .5) / .5
            how = {"transform_input": True, "init_weights": False}
        elif self.call.startswith("vit_"):
            how = {"image_size": self.side}
        module: nn.Module = library("torchvision.models").get_model(self.call, weights=None, **how)
        return module

    def trained(self, found: Found) -> nn.Module:
        """The module with the weights of a file, see :meth:`Network.trained`."""
        module = self.untrained()
        try:
            module.load_state_dict({_renamed(key): value for key, value in found.state.items()})
        except RuntimeError as error:
            raise WrongWeights(
                f"{self.name}: {str(found.path)!r} does not fit; it is another network's file. "
                f"{str(error).splitlines()[-1].strip()}"
            ) from None
        return module


PAPERS = {
    "resnet": "he2016",
    "inception_v3": "szegedy2016",
    "densenet": "huang2017",
    "mobilenet_v3": "howard2019",
    "mobilenetv3": "howard2019",
    "efficientnet_b": "tan2019",
    "vit_": "dosovitskiy2021",
    "swin_": "liu2021",
    "convnext_": "liu2022",
}
"""The sources of the families that are most used, by how their networks' names begin."""


def read_model(path: Any) -> dict[str, Tensor]:
    """The tensors of a file, or of the state dict in a checkpoint that holds more."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    raw = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        raw = raw[key] if isinstance(raw, dict) and isinstance(raw.get(key), dict) else raw
    if not (isinstance(raw, dict) and all(isinstance(value, Tensor) for value in raw.values())):
        raise ValueError("it holds no state dict of tensors")
    return raw


def _renamed(key: str) -> str:
    """DenseNet's files are older than its module, where "norm.1" has become "norm1"."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)

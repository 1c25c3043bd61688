"""Torchvision's classifiers as lenses: ResNet, Inception, DenseNet, EfficientNet, ConvNeXt and others."""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith._repr import repr_of
from lossmith.backbone import get_backbone
from lossmith.lens import Features
from lossmith.lenses._libraries import import_library
from lossmith.lenses.any_network import AnyNetwork
from lossmith.pretrained.locate import PretrainedWeights, WeightSource, WrongWeightsError, find_weights
from lossmith.pretrained.readers import read_tensors

__all__ = ["Torchvision"]


@final
class Torchvision(Features):
    r"""The features of one of torchvision's classifiers.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Layers are the dotted names of the network's submodules, as in `named_modules`: "layer2" and "layer3.5" of a ResNet,
    "Mixed_5d" of Inception, "features.denseblock2" of DenseNet. Repeated calls of a submodule get the suffixes "_1",
    "_2", ...: "layer3.5.relu_1" follows that block's second convolution. A layer is the submodule's output before any
    in-place operation: "bn1" of a ResNet is the value before the ReLU. Maps are (N, C, H, W); of a transformer's tokens
    only the grid is returned, without the class token.

    For VGG, AlexNet and SqueezeNet, prefer :class:`VGG`, :class:`AlexNet` and :class:`SqueezeNet`, which name each
    step.

    Args:
        name: One of ``torchvision.models.list_models(module=torchvision.models)``.
        layers: A layer, several layers, or a mapping from layers to their weights in the sum.
        weights: A path, one of torchvision's names such as "IMAGENET1K_V1", "random" for an untrained network, or None
            for torchvision's default, from the usual places.
        recompute: Whether the backward pass recomputes each block from its input. This saves memory in networks whose
            activations are not ReLUs; for a ReLU only one bit per element is kept anyway.

    Raises:
        ValueError: An unknown network or layer, or torchvision is not installed.

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
        super().__init__(get_backbone(TorchvisionNetwork, name, weights, recompute=recompute), layers)

    backbone: "TorchvisionNetwork"

    def __repr__(self) -> str:
        net = self.backbone
        return repr_of(self, net.model_name, self.layer_spec, weights=net.weights, recompute=net.recompute or None)


@final
class TorchvisionNetwork(AnyNetwork):
    """One of torchvision's classifiers, the network of :class:`Torchvision`."""

    library = "torchvision"

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        models = import_library("torchvision.models")
        known = models.list_models(module=models)
        if name not in known:
            near = ", ".join(map(repr, difflib.get_close_matches(str(name), known)))
            hint = f"Did you mean {near}?" if near else f"Choose one of {', '.join(known)}."
            raise ValueError(f"torchvision has no classifier {name!r}. {hint}")
        super().__init__(name, weights, recompute=recompute)
        self.citation_keys = tuple(paper for family, paper in PAPERS.items() if name.startswith(family))

    @property
    def normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """The mean and standard deviation of torchvision's own transforms."""
        return self._preset.mean, self._preset.std

    @property
    def image_size(self) -> int:
        """The side of the crops that the network was trained on."""
        return int(self._preset.crop_size[0])

    @property
    def _preset(self) -> Any:
        return self._variant.transforms()

    @cached_property
    def _variant(self) -> Any:
        """The entry of torchvision for the requested weights, or for its default weights."""
        variants = import_library("torchvision.models").get_model_weights(self.model_name)
        return variants[self.weights] if self.weights in variants.__members__ else variants.DEFAULT

    def find_weights(self) -> PretrainedWeights:
        """Locate and read the weights, see :meth:`AnyNetwork.find_weights`."""
        url, _, file = self._variant.url.rpartition("/")
        prefix = re.search(r"-([0-9a-f]{8,})\.pth$", file)
        source = WeightSource(file, prefix[1] if prefix else "", "torchvision", read=read_model, url=f"{url}/")
        path = None if self.weights == self._variant.name else self.weights
        return find_weights(self.name, path, (source,))

    def build_untrained(self) -> nn.Module:
        """Return the module as torchvision initialises it, with the options of its trained weights."""
        options: dict[str, Any] = {}
        if self.model_name in ("inception_v3", "googlenet"):  # weights from TensorFlow, normalised as (x - .5) / .5
            options = {"transform_input": True, "init_weights": False}
        elif self.model_name.startswith("vit_"):
            options = {"image_size": self.image_size}
        module: nn.Module = import_library("torchvision.models").get_model(self.model_name, weights=None, **options)
        return module

    def build_trained(self, found: PretrainedWeights) -> nn.Module:
        """Return the module with the weights of a file, see :meth:`AnyNetwork.build_trained`."""
        module = self.build_untrained()
        try:
            module.load_state_dict({_rename_densenet_key(key): value for key, value in found.state.items()})
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise WrongWeightsError(
                f"{self.name}: {str(found.path)!r} does not fit and belongs to another network. {reason}"
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
"""Citation keys by the prefix of network names, for the most used families."""


def read_model(path: Any) -> dict[str, Tensor]:
    """Read the tensors of a file, or of the state dict in a checkpoint."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    raw = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        raw = raw[key] if isinstance(raw, dict) and isinstance(raw.get(key), dict) else raw
    if not (isinstance(raw, dict) and all(isinstance(value, Tensor) for value in raw.values())):
        raise ValueError("it holds no state dict of tensors")
    return raw


def _rename_densenet_key(key: str) -> str:
    """Return the module's name for a parameter of a DenseNet file: "norm.1" in old files is "norm1" today."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)

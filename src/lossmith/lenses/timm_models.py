"""Timm's networks as lenses: about 1,500 sets of weights, among them DINOv2, CLIP's encoders and ConvNeXt."""

import difflib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from torch import nn

from lossmith._repr import repr_of
from lossmith.backbone import get_backbone
from lossmith.lens import Features
from lossmith.lenses._libraries import import_library
from lossmith.lenses.any_network import AnyNetwork
from lossmith.lenses.torchvision_models import PAPERS, read_model
from lossmith.pretrained.locate import (
    MissingWeightsError,
    PretrainedWeights,
    WeightSource,
    WrongWeightsError,
    find_weights,
)

__all__ = ["Timm"]


@final
class Timm(Features):
    r"""The features of one of timm's networks.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Layers are the dotted names of the network's submodules, see :class:`Torchvision`: "stages.2" of a ConvNeXt,
    "layer3" of a ResNet, "blocks.8" of a vision transformer. Maps are (N, C, H, W); of a transformer's tokens only the
    grid is returned, without class and register tokens. Transformers with resampled position embeddings take images of
    any size.

    References:
        | PyTorch Image Models (Wightman, 2019)
        | https://github.com/huggingface/pytorch-image-models

    Args:
        name: One of ``timm.list_models(pretrained=True)``; without the tag behind the dot, timm's default tag is used.
        layers: A layer, several layers, or a mapping from layers to their weights in the sum.
        weights: A path, "random" for an untrained network, or None for timm's own weights from the usual places, which
            include the Hugging Face cache.
        recompute: Whether the backward pass recomputes each block from its input. This saves memory in networks whose
            activations are not ReLUs; for a ReLU only one bit per element is kept anyway.

    Raises:
        ValueError: An unknown network or layer, or timm is not installed.

    Example:
        >>> Timm("convnext_atto.d2_in1k", "stages.2", weights="random")
        Timm("convnext_atto.d2_in1k", "stages.2", weights="random")
    """

    def __init__(
        self,
        name: str,
        layers: str | Sequence[str] | Mapping[str, float],
        *,
        weights: str | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__(get_backbone(TimmNetwork, resolve_name(name), weights, recompute=recompute), layers)

    backbone: "TimmNetwork"

    def __repr__(self) -> str:
        net = self.backbone
        return repr_of(self, net.model_name, self.layer_spec, weights=net.weights, recompute=net.recompute or None)


def resolve_name(name: str) -> str:
    """Return a network's full name with the tag of its weights: "resnet18" is "resnet18.a1_in1k".

    Raises:
        ValueError: timm has no such network.
    """
    timm = import_library("timm")
    architecture, _, tag = str(name).partition(".")
    tags = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
    if timm.is_model(architecture) and (not tag or name in tags):
        cfg = timm.get_pretrained_cfg(architecture)
        return name if tag or not cfg or not cfg.tag else f"{architecture}.{cfg.tag}"
    near = ", ".join(map(repr, difflib.get_close_matches(str(name), tags or timm.list_models())))
    hint = f"Did you mean {near}?" if near else "See timm.list_models(pretrained=True)."
    raise ValueError(f"timm has no network {name!r}. {hint}")


@final
class TimmNetwork(AnyNetwork):
    """One of timm's networks, the network of :class:`Timm`."""

    library = "timm"

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        super().__init__(name, weights, recompute=recompute)
        self.citation_keys = (*(paper for family, paper in PAPERS.items() if name.startswith(family)), "wightman2019")

    @cached_property
    def _cfg(self) -> Any:
        return import_library("timm").get_pretrained_cfg(self.model_name)

    @property
    def normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """The mean and standard deviation of timm's own transforms."""
        return self._cfg.mean, self._cfg.std

    @property
    def image_size(self) -> int:
        """The side of the images that the network was trained on."""
        return int(self._cfg.input_size[1])

    def find_weights(self) -> PretrainedWeights:
        """Locate and read the weights, on the Hugging Face hub too, see :meth:`AnyNetwork.find_weights`."""
        sources = tuple(
            WeightSource(f"{self.model_name}{suffix}", "", "torchvision", read=read_model) for suffix in SUFFIXES
        )
        try:
            return find_weights(self.name, self.weights, sources)
        except MissingWeightsError as missing:
            if self.weights is not None or not self._cfg.hf_hub_id:
                raise
            file = self._cfg.hf_hub_filename or "model.safetensors"
            path = download_from_hub(self._cfg.hf_hub_id, file, str(missing))
        return find_weights(self.name, path, sources)

    def build_untrained(self) -> nn.Module:
        """Return the module as timm initialises it, for images of any size where timm supports that."""
        return self._create_model()

    def build_trained(self, found: PretrainedWeights) -> nn.Module:
        """Return the module with the weights of a file, see :meth:`AnyNetwork.build_trained`."""
        try:
            return self._create_model(pretrained=True, pretrained_cfg_overlay={"state_dict": found.state})
        except (RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise WrongWeightsError(
                f"{self.name}: {str(found.path)!r} does not fit and belongs to another network. {reason}"
            ) from None

    def _create_model(self, **options: Any) -> nn.Module:
        timm = import_library("timm")
        for size_options in ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"strict_img_size": False}):
            try:
                module: nn.Module = timm.create_model(self.model_name, **options, **size_options)
            except TypeError:  # this family does not have the option
                continue
            return module
        module = timm.create_model(self.model_name, **options)
        return module.eval()


SUFFIXES = (".safetensors", ".pth", ".bin")
"""The suffixes of a weight file in LOSSMITH_WEIGHTS, whose stem is the network's name."""


def download_from_hub(repository: str, file: str, missing: str) -> str:
    """Return the path of a file of the Hugging Face hub, from its cache or downloaded.

    Args:
        repository: The repository's name.
        file: The file's name.
        missing: The first part of the error message, which says where the file was looked for before.

    Raises:
        MissingWeightsError: The file is not in the cache and cannot be downloaded.
    """
    try:
        hub = import_library("huggingface_hub")
        cached = hub.try_to_load_from_cache(repository, file)
        return cached if isinstance(cached, str) else str(Path(hub.hf_hub_download(repository, file, etag_timeout=10)))
    except Exception as error:  # the hub's exceptions have no common base class
        raise MissingWeightsError(
            f"{missing} Or be online once, for {file} of {repository} on the Hugging Face hub "
            f"(that failed just now: {(str(error).splitlines() or [''])[0]})."
        ) from None

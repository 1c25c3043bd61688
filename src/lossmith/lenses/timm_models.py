"""Timm's networks as lenses: some 1,500 sets of weights, among them DINOv2, CLIP's encoders and ConvNeXt."""

import difflib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from torch import nn

from lossmith._repr import spelled
from lossmith.lens import Features
from lossmith.lenses.any_network import Network, library, shared
from lossmith.lenses.torchvision_models import PAPERS, read_model
from lossmith.pretrained.locate import (
    Found,
    MissingWeights,
    Source,
    WrongWeights,
    find,
)

__all__ = ["Timm"]


@final
class Timm(Features):
    r"""A picture as one of timm's networks sees it.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Layers are the network's parts by their dotted names, see :class:`Torchvision`: "stages.2" of a ConvNeXt, "layer3"
    of a ResNet, "blocks.8" of a vision transformer. Maps are (N, C, H, W): of a transformer's tokens those of the grid
    are shown, without class tokens and registers. Transformers that can take pictures of any size do so, their
    positions resampled.

    References:
        | PyTorch Image Models (Wightman, 2019)
        | https://github.com/huggingface/pytorch-image-models

    Args:
        name: One of ``timm.list_models(pretrained=True)``; without what is behind its dot, timm's default is taken.
        layers: A layer, several, or layers with their weights in the sum.
        weights: A file, "random" for an untrained network, or None for timm's own from the usual places, of which the
            Hugging Face cache is one.
        recompute: Whether the backward pass computes each block again instead of keeping what happened in it. It pays
            where activations are no ReLUs; those keep bits alone.

    Raises:
        ValueError: An unknown network or layer, or no timm.

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
        super().__init__(shared(TimmNetwork, resolved(name), weights, recompute), layers)

    backbone: "TimmNetwork"

    def __repr__(self) -> str:
        network = self.backbone
        return spelled(self, network.call, self.asked, weights=network.weights, recompute=network.recompute or None)


def resolved(name: str) -> str:
    """A network's full name, with that of its training: "resnet18" is "resnet18.a1_in1k".

    Raises:
        ValueError: timm has no such network.
    """
    timm = library("timm")
    architecture, _, tag = str(name).partition(".")
    tags = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
    if timm.is_model(architecture) and (not tag or name in tags):
        cfg = timm.get_pretrained_cfg(architecture)
        return name if tag or not cfg or not cfg.tag else f"{architecture}.{cfg.tag}"
    near = ", ".join(map(repr, difflib.get_close_matches(str(name), tags or timm.list_models())))
    guess = f"did you mean {near}?" if near else "see timm.list_models(pretrained=True)."
    raise ValueError(f"timm has no network {name!r}; {guess}")


@final
class TimmNetwork(Network):
    """One of timm's networks, whose features :class:`Timm` shows."""

    package = "timm"

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        super().__init__(name, weights, recompute=recompute)
        self.papers = (*(paper for family, paper in PAPERS.items() if name.startswith(family)), "wightman2019")

    @cached_property
    def _cfg(self) -> Any:
        return library("timm").get_pretrained_cfg(self.call)

    @property
    def normalisation(self) -> tuple[Sequence[float], Sequence[float]]:
        """What timm's own transforms take off, and divide by."""
        return self._cfg.mean, self._cfg.std

    @property
    def side(self) -> int:
        """The side of the pictures that it was made for."""
        return int(self._cfg.input_size[1])

    def find(self) -> Found:
        """The weights, see :meth:`Network.find`; timm's own come from the Hugging Face hub, or its cache."""
        sources = tuple(Source(f"{self.call}{end}", "", "torchvision", read=read_model) for end in ENDS)
        try:
            return find(self.name, self.weights, sources)
        except MissingWeights as missing:
            if self.weights is not None or not self._cfg.hf_hub_id:
                raise
            path = from_hub(self._cfg.hf_hub_id, self._cfg.hf_hub_filename or "model.safetensors", str(missing))
        return find(self.name, path, sources)

    def untrained(self) -> nn.Module:
        """The module as timm begins it, for pictures of any size where it can."""
        return self._created()

    def trained(self, found: Found) -> nn.Module:
        """The module with the weights of a file, see :meth:`Network.trained`."""
        try:
            return self._created(pretrained=True, pretrained_cfg_overlay={"state_dict": found.state})
        except (RuntimeError, KeyError) as error:
            raise WrongWeights(
                f"{self.name}: {str(found.path)!r} does not fit; it is another network's file. "
                f"{str(error).splitlines()[-1].strip()}"
            ) from None

    def _created(self, **how: Any) -> nn.Module:
        timm = library("timm")
        for sizes in ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"strict_img_size": False}):
            try:
                module: nn.Module = timm.create_model(self.call, **how, **sizes)
            except TypeError:  # this family does not know the option
                continue
            return module
        module = timm.create_model(self.call, **how)
        return module.eval()


ENDS = (".safetensors", ".pth", ".bin")
"""How a file of weights in LOSSMITH_WEIGHTS may end, behind the network's name."""


def from_hub(repository: str, file: str, missing: str) -> str:
    """A file of the Hugging Face hub: out of its cache, or else downloaded into it.

    Raises:
        MissingWeights: It is not there, and cannot be had.
    """
    try:
        hub = library("huggingface_hub")
        cached = hub.try_to_load_from_cache(repository, file)
        return cached if isinstance(cached, str) else str(Path(hub.hf_hub_download(repository, file, etag_timeout=10)))
    except Exception as error:  # of the hub's many, some derive from no common one
        raise MissingWeights(
            f"{missing} Or be online once, for {file} of {repository} on the Hugging Face hub "
            f"(that failed just now: {(str(error).splitlines() or [''])[0]})."
        ) from None

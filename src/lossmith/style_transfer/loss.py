"""The loss of a painting: from one formula to what is compared at each size."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.balance import calibrate
from lossmith.formula.loss import Hybrid, Loss
from lossmith.lens import Features
from lossmith.pretrained.locate import MissingWeightsError, find_weights
from lossmith.pretrained.sources import SOURCES

__all__ = ["FEEDFORWARD_LOSS", "has_local_weights", "blend_images", "check_style_loss", "build_style_formula", "split_style_terms", "min_image_size", "resolve_style_strength"]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYER = "relu4_2"
FEEDFORWARD_LOSS = (
    '(L2 @ VGG("vgg16", "relu2_2")).on(target="content")'
    ' + 1e5 * (L2 @ Gram @ VGG("vgg16", ["relu1_2", "relu2_2", "relu3_3", "relu4_3"])).on(target="style")'
    " + 5 * TV"
)
"""What a network learns a style by: Johnson's layers, weights of PyTorch's own example, and a little variation."""


def build_style_formula(net: str, layers: Sequence[str] = STYLE_LAYERS) -> str:
    """The usual loss on a network, "vgg19", "vgg16" or "embedded", as shares of the gradient, see :func:`between`.

    A little variation keeps VGG's paintings clean. The embedded network, whose first layers pull less at plain places,
    does without: there nothing would stand against it, and plain places would stay plain.
    """
    lens = "Embedded(" if net == "embedded" else f'VGG("{net}", '
    content, smooth = (5, 0) if net == "embedded" else (10, 5)
    share = (100 - content - smooth) / len(layers)
    terms = [f'{content}% * (L2 @ {lens}"{CONTENT}")).on(target="content")']
    terms += [f'{share:.6g}% * (L2 @ Gram @ {lens}"{layer}")).on(target="style")' for layer in layers]
    return " + ".join([*terms, f"{smooth}% * TV"] if smooth else terms)


def has_local_weights(name: str) -> bool:
    """Whether a network's weights lie on this machine, so that nothing has to be downloaded."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if any(source.url and (cache / source.file).is_file() for source in SOURCES[name]):
        return True
    try:
        return bool(find_weights(name, sources=tuple(replace(source, url=None) for source in SOURCES[name])).state)
    except MissingWeightsError:
        return False


def check_style_loss(loss: Loss) -> Loss:
    """The loss, if a picture can be painted by it.

    Raises:
        ValueError: It reads other views, leaves a knob open, has a critic, or does not look at the painting.
    """
    if unknown := sorted(loss.input_names - {"pred", "content", "style"}):
        raise ValueError(
            f"A painting has the views pred, content and style; the formula reads '{unknown[0]}'. "
            f'Put it elsewhere, such as .on({unknown[0]}="content").'
        )
    if "pred" not in loss.input_names:
        raise ValueError("A painting is made by what the formula says of 'pred'; it does not read it.")
    if loss.knobs:
        raise ValueError(f"The formula leaves '{loss.knobs[0]}' open; write a number in its place.")
    for name, term in zip(loss.names, loss.terms, strict=True):
        if term.distance.discriminator_step is not None:
            raise ValueError(f"The term '{name}' has a critic, which learns from many pictures; leave it out.")
    return loss


def split_style_terms(loss: Loss, weights: Sequence[float]) -> Loss:
    """The loss with each term on "style" once for each of several, "style0", "style1", ..., in parts.

    For Gram matrices under a squared distance it has the gradient of a distance to the mean of the matrices.
    """
    terms = []
    for term in loss.terms:
        styled = [p for p, view in term.inputs.items() if view == "style"]
        if not styled:
            terms.append(term)
        for i, weight in enumerate(weights) if styled else ():
            views = {**term.input_renames, **dict.fromkeys(styled, f"style{i}")}
            terms.append(replace(term, weight=term.weight * weight, input_renames=views))
    return Hybrid(terms)


def resolve_style_strength(loss: Loss, strength: float, views: Mapping[str, Tensor]) -> Loss:
    """The loss with its shares as numbers, measured on some views, and its terms on styles times a strength."""
    if any(weight.share is not None for weight in loss.weights):
        loss = calibrate(loss, views).resolve_shares()
    styled = [any(view.startswith("style") for view in term.inputs.values()) for term in loss.terms]
    return loss.reweighted([w * strength if s else w for w, s in zip(loss.weights, styled, strict=True)])


def blend_images(content: Tensor, styles: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Half content, half style: where shares are measured, since at either end a term has no gradient."""
    size = content.shape[-2:]
    laid = [F.interpolate(s, size=size, mode="bicubic", antialias=True, align_corners=False) for s in styles]
    return (content + sum(w * s for w, s in zip(weights, laid, strict=True))) / 2


def min_image_size(loss: Loss) -> int:
    """The shortest side in pixels that the networks of a loss have use for."""
    seen = [stage for term in loss.terms for _, stage in term.path if isinstance(stage, Features)]
    return max((lens.backbone.min_size(lens.layers) for lens in seen), default=1)

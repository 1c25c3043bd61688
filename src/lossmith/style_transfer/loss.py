"""The losses of style transfer: default formulas, checks, several styles and strength."""

import math
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

__all__ = [
    "blend_images",
    "build_style_formula",
    "check_style_loss",
    "has_local_weights",
    "min_image_size",
    "normalize_style_weights",
    "resolve_style_strength",
    "split_style_terms",
]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYER = "relu4_2"


def build_style_formula(net: str, layers: Sequence[str] = STYLE_LAYERS) -> str:
    """Return the default formula of an optimization, with shares of the gradient as weights.

    Shares are measured at :func:`blend_images`. TV reduces artifacts of VGG. The embedded network goes without: in
    uniform regions the gradients of its first layers are too small to work against TV, and these regions would stay
    uniform.

    Args:
        net: The feature network: "vgg19", "vgg16" or "embedded".
        layers: The style layers.
    """
    lens = "Embedded(" if net == "embedded" else f'VGG("{net}", '
    content, smoothness = (5, 0) if net == "embedded" else (10, 5)
    share = (100 - content - smoothness) / len(layers)
    terms = [f'{content}% * (L2 @ {lens}"{CONTENT_LAYER}")).on(target="content")']
    terms += [f'{share:.6g}% * (L2 @ Gram @ {lens}"{layer}")).on(target="style")' for layer in layers]
    return " + ".join([*terms, f"{smoothness}% * TV"] if smoothness else terms)


def has_local_weights(network: str) -> bool:
    """Return whether a network's weights are found without a download."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if any(source.url and (cache / source.file).is_file() for source in SOURCES[network]):
        return True
    local = tuple(replace(source, url=None) for source in SOURCES[network])
    try:
        return bool(find_weights(network, sources=local).state)
    except MissingWeightsError:
        return False


def check_style_loss(loss: Loss) -> None:
    """Check that an image can be optimized with a loss.

    Raises:
        ValueError: The loss reads other inputs than "pred", "content" and "style", does not read "pred", has a knob, or
            has a term with a discriminator.
    """
    if unknown := sorted(loss.input_names - {"pred", "content", "style"}):
        raise ValueError(
            f"Style transfer provides the inputs pred, content and style; the formula reads '{unknown[0]}'. "
            f'Use another input, such as .on({unknown[0]}="content").'
        )
    if "pred" not in loss.input_names:
        raise ValueError("The formula must read the input 'pred', the optimized image.")
    if loss.knobs:
        raise ValueError(f"The formula has the knob '{loss.knobs[0]}'; use a number instead.")
    for name, term in zip(loss.names, loss.terms, strict=True):
        if term.distance.discriminator_step is not None:
            raise ValueError(
                f"The term '{name}' has a discriminator, which needs many images for training; remove the term."
            )


def split_style_terms(loss: Loss, weights: Sequence[float]) -> Loss:
    """Return the loss with one copy of each style term for each style, with weights that sum to 1.

    The copies read the inputs "style0", "style1", ... For Gram matrices under a squared distance, the gradient equals
    that of the distance to the weighted mean of the matrices.
    """
    terms = []
    for term in loss.terms:
        parameters = [parameter for parameter, name in term.inputs.items() if name == "style"]
        if not parameters:
            terms.append(term)
            continue
        for i, weight in enumerate(weights):
            renames = {**term.input_renames, **dict.fromkeys(parameters, f"style{i}")}
            terms.append(replace(term, weight=term.weight * weight, input_renames=renames))
    return Hybrid(terms)


def resolve_style_strength(loss: Loss, strength: float, inputs: Mapping[str, Tensor]) -> Loss:
    """Return the loss with shares replaced by the weights measured on the inputs, and style terms times `strength`."""
    if any(weight.share is not None for weight in loss.weights):
        loss = calibrate(loss, inputs).resolve_shares()
    is_style = [any(name.startswith("style") for name in term.inputs.values()) for term in loss.terms]
    return loss.reweighted([w * strength if style else w for w, style in zip(loss.weights, is_style, strict=True)])


def blend_images(content: Tensor, styles: Sequence[Tensor], weights: Sequence[float], *, clip: bool = False) -> Tensor:
    """Return the average of the content and the weighted styles in the content's size.

    Shares are measured there, because each term's gradient is 0 at its own target.

    Args:
        content: (N, 3, H, W).
        styles: Style images of any size.
        weights: One weight for each style, with sum 1.
        clip: Whether the resized styles are clipped to [0, 1].
    """
    size = content.shape[-2:]
    resized = [F.interpolate(s, size=size, mode="bicubic", antialias=True, align_corners=False) for s in styles]
    resized = [style.clamp(0, 1) for style in resized] if clip else resized
    return (content + sum(w * s for w, s in zip(weights, resized, strict=True))) / 2


def min_image_size(loss: Loss) -> int:
    """Return the smallest side in pixels of an image for the networks of a loss."""
    lenses = [stage for term in loss.terms for _, stage in term.path if isinstance(stage, Features)]
    return max((lens.backbone.min_size(lens.layers) for lens in lenses), default=1)


def normalize_style_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return the weights of `count` styles, scaled to sum to 1; equal weights for None.

    Raises:
        ValueError: There are no styles, not one weight for each style, or a weight is not positive and finite.
    """
    if not count:
        raise ValueError("Style transfer needs at least one style image; got none.")
    values = list(weights) if weights is not None else [1.0] * count
    if len(values) != count:
        raise ValueError(f"There must be one weight for each style image, {count}; got {len(values)}.")
    if not all(0 < weight < math.inf for weight in values):
        raise ValueError(f"The weights of style images must be positive; got {', '.join(map(str, values))}.")
    return [weight / sum(values) for weight in values]

"""Recipes: functions that build common losses on network features, with their usual layers and weights."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from lossmith._checks import check_choice, check_number
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.schedule import OnFrom
from lossmith.lens import Features
from lossmith.lenses.alexnet import AlexNet
from lossmith.lenses.by_name import build_lens
from lossmith.lenses.embedded import EMBEDDED_LAYERS, Distilled, Embedded
from lossmith.lenses.gram import Gram, Norm
from lossmith.lenses.lpips import LPIPS_LAYERS, Calibrated, Net
from lossmith.lenses.module_features import ModuleFeatures
from lossmith.lenses.vgg import VGG
from lossmith.losses.pixel import L1, L2, SquaredNorm
from lossmith.losses.ssim import MSSSIM

__all__ = ["distilled_lpips", "lpips", "ms_ssim_l1", "perceptual", "style"]

DistanceName = Literal["l1", "l2", "norm"]
Layers = str | Sequence[str] | Mapping[str, float]

_DISTANCES: dict[str, type[Loss]] = {"l1": L1, "l2": L2, "norm": SquaredNorm}

PERCEPTUAL_LAYERS: dict[str, Layers] = {
    "embedded": {"conv1_1": 10.0, "conv2_2": 10.0, "conv3_2": 10.0, "conv4_2": 5.0, "conv5_2": 2.5},
    "squeezenet": {"conv1": 0.1, "fire3_conv": 0.1, "fire5_conv": 1.0, "fire7_conv": 1.0, "fire9_conv": 1.0},
    "vgg16": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_3": 1.0, "conv4_3": 1.0, "conv5_3": 1.0},
    "vgg19": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0},
    "alexnet": ["conv1", "conv2", "conv3", "conv4", "conv5"],
}
"""The layers and weights of Real-ESRGAN for VGG-19, and layers of the same depth for the other networks.

Those of the embedded network were chosen on held-out photographs by comparison with VGG-16 (docs/embedded.md).
"""

STYLE_LAYERS: dict[str, Layers] = {
    "embedded": ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"],
    "squeezenet": ["relu1", "fire3", "fire5", "fire7", "fire9"],
    "vgg16": ["relu1_2", "relu2_2", "relu3_3", "relu4_3"],
    "vgg19": ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"],
    "alexnet": ["relu1", "relu2", "relu3", "relu4", "relu5"],
}
"""Gatys's layers of VGG-19, Johnson's layers of VGG-16, and the last layer of each stage of the other networks."""


def perceptual(
    net: str | nn.Module = "embedded",
    layers: Layers | None = None,
    distance: DistanceName = "l1",
    *,
    weights: str | None = None,
) -> Hybrid:
    r"""Build the perceptual loss: the distance between features of a frozen classification network.

    .. math:: \sum_l \lambda_l \, d(\phi_l(x), \phi_l(y))

    with d the mean absolute difference ("l1": ESRGAN, Real-ESRGAN, BasicSR), the mean squared difference ("l2": SRGAN,
    Johnson's content loss) or the squared norm ("norm": Gatys, up to a factor of 1/2). The default network is
    lossmith's own: it was distilled from VGG-16, costs 1/24 of it and is part of the package (docs/embedded.md); a
    weight has about the same effect with either. The usual network of the field is "vgg19". Add several losses to use
    several networks.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016)
        | https://arxiv.org/abs/1603.08155

    Args:
        net: "embedded", "squeezenet", "vgg16", "vgg19" or "alexnet"; a name of torchvision or timm for any other; or,
            in Python, a module of your own that takes RGB images in [0, 1], see :class:`ModuleFeatures`.
        layers: A layer, several layers, or layers with their weights. The default for the five networks is one layer
            per stage, before the ReLU, with the weights of Real-ESRGAN; for "embedded", the weights give all layers
            about the same gradient norm.
        distance: "l1", "l2" or "norm".
        weights: The path of a weight file, "random" for an untrained network, or None for the default locations.

    Raises:
        ValueError: If the network, a layer or the distance is unknown.

    Example:
        >>> perceptual("vgg19", "conv5_4")
        L1() @ VGG("vgg19", "conv5_4")
        >>> perceptual("vgg19", ["conv3_3", "conv4_3"], "l2")
        L2() @ VGG("vgg19", ["conv3_3", "conv4_3"])
    """
    _check_option("perceptual", "distance", distance, DistanceName, layers)
    return _DISTANCES[distance]() @ _build_features("perceptual", net, layers, PERCEPTUAL_LAYERS, weights)


def style(
    net: str | nn.Module = "embedded", layers: Layers | None = None, norm: Norm = "chw", *, weights: str | None = None
) -> Hybrid:
    r"""Build the style loss: the distance between Gram matrices of features, independent of positions.

    .. math:: \sum_l \lambda_l \frac{1}{C_l^2} \lVert G_l(x) - G_l(y) \rVert_F^2, \quad G_l = F_l F_l^T / n

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016)
        | https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html

    Args:
        net: "embedded", "squeezenet", "vgg16", "vgg19" or "alexnet"; a name of torchvision or timm for any other; or,
            in Python, a module of your own that takes RGB images in [0, 1], see :class:`ModuleFeatures`.
        layers: A layer, several layers, or layers with their weights. The default for the five networks is one layer
            per stage, after the ReLU.
        norm: The divisor n of a Gram matrix: "chw", "hw" or "none", see :class:`Gram`.
        weights: The path of a weight file, "random" for an untrained network, or None for the default locations.

    Raises:
        ValueError: If the network, a layer or the norm is unknown.

    Example:
        >>> style("vgg19", "relu4_2")
        L2() @ Gram() @ VGG("vgg19", "relu4_2")
    """
    _check_option("style", "norm", norm, Norm, layers)
    return L2() @ Gram(norm) @ _build_features("style", net, layers, STYLE_LAYERS, weights)


def lpips(net: Net = "alex", *, weights: str | None = None) -> Hybrid:
    r"""Build the learned perceptual distance LPIPS, version 0.1, for images in [0, 1].

    .. math:: \sum_l \frac{1}{H_l W_l} \sum_{h,w} \lVert w_l \odot (\hat\phi_l(x) - \hat\phi_l(y)) \rVert_2^2

    The loss is ``L2() @ Calibrated(net) @ network``; with "vgg" it shares the forward pass of VGG-16 with all other
    terms on this network. The authors' package expects images in [-1, 1]; the conversion here is exact.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        net: "alex", the usual metric, or "vgg", the better loss.
        weights: "random" for an untrained network under the trained heads, or None for the default locations.

    Raises:
        ValueError: If the network is unknown.

    Example:
        >>> lpips("vgg")
        L2() @ Calibrated("vgg") @ VGG("vgg16", ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"])
    """
    check_choice("lpips net", net, Net)
    layers = LPIPS_LAYERS[net]
    features: Features = AlexNet(layers, weights=weights) if net == "alex" else VGG("vgg16", layers, weights=weights)
    return L2() @ Calibrated(net) @ features


def distilled_lpips(*, weights: str | None = None) -> Hybrid:
    r"""Build an approximation of LPIPS-VGG by a network of 0.7 M parameters, which is part of lossmith.

    .. math:: \sum_l \frac{1}{H_l W_l} \sum_{h,w} \lVert w_l \odot (\hat\phi_l(x) - \hat\phi_l(y)) \rVert_2^2

    The loss is ``L2() @ Distilled() @ Embedded(...)``; it shares the forward pass of the embedded network with all
    other terms on this network and needs no download. It is **not** LPIPS but approximates it, in the same units: do
    not report it as LPIPS. docs/embedded.md states the accuracy.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        weights: The path of a weight file, "random" for an untrained network under the trained channel weights, or None
            for the weights of the package.

    Example:
        >>> distilled_lpips()
        L2() @ Distilled() @ Embedded(["relu1_1", "relu2_2", "relu3_2", "relu4_2", "relu5_2"])
    """
    heads = Distilled(weights=None if weights == "random" else weights)
    return L2() @ heads @ Embedded(EMBEDDED_LAYERS, weights=weights)


def ms_ssim_l1(alpha: float = 0.84) -> Hybrid:
    r"""Build the weighted sum of MS-SSIM and L1 of Zhao et al.

    .. math:: \alpha \, (1 - \text{MS-SSIM}) + (1 - \alpha) \, L_1

    The paper weights the L1 by the Gaussian window of the coarsest scale, which affects only the borders of an image;
    this function does not.

    References:
        | Loss Functions for Image Restoration with Neural Networks (Zhao et al., 2017)
        | https://arxiv.org/abs/1511.08861

    Args:
        alpha: The weight of MS-SSIM, in [0, 1]; 0.84 in the paper.

    Raises:
        ValueError: If alpha is out of range.

    Example:
        >>> ms_ssim_l1()
        0.84 * MSSSIM() + 0.16 * L1()
    """
    check_number("ms_ssim_l1 alpha", alpha, low=0, high=1)
    return alpha * MSSSIM() + round(1 - alpha, 12) * L1()


def start_after(warmup: int, loss: Loss) -> Loss:
    """Return the loss with weight 0 for the first `warmup` steps of a training; unchanged if `warmup` is 0."""
    return loss * OnFrom(warmup) if warmup else loss


def _check_option(recipe: str, name: str, value: object, choices: object, layers: Layers | None) -> None:
    """Raise ValueError for an unknown third argument, which may be a second layer."""
    try:
        check_choice(f"{recipe} {name}", value, choices)
    except ValueError as error:
        if not (isinstance(layers, str) and isinstance(value, str)):
            raise
        hint = f"Several layers go in a list: layers=[{layers!r}, {value!r}]."
        raise ValueError(f"{error} {hint}") from None


def _build_features(
    recipe: str, net: str | nn.Module, layers: Layers | None, defaults: Mapping[str, Layers], weights: str | None
) -> Features:
    if isinstance(net, nn.Module):
        if layers is None or weights is not None:
            reason = "has no default layers; name them" if layers is None else "has its own weights; leave out weights"
            raise ValueError(f"{recipe} on a module of your own {reason}. Got a {type(net).__name__}.")
        return ModuleFeatures(net, layers)
    if not isinstance(net, str):
        raise ValueError(
            f"{recipe} net must be the name of a network, such as {next(iter(defaults))!r}, or a torch.nn.Module; got "
            f"{type(net).__name__ if callable(net) else repr(net)}."
        )
    if layers is None and net not in defaults:
        raise ValueError(
            f"{recipe} has default layers for {', '.join(map(repr, defaults))}; for another network name the layers, "
            f"such as {recipe}('resnet50', 'layer3'). Got {net!r} without layers."
        )
    return build_lens(net, defaults[net] if layers is None else layers, weights)

"""The usual names: functions that build a loss of features, so that nobody writes its lenses out."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from lossmith._repr import format_literal
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.schedule import OnFrom
from lossmith.lens import Features
from lossmith.lenses.alexnet import AlexNet
from lossmith.lenses.by_name import build_lens
from lossmith.lenses.embedded import EMBEDDED_LAYERS, Distilled, Embedded
from lossmith.lenses.gram import Gram, Norm
from lossmith.lenses.lpips import LPIPS_LAYERS, Calibrated, Net
from lossmith.lenses.vgg import VGG
from lossmith.losses.pixel import L1, L2, SquaredNorm
from lossmith.losses.ssim import MSSSIM

__all__ = ["distilled_lpips", "lpips", "ms_ssim_l1", "perceptual", "style"]

DistanceName = Literal["l1", "l2", "norm"]
Layers = str | Sequence[str] | Mapping[str, float]

DISTANCES: dict[str, type[Loss]] = {"l1": L1, "l2": L2, "norm": SquaredNorm}

PERCEPTUAL_LAYERS: dict[str, Layers] = {
    "embedded": {"conv1_1": 10.0, "conv2_2": 10.0, "conv3_2": 10.0, "conv4_2": 5.0, "conv5_2": 2.5},
    "squeezenet": {"conv1": 0.1, "fire3_conv": 0.1, "fire5_conv": 1.0, "fire7_conv": 1.0, "fire9_conv": 1.0},
    "vgg16": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_3": 1.0, "conv4_3": 1.0, "conv5_3": 1.0},
    "vgg19": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0},
    "alexnet": ["conv1", "conv2", "conv3", "conv4", "conv5"],
}
"""Real-ESRGAN's layers and weights of VGG-19, and what stands at the same depth in the others.

Those of the embedded network were chosen on photographs held back, beside VGG-16 (docs/embedded.md).
"""

STYLE_LAYERS: dict[str, Layers] = {
    "embedded": ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"],
    "squeezenet": ["relu1", "fire3", "fire5", "fire7", "fire9"],
    "vgg16": ["relu1_2", "relu2_2", "relu3_3", "relu4_3"],
    "vgg19": ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"],
    "alexnet": ["relu1", "relu2", "relu3", "relu4", "relu5"],
}
"""Gatys's layers of VGG-19, Johnson's of VGG-16, and the last of each stage in the others."""


def perceptual(
    net: str = "embedded", layers: Layers | None = None, distance: DistanceName = "l1", *, weights: str | None = None
) -> Hybrid:
    r"""How differently a frozen classifier sees two pictures.

    .. math:: \sum_l \lambda_l \, d(\phi_l(x), \phi_l(y))

    with d the mean absolute ("l1": ESRGAN, Real-ESRGAN, BasicSR) or mean squared difference ("l2": SRGAN; Johnson's
    content), or the plain squared norm ("norm": Gatys up to one half). The default network is lossmith's own, which was
    taught by VGG-16, costs a 24th of it and lies in the package (docs/embedded.md); a weight means about the same with
    either. The field's own is "vgg19". Several networks: add several.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016)
        | https://arxiv.org/abs/1603.08155

    Args:
        net: "embedded", "squeezenet", "vgg16", "vgg19" or "alexnet"; or torchvision's or timm's name of any other.
        layers: A layer, several, or layers with their weights; by default, of these five, one a stage, before
            the ReLU, weighted as in Real-ESRGAN; of "embedded" such that each has about as much of the gradient.
        distance: "l1", "l2" or "norm".
        weights: A file, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown network, layer or distance.

    Example:
        >>> perceptual("vgg19", "conv5_4")
        L1() @ VGG("vgg19", "conv5_4")
        >>> perceptual("vgg19", ["conv3_3", "conv4_3"], "l2")
        L2() @ VGG("vgg19", ["conv3_3", "conv4_3"])
    """
    _known("perceptual", "distance", distance, DistanceName)
    return DISTANCES[distance]() @ _features("perceptual", net, layers, PERCEPTUAL_LAYERS, weights)


def style(
    net: str = "embedded", layers: Layers | None = None, norm: Norm = "chw", *, weights: str | None = None
) -> Hybrid:
    r"""How differently two pictures are textured, wherever in the picture.

    .. math:: \sum_l \lambda_l \frac{1}{C_l^2} \lVert G_l(x) - G_l(y) \rVert_F^2, \quad G_l = F_l F_l^T / n

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016)
        | https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html

    Args:
        net: "embedded", "squeezenet", "vgg16", "vgg19" or "alexnet"; or torchvision's or timm's name of any other.
        layers: A layer, several, or layers with their weights; by default, of these five, one a stage, after the ReLU.
        norm: What a Gram matrix is divided by: "chw", "hw" or "none", see :class:`Gram`.
        weights: A file, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown network, layer or norm.

    Example:
        >>> style("vgg19", "relu4_2")
        L2() @ Gram() @ VGG("vgg19", "relu4_2")
    """
    return L2() @ Gram(norm) @ _features("style", net, layers, STYLE_LAYERS, weights)


def lpips(net: Net = "alex", *, weights: str | None = None) -> Hybrid:
    r"""The learned perceptual distance LPIPS, version 0.1, for pictures in [0, 1].

    .. math:: \sum_l \frac{1}{H_l W_l} \sum_{h,w} \lVert w_l \odot (\hat\phi_l(x) - \hat\phi_l(y)) \rVert_2^2

    It is ``L2() @ Calibrated(net) @ network`` and shares the pass of VGG-16 with every other term on it. The authors'
    package wants [-1, 1]; this one wants [0, 1] and takes the step itself, exactly.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        net: "alex", by which results are judged, or "vgg", which makes the better loss.
        weights: "random" for an untrained network under the trained heads, or None to look in the usual places.

    Raises:
        ValueError: An unknown network.

    Example:
        >>> lpips("vgg")
        L2() @ Calibrated("vgg") @ VGG("vgg16", ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"])
    """
    _known("lpips", "net", net, Net)
    layers = LPIPS_LAYERS[net]
    features: Features = AlexNet(layers, weights=weights) if net == "alex" else VGG("vgg16", layers, weights=weights)
    return L2() @ Calibrated(net) @ features


def distilled_lpips(*, weights: str | None = None) -> Hybrid:
    r"""LPIPS of VGG-16 as a network of 0.7 M parameters has learnt it, which comes with lossmith.

    .. math:: \sum_l \frac{1}{H_l W_l} \sum_{h,w} \lVert w_l \odot (\hat\phi_l(x) - \hat\phi_l(y)) \rVert_2^2

    It is ``L2() @ Distilled() @ Embedded(...)``, shares the pass of the embedded network with every other term on it,
    and needs no download. It is **not** LPIPS, only near it, in the same units: do not report it under that name.
    docs/embedded.md says how near.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        weights: A file, "random" for an untrained network under the trained channel weights, or None for the package's.

    Example:
        >>> distilled_lpips()
        L2() @ Distilled() @ Embedded(["relu1_1", "relu2_2", "relu3_2", "relu4_2", "relu5_2"])
    """
    heads = Distilled(weights=None if weights == "random" else weights)
    return L2() @ heads @ Embedded(EMBEDDED_LAYERS, weights=weights)


def ms_ssim_l1(alpha: float = 0.84) -> Hybrid:
    r"""The mix of MS-SSIM and L1 that looks better than either.

    .. math:: \alpha \, (1 - \text{MS-SSIM}) + (1 - \alpha) \, L_1

    The paper weighs the L1 by the coarsest Gaussian window, which changes nothing but the picture's rim; we do not.

    References:
        | Loss Functions for Image Restoration with Neural Networks (Zhao et al., 2017)
        | https://arxiv.org/abs/1511.08861

    Args:
        alpha: The share of MS-SSIM, in [0, 1]; 0.84 in the paper.

    Raises:
        ValueError: alpha is out of its range.

    Example:
        >>> ms_ssim_l1()
        0.84 * MSSSIM() + 0.16 * L1()
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"ms_ssim_l1 wants alpha in [0, 1]; got {alpha!r}.")
    return alpha * MSSSIM() + round(1 - alpha, 12) * L1()


def start_after(warmup: int, terms: Loss) -> Loss:
    """Terms that rest for the first steps of a training, if there are any such steps."""
    return terms * OnFrom(warmup) if warmup else terms


def _features(who: str, net: str, layers: Layers | None, usual: Mapping[str, Layers], weights: str | None) -> Features:
    if layers is None and net not in usual:
        known = ", ".join(map(format_literal, usual))
        raise ValueError(
            f"{who} knows which layers to take of {known}; of another network name them, such as "
            f"{who}('resnet50', 'layer3'). Got {net!r} alone."
        )
    return build_lens(net, usual[net] if layers is None else layers, weights)


def _known(who: str, what: str, value: object, choice: object) -> None:
    if value not in get_args(choice):
        raise ValueError(f"{who} knows {what}={', '.join(map(format_literal, get_args(choice)))}; got {value!r}.")

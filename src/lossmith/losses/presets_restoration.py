"""Losses of papers on image restoration: super-resolution, blind restoration, inpainting.

Each function returns a sum with the published weights. Its `repr` is the formula of the sum, which can be edited. Where
the authors rescale images or features, the weights contain the factor. No value grows with the resolution.
"""

from typing import Literal

from lossmith._checks import check_choice
from lossmith.formula.loss import Hybrid
from lossmith.lenses.gram import Gram
from lossmith.lenses.sequential_network import CAFFE_UNIT
from lossmith.lenses.vgg import VGG
from lossmith.losses.adversarial import Adversarial
from lossmith.losses.pixel import L1, L2
from lossmith.losses.recipes import PERCEPTUAL_LAYERS, perceptual, start_after
from lossmith.losses.smoothness import TV

__all__ = ["aot_gan", "esrgan", "pconv", "real_esrgan", "srgan"]

Content = Literal["vgg54", "mse"]


def srgan(content: Content = "vgg54", *, width: int = 64) -> Hybrid:
    r"""Build SRGAN's loss: mean squared error of deep features or pixels, and an adversarial loss.

    .. math:: \Big(\frac{1}{12.75}\Big)^2 \, \overline{(\phi_{5,4}(x) - \phi_{5,4}(y))^2} - 10^{-3} \log \sigma(D(x))

    or, for the variant SRGAN-MSE, the squared error of images in [-1, 1], which is 4 times that of images in [0, 1].
    Features are those of VGG-19 after the ReLU (equation 5), divided by 12.75 (section 3.2); they refer to Caffe's
    network, whose features are 57.63 times larger than those of torchvision's. Equation 5 does not say whether channels
    are added or averaged. They are averaged here, since the paper calls the values comparable to the squared error: for
    six images of Set14, upscaled by 4, the values are 0.04..0.3 beside 0.004..0.05, where sums are 23..163. No value
    grows with the resolution.

    The paper's discriminator needs images of 96 px and has batch normalisation; pix2pix's replaces it.

    References:
        | Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network (Ledig et al., 2017)
        | https://arxiv.org/abs/1609.04802

    Args:
        content: "vgg54" for features, the paper's SRGAN; or "mse" for pixels.
        width: The number of channels of the discriminator's first layer; 64 in the paper.

    Raises:
        ValueError: If the content is unknown, or the width is below 1.

    Example:
        >>> srgan("mse")
        4.0 * L2() + 0.001 * Adversarial("patch", betas=[0.9, 0.999])
    """
    check_choice("srgan content", content, Content)
    adversarial = Adversarial("patch", width=width, betas=(0.9, 0.999))
    features = (CAFFE_UNIT / 12.75) ** 2 * perceptual("vgg19", "relu5_4", "l2")
    return (4 * L2() if content == "mse" else features) + 1e-3 * adversarial


def esrgan(*, width: int = 64, warmup: int = 0) -> Hybrid:
    r"""Build ESRGAN's loss: L1 of pixels, L1 of features before the ReLU, and a relativistic adversarial loss.

    .. math:: 10^{-2} L_1 + L_1 \circ \phi_{5,4} + 5 \cdot 10^{-3} \cdot \tfrac12 L_\text{relativistic}

    with the weights of the paper (section 4.1) and of its code (BasicSR, train_ESRGAN_x4). The code halves the sum of
    the two parts of the adversarial loss, which the paper does not; hence 2.5e-3. No value grows with the resolution.

    The authors start from a network that was trained with L1 alone: start from such a checkpoint, or set `warmup`.
    Their discriminator needs images of 128 px and has batch normalisation; pix2pix's replaces it.

    References:
        | ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (Wang et al., 2018)
        | https://arxiv.org/abs/1809.00219
        | https://github.com/XPixelGroup/BasicSR

    Args:
        width: The number of channels of the discriminator's first layer; 64 in the paper.
        warmup: The number of training steps with L1 alone, in which VGG-19 and the discriminator do not run.

    Raises:
        ValueError: If the width is below 1, or the warmup is not a number of steps.

    Example:
        >>> esrgan()
        0.01 * L1() + L1() @ VGG("vgg19", "conv5_4") + 0.0025 * Adversarial("patch", "relativistic")
    """
    rest = perceptual("vgg19", "conv5_4") + 2.5e-3 * Adversarial("patch", "relativistic", width=width)
    return 0.01 * L1() + start_after(warmup, rest)


def real_esrgan(*, width: int = 64, warmup: int = 0) -> Hybrid:
    r"""Build Real-ESRGAN's loss: L1 of pixels, L1 of features at five depths, and a U-Net discriminator.

    .. math:: L_1 + \sum_l \lambda_l \, L_1 \circ \phi_l - 10^{-1} \log \sigma(D(x))

    with the layers and their weights 0.1, 0.1, 1, 1, 1, the U-Net discriminator with spectral normalisation and the
    Adam settings of the authors' configuration (train_realesrgan_x4plus). No value grows with the resolution.

    The authors start from a network that was trained with L1 alone (start from such a checkpoint, or set `warmup`), and
    sharpen the target of L1 and features, but not that of the discriminator.

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833
        | https://github.com/xinntao/Real-ESRGAN

    Args:
        width: The number of channels of the discriminator's first layer; 64 in the paper.
        warmup: The number of training steps with L1 alone, in which VGG-19 and the discriminator do not run.

    Raises:
        ValueError: If the width is below 1, or the warmup is not a number of steps.

    Example:
        >>> real_esrgan(width=8).names
        ('L1', 'perceptual', 'Adversarial')
    """
    rest = perceptual("vgg19", PERCEPTUAL_LAYERS["vgg19"]) + 0.1 * Adversarial(width=width)
    return L1() + start_after(warmup, rest)


def pconv() -> Hybrid:
    r"""Build the loss of inpainting with partial convolutions.

    .. math:: L_1(\text{kept}) + 6 L_1(\text{filled}) + 0.05 \sum_v L_1 \circ \phi(v)
        + 120 \sum_v L_1 \circ G \circ \phi(v) + 0.1 \, TV(\text{filled}), \quad v \in \{\text{pred}, \text{filled}\}

    on the inputs "filled", the prediction inside the hole and the target elsewhere, and "kept", the reverse; with the
    features of pool1, pool2, pool3 of VGG-16 and the weights of the paper (section 3.3). The paper's losses of the hole
    and of the rest are sums over these pixels divided by the number of all pixels; so are these, since both inputs
    equal the target elsewhere. They are proportional to the area. No value grows with the resolution.

    The paper computes the total variation in the hole, dilated by one pixel. Outside of it, "filled" is the target,
    whose variation adds a constant and no gradient. The paper divides by the number of pixels; here the divisor is the
    number of differences, 1 in H fewer.

    References:
        | Image Inpainting for Irregular Holes Using Partial Convolutions (Liu et al., 2018)
        | https://arxiv.org/abs/1804.07723

    Example:
        >>> sorted(pconv().input_names)
        ['filled', 'kept', 'pred', 'target']
    """
    features = VGG("vgg16", ["pool1", "pool2", "pool3"])
    content, texture = L1() @ features, L1() @ Gram() @ features
    return (
        L1().on(pred="kept")
        + 6 * L1().on(pred="filled")
        + 0.05 * (content + content.on(pred="filled"))
        + 120 * (texture + texture.on(pred="filled"))
        + 0.1 * TV().on(pred="filled")
    )


def aot_gan(*, width: int = 64) -> Hybrid:
    r"""Build AOT-GAN's inpainting loss, whose discriminator sees "filled": prediction in the hole, target elsewhere.

    .. math:: 2 L_1 + 250 \, L_1 \circ G \circ \phi + 0.1 \, L_1 \circ \phi
        + 0.01 \, \overline{(D(\text{filled}) - 1)^2}^{\text{mask}}

    with the style at relu2_2, relu3_4, relu4_4, relu5_2 and the content at relu1_1, ..., relu5_1 of VGG-19, and the
    weights 1, 250, 0.1, 0.01 of the authors' code (defaults). Their L1 is on images in [-1, 1], hence 2; their squares
    have no factor 1/2, hence 0.02 for this adversarial loss. No value grows with the resolution.

    The discriminator is trained to find the generated part of "filled"; the network's loss is averaged over this part
    (SM-PatchGAN). Departures from the authors' code: they blur the mask by 10 px and upscale the logits to it, while
    here the mask is averaged over the 8 px of each logit; each image has the same weight, independent of the size of
    its hole; and the discriminator's first layer has no spectral normalisation.

    References:
        | Aggregated Contextual Transformations for High-Resolution Image Inpainting (Zeng et al., 2022)
        | https://arxiv.org/abs/2104.01431
        | https://github.com/researchmm/AOT-GAN-for-Inpainting

    Args:
        width: The number of channels of the discriminator's first layer; 64 in the paper.

    Raises:
        ValueError: If the width is below 1.

    Example:
        >>> aot_gan(width=8).names
        ('L1', 'style', 'perceptual', 'Adversarial')
    """
    texture = L1() @ Gram() @ VGG("vgg19", ["relu2_2", "relu3_4", "relu4_4", "relu5_2"])
    content = perceptual("vgg19", ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"])
    adversarial = Adversarial("patch", "lsgan", width=width, betas=(0.5, 0.999))
    return 2 * L1() + 250 * texture + 0.1 * content + 0.02 * adversarial.on(pred="filled", mask="mask")

"""Losses of papers for pictures that are repaired: super-resolution, blind restoration, inpainting.

Each returns a sum with the paper's weights, and its `repr` is that sum written out, to be changed by hand. Where the
authors rescale pictures or features, the weights carry the factor. None of their values grows with the resolution.
"""

from typing import Literal, get_args

from lossmith._repr import format_literal
from lossmith.formula.loss import Hybrid
from lossmith.lenses.gram import Gram
from lossmith.lenses.sequential_network import CAFFE_UNIT
from lossmith.lenses.vgg import VGG
from lossmith.losses.adversarial import Adversarial
from lossmith.losses.pixel import L1, L2
from lossmith.losses.recipes import PERCEPTUAL_LAYERS, start_after, perceptual
from lossmith.losses.smoothness import TV

__all__ = ["aot_gan", "esrgan", "pconv", "real_esrgan", "srgan"]

Content = Literal["vgg54", "mse"]


def srgan(content: Content = "vgg54", *, width: int = 64) -> Hybrid:
    r"""SRGAN's loss: the squared distance of deep features, or of pixels, and a critic.

    .. math:: \Big(\frac{1}{12.75}\Big)^2 \, \overline{(\phi_{5,4}(x) - \phi_{5,4}(y))^2} - 10^{-3} \log \sigma(C(x))

    or, for the variant SRGAN-MSE, the squared error of pictures in [-1, 1], which is 4 of ours. Features are those of
    VGG-19 after the ReLU (equation 5), divided by 12.75 (section 3.2); of Caffe's network, than whose ours are smaller
    by 57.63. Equation 5 leaves open whether channels are added or averaged. We average, since the paper calls the
    result comparable to the squared error: six pictures of Set14, enlarged by 4, then give 0.04..0.3 beside
    0.004..0.05, where sums give 23..163. None of it grows with the resolution.

    The paper's critic reads pictures of 96 px alone and has batch norm; pix2pix's stands in for it.

    References:
        | Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network (Ledig et al., 2017)
        | https://arxiv.org/abs/1609.04802

    Args:
        content: "vgg54" for features, the paper's SRGAN; or "mse" for pixels.
        width: Channels of the critic's first layer; 64 in the paper.

    Raises:
        ValueError: An unknown content, or a width below 1.

    Example:
        >>> srgan("mse")
        4.0 * L2() + 0.001 * Adversarial("patch", betas=[0.9, 0.999])
    """
    if content not in get_args(Content):
        raise ValueError(f"srgan knows content={', '.join(map(format_literal, get_args(Content)))}; got {content!r}.")
    critic = Adversarial("patch", width=width, betas=(0.9, 0.999))
    features = (CAFFE_UNIT / 12.75) ** 2 * perceptual("vgg19", "relu5_4", "l2")
    return (4 * L2() if content == "mse" else features) + 1e-3 * critic


def esrgan(*, width: int = 64, warmup: int = 0) -> Hybrid:
    r"""ESRGAN's loss: features before the ReLU, a little L1, and a critic that compares.

    .. math:: 10^{-2} L_1 + L_1 \circ \phi_{5,4} + 5 \cdot 10^{-3} \cdot \tfrac12 L_\text{relativistic}

    with the weights of the paper (section 4.1) and of its code (BasicSR, train_ESRGAN_x4). The code halves the sum of
    the adversarial loss's two parts, which the paper does not: 2.5e-3 of ours. None of it grows with the resolution.

    The authors begin with a network that L1 alone has trained: begin with such a file, or give steps of `warmup`. Their
    critic reads pictures of 128 px alone and has batch norm; pix2pix's stands in for it.

    References:
        | ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (Wang et al., 2018)
        | https://arxiv.org/abs/1809.00219
        | https://github.com/XPixelGroup/BasicSR

    Args:
        width: Channels of the critic's first layer; 64 in the paper.
        warmup: Steps of the training on L1 alone, for which neither VGG-19 nor the critic runs.

    Raises:
        ValueError: A width below 1, or a warmup that is no number of steps.

    Example:
        >>> esrgan()
        0.01 * L1() + L1() @ VGG("vgg19", "conv5_4") + 0.0025 * Adversarial("patch", "relativistic")
    """
    rest = perceptual("vgg19", "conv5_4") + 2.5e-3 * Adversarial("patch", "relativistic", width=width)
    return 0.01 * L1() + start_after(warmup, rest)


def real_esrgan(*, width: int = 64, warmup: int = 0) -> Hybrid:
    r"""Real-ESRGAN's loss: L1, features of all depths, and a critic with a verdict on every pixel.

    .. math:: L_1 + \sum_l \lambda_l \, L_1 \circ \phi_l - 10^{-1} \log \sigma(C(x))

    with the layers and weights .1, .1, 1, 1, 1, the U-Net critic with spectral norm and its Adam of the authors'
    configuration (train_realesrgan_x4plus). None of it grows with the resolution.

    The authors begin with a network that L1 alone has trained (begin with such a file, or give steps of `warmup`), and
    give L1 and the features a target that was sharpened, and the critic one that was not.

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833
        | https://github.com/xinntao/Real-ESRGAN

    Args:
        width: Channels of the critic's first layer; 64 in the paper.
        warmup: Steps of the training on L1 alone, for which neither VGG-19 nor the critic runs.

    Raises:
        ValueError: A width below 1, or a warmup that is no number of steps.

    Example:
        >>> real_esrgan(width=8).names
        ('L1', 'perceptual', 'Adversarial')
    """
    rest = perceptual("vgg19", PERCEPTUAL_LAYERS["vgg19"]) + 0.1 * Adversarial(width=width)
    return L1() + start_after(warmup, rest)


def pconv() -> Hybrid:
    r"""The loss of inpainting with partial convolutions.

    .. math:: L_1(\text{kept}) + 6 L_1(\text{filled}) + 0.05 \sum_v L_1 \circ \phi(v)
        + 120 \sum_v L_1 \circ G \circ \phi(v) + 0.1 \, TV(\text{filled}), \quad v \in \{\text{pred}, \text{filled}\}

    on the views "filled", the prediction in the hole and the truth elsewhere, and "kept", the reverse; with the
    features of pool1, pool2, pool3 of VGG-16 and the weights of the paper (section 3.3). The paper's losses of the hole
    and of the rest are sums over these divided by the number of all pixels, and so are ours, since both views equal
    the target everywhere else: they grow with their share of the picture. None of it grows with the resolution.

    The paper takes the variation in the hole grown by a pixel. Beyond it "filled" is the truth, whose variation adds a
    constant and no gradient. The paper divides by the number of pixels, we by that of differences: 1 in H fewer.

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
    r"""AOT-GAN's loss of inpainting, whose critic judges the view "filled": prediction in the hole, truth elsewhere.

    .. math:: 2 L_1 + 250 \, L_1 \circ G \circ \phi + 0.1 \, L_1 \circ \phi
        + 0.01 \, \overline{(C(\text{filled}) - 1)^2}^{\text{mask}}

    with style at relu2_2, relu3_4, relu4_4, relu5_2, content at relu1_1, ..., relu5_1 of VGG-19 and the weights 1, 250,
    0.1, 0.01 of the authors' code (defaults). Their L1 is on pictures in [-1, 1], hence 2 of ours, and their squares
    have no half, hence 0.02 of our adversarial loss. None of it grows with the resolution.

    The critic learns where "filled" is made up, and judges there alone (SM-PatchGAN). Where it is not theirs: they blur
    the mask by 10 px and enlarge the verdicts to it, here it is averaged over each verdict's own 8 px; each picture
    counts alike, and not by the size of its hole; the critic's first layer has no spectral norm.

    References:
        | Aggregated Contextual Transformations for High-Resolution Image Inpainting (Zeng et al., 2022)
        | https://arxiv.org/abs/2104.01431
        | https://github.com/researchmm/AOT-GAN-for-Inpainting

    Args:
        width: Channels of the critic's first layer; 64 in the paper.

    Raises:
        ValueError: A width below 1.

    Example:
        >>> aot_gan(width=8).names
        ('L1', 'style', 'perceptual', 'Adversarial')
    """
    texture = L1() @ Gram() @ VGG("vgg19", ["relu2_2", "relu3_4", "relu4_4", "relu5_2"])
    content = perceptual("vgg19", ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"])
    critic = Adversarial("patch", "lsgan", width=width, betas=(0.5, 0.999))
    return 2 * L1() + 250 * texture + 0.1 * content + 0.02 * critic.on(pred="filled", mask="mask")

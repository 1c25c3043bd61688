"""Losses of papers for pictures that are made anew: style transfer, and autoencoders that generate.

Each returns a sum with the paper's weights, and its `repr` is that sum written out, to be changed by hand.
"""

from lossmith.formula.loss import Hybrid
from lossmith.lenses.sequential_network import CAFFE_UNIT
from lossmith.losses.adversarial import Adversarial
from lossmith.losses.pixel import L1
from lossmith.losses.recipes import STYLE_LAYERS, start_after, lpips, perceptual, style
from lossmith.losses.smoothness import TV
from lossmith.losses.vae import VQCommitment

__all__ = ["gatys", "johnson", "vqgan"]


def gatys() -> Hybrid:
    r"""Style transfer as Gatys wrote it, on the views "content" and "style".

    .. math:: \alpha \tfrac12 \lVert F - P \rVert^2
        + \beta \sum_l \tfrac15 \frac{1}{4 N_l^2 M_l^2} \lVert G - A \rVert^2

    with :math:`\alpha / \beta = 10^{-3}`, content at relu4_2 and style at relu1_1, ..., relu5_1 of VGG-19 (section 3 of
    the paper). The paper reads Caffe's features; ours are smaller by u = 57.63, so that the content carries u^2 and the
    style u^4. The pooling is by maximum, where the paper prefers means. The content is a sum: it grows with the
    resolution, and the style does not.

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016)
        | https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html

    Example:
        >>> sorted(gatys().input_names)
        ['content', 'pred', 'style']
    """
    content = perceptual("vgg19", "relu4_2", "norm").on(target="content")
    texture = style("vgg19", STYLE_LAYERS["vgg19"], "hw").on(target="style")
    return CAFFE_UNIT**2 / 2 * content + 1e3 * CAFFE_UNIT**4 / 20 * texture


def johnson() -> Hybrid:
    r"""The loss of the feed-forward style network, on the views "content" and "style".

    .. math:: \lambda_c \frac{1}{CHW} \lVert \phi(x) - \phi(y) \rVert^2
        + \lambda_s \sum_l \frac{1}{C_l^2} \lVert G_l(x) - G_l(s) \rVert_F^2
        + \lambda_{TV} \tfrac12 \sum \lvert \nabla x \rvert^2

    with content at relu3_3, style at relu1_2, relu2_2, relu3_3, relu4_3 of VGG-16, and the weights 1, 5, 1e-6, as in
    the authors' code (fast-neural-style, defaults). The paper prints the style without :math:`1 / C_l^2`, and takes its
    content at relu2_2. The code reads 0..255: content carries u^2, style u^4, variation 255^2, with u = 57.63 as in
    :func:`gatys`; and it sums the variation over the batch, where we average. The variation is a sum: it grows with the
    resolution, and the others do not.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016)
        | https://arxiv.org/abs/1603.08155
        | https://github.com/jcjohnson/fast-neural-style

    Example:
        >>> johnson().names
        ('perceptual', 'style', 'TV')
    """
    content = perceptual("vgg16", "relu3_3", "l2").on(target="content")
    texture = style("vgg16", STYLE_LAYERS["vgg16"]).on(target="style")
    smooth = TV("isotropic", squared=True, per="image")
    return CAFFE_UNIT**2 * content + 5 * CAFFE_UNIT**4 * texture + 1e-6 / 2 * 255**2 * smooth


def vqgan(*, width: int = 64, warmup: int = 0) -> Hybrid:
    r"""The loss of VQGAN's autoencoder, on pictures and on the views "latents" and "codes" of :class:`VQCommitment`.

    .. math:: 2 L_1 + \text{LPIPS}_\text{VGG} + 0.8 \, \overline{-C(x)}
        + \overline{(\mathrm{sg}[z] - e)^2} + 0.25 \, \overline{(z - \mathrm{sg}[e])^2}

    with the weights of the authors' imagenet_vqgan, whose L1 of 1 is on pictures in [-1, 1] and 2 on ours; beta is
    that of their quantiser. Nothing in it grows with the resolution.

    Where it is not theirs: the 0.8 is fixed, while they multiply it at each step by the ratio of the gradients of L1
    and LPIPS to that of the critic at the decoder's last layer (``--balance adaptive``); and they leave the critic out
    for the first 250,000 steps, which is ``warmup=250_001``. The critic has spectral norm for their batch
    norm, and their learning rate of 4.5e-6 times the batch size is 1e-4 here. Their quantiser has beta on the wrong
    summand unless told ``legacy=False``: that is ``0.25 * VQCommitment(4.0)``.

    References:
        | Taming Transformers for High-Resolution Image Synthesis (Esser et al., 2021)
        | https://arxiv.org/abs/2012.09841
        | https://github.com/CompVis/taming-transformers

    Args:
        width: Channels of the critic's first layer; 64 in the paper.
        warmup: Steps of the training for which the critic rests.

    Raises:
        ValueError: A width below 1, or a warmup that is no number of steps.

    Example:
        >>> vqgan(width=8).names
        ('L1', 'lpips', 'Adversarial', 'VQCommitment')
    """
    critic = Adversarial("patch", "hinge", width=width, betas=(0.5, 0.9))
    return 2 * L1() + lpips("vgg") + 0.8 * start_after(warmup, critic) + VQCommitment()

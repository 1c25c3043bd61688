"""Losses of papers on image synthesis: style transfer and generative autoencoders.

Each function returns a sum with the published weights. Its `repr` is the formula of the sum, which can be edited.
"""

from lossmith.formula.loss import Hybrid
from lossmith.lenses.sequential_network import CAFFE_UNIT
from lossmith.losses.adversarial import Adversarial
from lossmith.losses.pixel import L1
from lossmith.losses.recipes import STYLE_LAYERS, lpips, perceptual, start_after, style
from lossmith.losses.smoothness import TV
from lossmith.losses.vae import VQCommitment

__all__ = ["gatys", "johnson", "vqgan"]


def gatys() -> Hybrid:
    r"""Build Gatys's style-transfer loss on the inputs "content" and "style".

    .. math:: \alpha \tfrac12 \lVert F - P \rVert^2
        + \beta \sum_l \tfrac15 \frac{1}{4 N_l^2 M_l^2} \lVert G - A \rVert^2

    with :math:`\alpha / \beta = 10^{-3}`, content at relu4_2 and style at relu1_1, ..., relu5_1 of VGG-19 (section 3 of
    the paper). The paper uses Caffe's features, which are u = 57.63 times larger than torchvision's: the weight of the
    content contains u^2, that of the style u^4. Pooling is max pooling, where the paper prefers average pooling. The
    content loss is a sum and grows with the resolution; the style loss does not.

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
    r"""Build Johnson's loss of feed-forward style transfer on the inputs "content" and "style".

    .. math:: \lambda_c \frac{1}{CHW} \lVert \phi(x) - \phi(y) \rVert^2
        + \lambda_s \sum_l \frac{1}{C_l^2} \lVert G_l(x) - G_l(s) \rVert_F^2
        + \lambda_{TV} \tfrac12 \sum \lvert \nabla x \rvert^2

    with content at relu3_3, style at relu1_2, relu2_2, relu3_3, relu4_3 of VGG-16, and the weights 1, 5, 1e-6 of the
    authors' code (fast-neural-style, defaults). The paper prints the style loss without :math:`1 / C_l^2`, and takes
    the content at relu2_2. The code uses images in 0..255: the weight of the content contains u^2, that of the style
    u^4, that of the total variation 255^2, with u = 57.63 as in :func:`gatys`. The code sums the total variation over
    the batch, where this loss averages. The total variation is a sum and grows with the resolution; the other terms do
    not.

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
    smoothness = TV("isotropic", squared=True, per="image")
    return CAFFE_UNIT**2 * content + 5 * CAFFE_UNIT**4 * texture + 1e-6 / 2 * 255**2 * smoothness


def vqgan(*, width: int = 64, warmup: int = 0) -> Hybrid:
    r"""Build the loss of VQGAN's autoencoder on images and the inputs "latents" and "codes" of :class:`VQCommitment`.

    .. math:: 2 L_1 + \text{LPIPS}_\text{VGG} + 0.8 \, \overline{-D(x)}
        + \overline{(\mathrm{sg}[z] - e)^2} + 0.25 \, \overline{(z - \mathrm{sg}[e])^2}

    with the weights of the authors' imagenet_vqgan, whose L1 weight of 1 is for images in [-1, 1], hence 2; beta is
    that of their quantiser. No value grows with the resolution.

    Departures from the authors' code: the weight 0.8 is constant, while theirs is multiplied at each step by the ratio
    of the gradient norms of L1 and LPIPS to that of the discriminator at the decoder's last layer (``--balance
    adaptive``). They add the discriminator after 250,000 steps, which is ``warmup=250_001``. The discriminator has
    spectral instead of batch normalisation, and a learning rate of 1e-4 instead of 4.5e-6 times the batch size. Their
    quantiser applies beta to the other summand unless ``legacy=False``, which is ``0.25 * VQCommitment(4.0)``.

    References:
        | Taming Transformers for High-Resolution Image Synthesis (Esser et al., 2021)
        | https://arxiv.org/abs/2012.09841
        | https://github.com/CompVis/taming-transformers

    Args:
        width: The number of channels of the discriminator's first layer; 64 in the paper.
        warmup: The number of training steps without the discriminator.

    Raises:
        ValueError: If the width is below 1, or the warmup is not a number of steps.

    Example:
        >>> vqgan(width=8).names
        ('L1', 'lpips', 'Adversarial', 'VQCommitment')
    """
    adversarial = Adversarial("patch", "hinge", width=width, betas=(0.5, 0.9))
    return 2 * L1() + lpips("vgg") + 0.8 * start_after(warmup, adversarial) + VQCommitment()

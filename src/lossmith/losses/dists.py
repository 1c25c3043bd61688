"""DISTS: texture similarity by the means and structure similarity by the correlations of deep features."""

from typing import final

from torch import Tensor

from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid
from lossmith.lenses.dists import DISTS_LAYERS, PooledVGG, Sensitivity

__all__ = ["TextureStructure", "dists"]

_EPSILON = 1e-6
"""The authors' constant in both denominators; channels that are 0 in both images count as equal."""


@final
class TextureStructure(Distance):
    r"""One minus the similarity of channels in mean and correlation, with the channel weights of the lens.

    .. math:: \sum_c \alpha_c \frac{(\mu_x - \mu_y)^2}{\mu_x^2 + \mu_y^2 + \epsilon}
        + \beta_c \frac{\sigma_x^2 + \sigma_y^2 - 2 \sigma_{xy}}{\sigma_x^2 + \sigma_y^2 + \epsilon}, \quad
        \epsilon = 10^{-6}

    :func:`dists` sums this distance over its layers. The authors compute one minus the sum of the similarities; this is
    the same number, computed from differences, so that it is accurate for images that are almost equal and never
    negative.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Raises:
        ValueError: At the call, if the maps have not passed :class:`lossmith.lenses.Sensitivity`.

    Example:
        >>> TextureStructure()
        TextureStructure()
    """

    citation_keys = ("ding2020",)
    value_range = (0.0, 2.0)
    example_formula = f"TextureStructure @ Sensitivity @ PooledVGG({list(DISTS_LAYERS)})"

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each image, (N,)."""
        if pred.dim() != 5:
            raise ValueError(
                f"{self!r} needs maps with a weight for each channel, (N, C, HW + 2, 1, 1), the output of "
                f"Sensitivity(); got {tuple(pred.shape)}. Use dists()."
            )
        x, y = (maps.flatten(2)[..., :-2] for maps in (pred, target))
        alpha, beta = target.flatten(2)[..., -2:].unbind(dim=2)
        x_mean, y_mean = x.mean(dim=2), y.mean(dim=2)
        texture = (x_mean - y_mean).square() / (x_mean.square() + y_mean.square() + _EPSILON)
        x, y = x - x_mean[..., None], y - y_mean[..., None]
        variances = x.square().mean(dim=2) + y.square().mean(dim=2)
        structure = (x - y).square().mean(dim=2) / (variances + _EPSILON)
        return (alpha * texture + beta * structure).sum(dim=1)


def dists(*, weights: str | None = None) -> Hybrid:
    r"""Build the learned perceptual distance DISTS, which tolerates the resampling of textures.

    .. math:: 1 - \sum_{l,c} \alpha_{l,c} \, l(\mu_x, \mu_y) + \beta_{l,c} \, s(\sigma_x, \sigma_y, \sigma_{xy})

    over the pixels and five stages of VGG-16 with L2 pooling, with the authors' weights. The gradient passes through
    all six; that of the authors' code passes through the pixels only, unless called with `require_grad=True`. The
    network differs from ``VGG("vgg16", ...)`` and needs a forward pass of its own. As a metric it is defined for images
    of 256 px on the shorter side, to which the authors downscale larger ones; this function does not resize.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Args:
        weights: The path of a file with VGG-16's weights, "random" for an untrained network with the trained alpha and
            beta, or None for the default locations.

    Example:
        >>> dists().names
        ('dists',)
    """
    return TextureStructure() @ Sensitivity() @ PooledVGG(list(DISTS_LAYERS), weights=weights)

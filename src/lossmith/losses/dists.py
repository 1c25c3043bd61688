"""DISTS: how alike two pictures are in texture, judged by means, and in structure, judged by correlations."""

from typing import final

from torch import Tensor

from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid
from lossmith.lenses.dists import DISTS_LAYERS, PooledVGG, Sensitivity

__all__ = ["TextureStructure", "dists"]

STABLE = 1e-6
"""What the authors add to both quotients, so that channels which are zero in both pictures count as equal."""


@final
class TextureStructure(Distance):
    r"""One minus the similarity of channels in mean and in correlation, each channel weighed as its lens says.

    .. math:: \sum_c \alpha_c \frac{(\mu_x - \mu_y)^2}{\mu_x^2 + \mu_y^2 + \epsilon}
        + \beta_c \frac{\sigma_x^2 + \sigma_y^2 - 2 \sigma_{xy}}{\sigma_x^2 + \sigma_y^2 + \epsilon}, \quad
        \epsilon = 10^{-6}

    It is what :func:`dists` sums over its layers. The authors write one minus the sum of the similarities; ours is the
    same number, computed from differences, so that it loses no digits where pictures are almost equal and is never
    negative.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Raises:
        ValueError: At the call, maps that :class:`lossmith.Sensitivity` has not weighed.

    Example:
        >>> TextureStructure()
        TextureStructure()
    """

    papers = ("ding2020",)
    bounds = (0.0, 2.0)

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """The distance of each image, (N,)."""
        if pred.dim() != 5:
            raise ValueError(
                f"{self!r} wants maps with a weight for each channel, (N, C, HW + 2, 1, 1), as Sensitivity() shows "
                f"them; got {tuple(pred.shape)}. Write dists()."
            )
        x, y = (maps.flatten(2)[..., :-2] for maps in (pred, target))
        alpha, beta = target.flatten(2)[..., -2:].unbind(dim=2)
        mean_x, mean_y = x.mean(dim=2), y.mean(dim=2)
        texture = (mean_x - mean_y).square() / (mean_x.square() + mean_y.square() + STABLE)
        x, y = x - mean_x[..., None], y - mean_y[..., None]
        spread = x.square().mean(dim=2) + y.square().mean(dim=2)
        structure = (x - y).square().mean(dim=2) / (spread + STABLE)
        return (alpha * texture + beta * structure).sum(dim=1)

    def __repr__(self) -> str:
        return "TextureStructure()"


def dists(*, weights: str | None = None) -> Hybrid:
    r"""The learned perceptual distance DISTS, which forgives one texture for another of its kind.

    .. math:: 1 - \sum_{l,c} \alpha_{l,c} \, l(\mu_x, \mu_y) + \beta_{l,c} \, s(\sigma_x, \sigma_y, \sigma_{xy})

    over the pixels and five stages of VGG-16 with L2 pools, with the authors' weights. Its gradient comes through all
    six; that of the authors' code, unless told `require_grad=True`, through the pixels alone. Its network is another
    than that of ``VGG("vgg16", ...)``, and costs a pass of its own. As a metric it wants pictures of 256 px on the
    shorter side, to which the authors shrink larger ones; it shrinks nothing itself.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Args:
        weights: A file with VGG-16's weights, "random" for an untrained network under the trained alpha and beta, or
            None to look in the usual places.

    Example:
        >>> dists().names
        ('dists',)
    """
    return TextureStructure() @ Sensitivity() @ PooledVGG(list(DISTS_LAYERS), weights=weights)

"""Colour: losses on local mean colours, whatever the detail."""

from typing import Literal, get_args

from lossmith._repr import quoted
from lossmith.formula.loss import Hybrid
from lossmith.lenses.colour import Lab, YCbCr
from lossmith.lenses.lowpass import Blur
from lossmith.losses.pixel import L1

__all__ = ["colour"]

Space = Literal["lab", "ycbcr", "rgb"]


def colour(space: Space = "lab", sigma: float = 3.0) -> Hybrid:
    r"""The mean absolute difference of the mean colours about each place.

    .. math:: \overline{\lvert C(g_\sigma * x) - C(g_\sigma * y) \rvert}

    It keeps a network from tinting and does not ask for detail. It is in the units of its space: see :class:`Lab`.

    ==============================  =================================================
    DPED, up to its border          ``0.5 * SquaredNorm() @ Blur(4.3)``
    neosr's, without its Huber      ``L1() @ YCbCr("chroma")``
    the same, pooled by 4           ``L1() @ Downsample(4, "area") @ YCbCr("chroma")``
    ==============================  =================================================

    DPED's text has a deviation of 3 px; the kernel of its code, the root of a Gaussian's integrals, is wider.

    References:
        | DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks (Ignatov et al., 2017)
        | https://arxiv.org/abs/1704.02470

    Args:
        space: "lab", "ycbcr" or "rgb".
        sigma: The deviation of the Gaussian in pixels.

    Raises:
        ValueError: An unknown space, or a sigma that is not positive.

    Example:
        >>> colour()
        L1() @ Lab() @ Blur()
    """
    if space not in get_args(Space):
        raise ValueError(f"colour knows the spaces {', '.join(map(quoted, get_args(Space)))}; got {space!r}.")
    if space == "rgb":
        return L1() @ Blur(sigma)
    return L1() @ (Lab() if space == "lab" else YCbCr()) @ Blur(sigma)

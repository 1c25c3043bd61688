"""A loss on local mean colours, independent of detail."""

from typing import Literal

from lossmith._checks import check_choice
from lossmith.formula.loss import Hybrid
from lossmith.lenses.colour import Lab, YCbCr
from lossmith.lenses.lowpass import Blur
from lossmith.losses.pixel import L1

__all__ = ["colour"]

ColourSpace = Literal["lab", "ycbcr", "rgb"]


def colour(space: ColourSpace = "lab", sigma: float = 3.0) -> Hybrid:
    r"""Build the mean absolute difference of blurred colours.

    .. math:: \overline{\lvert C(g_\sigma * x) - C(g_\sigma * y) \rvert}

    The loss keeps a network from shifting colours and does not constrain detail. Its unit is that of the colour space,
    see :class:`Lab`.

    ==============================  =================================================
    DPED, up to its border          ``0.5 * SquaredNorm() @ Blur(4.3)``
    neosr, without its Huber loss   ``L1() @ YCbCr("chroma")``
    neosr, pooled by 4              ``L1() @ Downsample(4, "area") @ YCbCr("chroma")``
    ==============================  =================================================

    DPED's paper states a standard deviation of 3 px; the kernel of its code, the square root of a Gaussian's integrals,
    is wider.

    References:
        | DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks (Ignatov et al., 2017)
        | https://arxiv.org/abs/1704.02470

    Args:
        space: "lab", "ycbcr" or "rgb".
        sigma: The standard deviation of the Gaussian in pixels; positive.

    Raises:
        ValueError: If the space is unknown or sigma is not positive.

    Example:
        >>> colour()
        L1() @ Lab() @ Blur()
    """
    check_choice("colour space", space, ColourSpace)
    if space == "rgb":
        return L1() @ Blur(sigma)
    return L1() @ (Lab() if space == "lab" else YCbCr()) @ Blur(sigma)

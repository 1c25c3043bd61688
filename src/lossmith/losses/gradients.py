"""Losses on image gradients."""

from typing import Literal

from lossmith._checks import check_choice
from lossmith.formula.loss import Hybrid
from lossmith.lenses.edges import Central, Laplacian, Part, Scharr, Sobel
from lossmith.losses.pixel import L1, L2

__all__ = ["gradient", "spsr_gradient"]

Operator = Literal["sobel", "scharr", "central", "laplacian"]


def gradient(operator: Operator = "sobel", part: Part = "slopes") -> Hybrid:
    r"""Build the mean absolute error of image gradients, which compares edges and ignores flat areas.

    .. math:: \overline{\lvert \nabla x - \nabla y \rvert}

    The loss does not depend on brightness and colour; add it to a pixel loss. With "magnitude", the direction of an
    edge may be reversed.

    Args:
        operator: "sobel", "scharr", "central" or "laplacian", which has no part.
        part: "slopes" for both directions, "magnitude", or "joint" for the magnitude over all bands.

    Raises:
        ValueError: If the operator or the part is unknown, or a part of the Laplacian is requested.

    Example:
        >>> gradient()
        L1() @ Sobel()
    """
    check_choice("gradient operator", operator, Operator)
    if operator == "laplacian":
        if part != "slopes":
            raise ValueError(f'gradient("laplacian") is a scalar and has no part; got {part!r}.')
        return L1() @ Laplacian()
    return L1() @ {"sobel": Sobel, "scharr": Scharr, "central": Central}[operator](part)


def spsr_gradient() -> Hybrid:
    r"""Build the gradient loss of structure-preserving super-resolution (SPSR) with its published weight.

    .. math:: 10^{-2} \, \overline{(2 \lvert \nabla x \rvert - 2 \lvert \nabla y \rvert)^2}

    with central differences. The factor 2 is that of the authors' code; the weight contains its square. The paper
    prints an L1 distance, while the training code uses squares (cri_pix_grad), pads with zeros and adds 1e-6 under the
    root.

    References:
        | Structure-Preserving Super Resolution with Gradient Guidance (Ma et al., 2020)
        | https://arxiv.org/abs/2003.13081

    Example:
        >>> spsr_gradient()
        0.04 * L2() @ Central("magnitude")
    """
    return 1e-2 * 4 * L2() @ Central("magnitude")

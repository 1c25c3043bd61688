"""Gradient: losses on the edges of pictures."""

from typing import Literal, get_args

from lossmith._repr import format_literal
from lossmith.formula.loss import Hybrid
from lossmith.lenses.edges import Central, Laplacian, Part, Scharr, Sobel
from lossmith.losses.pixel import L1, L2

__all__ = ["gradient", "spsr_gradient"]

Operator = Literal["sobel", "scharr", "central", "laplacian"]


def gradient(operator: Operator = "sobel", part: Part = "slopes") -> Hybrid:
    r"""The mean absolute error of a picture's slopes: it asks for sharp edges and does not see flat areas.

    .. math:: \overline{\lvert \nabla x - \nabla y \rvert}

    It says nothing of the brightness and the colours; add it to a loss on pixels. With "magnitude" an edge may turn
    its direction about.

    Args:
        operator: "sobel", "scharr", "central" or "laplacian", which has no part.
        part: "slopes" for both directions, or "magnitude".

    Raises:
        ValueError: An unknown operator or part, or a part of the Laplacian.

    Example:
        >>> gradient()
        L1() @ Sobel()
    """
    if operator not in get_args(Operator):
        raise ValueError(f"gradient knows {', '.join(map(format_literal, get_args(Operator)))}; got {operator!r}.")
    if operator == "laplacian":
        if part != "slopes":
            raise ValueError(f'gradient("laplacian") is a curvature and has no part; got {part!r}.')
        return L1() @ Laplacian()
    return L1() @ {"sobel": Sobel, "scharr": Scharr, "central": Central}[operator](part)


def spsr_gradient() -> Hybrid:
    r"""The loss on gradient maps of structure-preserving super-resolution, with its weight.

    .. math:: 10^{-2} \, \overline{(2 \lvert \nabla x \rvert - 2 \lvert \nabla y \rvert)^2}

    with central differences; the 2 is theirs, the 4 it makes is in the weight. The paper prints an L1, the code that
    it was trained with squares (cri_pix_grad); it puts zeros around the picture and adds 1e-6 under the root.

    References:
        | Structure-Preserving Super Resolution with Gradient Guidance (Ma et al., 2020)
        | https://arxiv.org/abs/2003.13081

    Example:
        >>> spsr_gradient()
        0.04 * L2() @ Central("magnitude")
    """
    return 1e-2 * 4 * L2() @ Central("magnitude")

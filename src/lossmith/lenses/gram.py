"""The Gram matrix, the statistic of a texture without positions."""

from typing import Any, Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith.engine.second_derivatives import is_transformed
from lossmith.lens import Lens, Maps, Tiling

__all__ = ["Gram"]

Norm = Literal["chw", "hw", "none"]


@final
class Gram(Lens):
    r"""The Gram matrix over the channels of each map.

    .. math:: G_l = F_l F_l^T / n, \quad F_l \in \mathbb{R}^{C \times HW}

    with :math:`n = CHW` ("chw": Johnson et al., BasicSR, mmagic), :math:`HW` ("hw": Gatys et al. up to their constant,
    pystiche) or 1 ("none": piq). The two norms that divide by HW do not depend on the resolution. The matrix is
    computed in float32 or float64: in half precision a 256 x 256 map overflows before the division.

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016)
        | https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html

    Args:
        norm: The divisor of the matrix: "chw", "hw" or "none".

    Returns:
        Matrices (N, C, C).

    Raises:
        ValueError: An unknown norm.

    Example:
        >>> import torch
        >>> Gram("hw")({"pixels": torch.ones(1, 2, 4, 4)})["pixels"]
        tensor([[[1., 1.],
                 [1., 1.]]])
    """

    term_label = "style"
    citation_keys = ("gatys2016",)

    def __init__(self, norm: Norm = "chw") -> None:
        super().__init__()
        self.norm: Norm = check_choice("Gram norm", norm, Norm)

    @property
    def tiling(self) -> Tiling:
        """The value "sum" for norm="none", else "mean", since the norm divides by the number of positions."""
        return "sum" if self.norm == "none" else "mean"

    def forward(self, maps: Maps) -> Maps:
        """Return the matrix (N, C, C) of each map (N, C, H, W)."""
        return {layer: self.compute_matrix(features) for layer, features in maps.items()}

    def compute_matrix(self, features: Tensor) -> Tensor:
        """Return the matrix (N, C, C) of a map (N, C, H, W)."""
        rows = features.permute(0, *range(2, features.dim()), 1).flatten(1, -2)  # no copy if channels last
        divisor = {"chw": features[0].numel(), "hw": rows.shape[1], "none": 1}[self.norm]
        if is_transformed():
            return torch.matmul(rows.transpose(1, 2), rows) / divisor
        matrix: Tensor = _GramProduct.apply(rows)  # type: ignore[no-untyped-call]
        return matrix / divisor


class _GramProduct(torch.autograd.Function):
    """The matrices (N, C, C) of rows (N, HW, C), with one product in the backward pass where autograd needs two."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return torch.matmul(rows.transpose(1, 2), rows)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        return torch.matmul(rows, grad_output + grad_output.transpose(1, 2))

"""The Gram matrix: what a texture is, without where."""

from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from lossmith._repr import format_literal, repr_of
from lossmith.lens import Lens, Maps, Tiling

__all__ = ["Gram"]

Norm = Literal["chw", "hw", "none"]


@final
class Gram(Lens):
    r"""The correlations of the channels of each map.

    .. math:: G_l = F_l F_l^T / n, \quad F_l \in \mathbb{R}^{C \times HW}

    with :math:`n = CHW` ("chw": Johnson et al., BasicSR, mmagic), :math:`HW` ("hw": Gatys et al. up to their constant,
    pystiche) or 1 ("none": piq). The two that divide by HW do not depend on the resolution. It is always computed in
    float32 at least: in half precision a 256 x 256 map overflows before the division.

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016)
        | https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html

    Args:
        norm: What the matrix is divided by: "chw", "hw" or "none".

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
        if norm not in get_args(Norm):
            raise ValueError(f"Gram knows the norms {', '.join(map(format_literal, get_args(Norm)))}; got {norm!r}.")
        self.norm = norm

    @property
    def tiling(self) -> Tiling:
        """Its matrix adds up over places; the norms that divide by their number make it a mean."""
        return "sum" if self.norm == "none" else "mean"

    def forward(self, maps: Maps) -> Maps:
        """The matrix (N, C, C) of each map (N, C, H, W)."""
        return {layer: self.matrix(features) for layer, features in maps.items()}

    def matrix(self, features: Tensor) -> Tensor:
        """The matrix (N, C, C) of a map (N, C, H, W)."""
        last = features.permute(0, *range(2, features.dim()), 1).flatten(1, -2)  # no copy of what is channels last
        divisor = {"chw": features[0].numel(), "hw": last.shape[1], "none": 1}[self.norm]
        matrix: Tensor = _Product.apply(last)  # type: ignore[no-untyped-call]
        return matrix / divisor

    def __repr__(self) -> str:
        return repr_of(self) if self.norm == "chw" else repr_of(self, self.norm)


class _Product(torch.autograd.Function):
    """The matrices (N, C, C) of the rows (N, HW, C), whose backward pass is one product where autograd takes two."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return torch.matmul(rows.transpose(1, 2), rows)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        return torch.matmul(rows, arriving + arriving.transpose(1, 2))

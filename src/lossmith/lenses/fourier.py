"""The Fourier transform: how much of each frequency a picture has, and where its waves begin."""

from typing import Literal, final, get_args

import torch
from torch import Tensor

from lossmith._repr import format_literal, repr_of
from lossmith.lens import Lens, Maps

__all__ = ["Fourier"]

Part = Literal["complex", "amplitude"]
Norm = Literal["ortho", "backward"]


@final
class Fourier(Lens):
    r"""The discrete Fourier transform of each channel.

    .. math:: X_{uv} = \frac{1}{n} \sum_{h,w} x_{hw} \, e^{-2 \pi i (uh/H + vw/W)}

    as real beside imaginary parts ("complex"), or its amplitude :math:`\lvert X_{uv} \rvert`, which does not say where
    in the picture something is. With :math:`n = \sqrt{HW}` ("ortho") the energy is the picture's, so that L2 is half of
    what it is on pixels and the resolution does not count; with n = 1 ("backward") values grow with the side.

    Every coefficient counts alike, as in ``fft2``, though only the half that a real picture needs is computed. With
    ``onesided=True`` that half is all there is, as in ``rfft2``: two of its columns, which are their own mirror images,
    then count double, and values are a few percent off. Any size will do, and it is never computed in float16, where
    cuFFT knows powers of two only.

    ====================  ======================================================
    MIMO-UNet             ``L1() @ Fourier(norm="backward")``
    SAFMN, FFNet          ``L1() @ Fourier(norm="backward", onesided=True)``
    focal-frequency-loss  :class:`FocalFrequency`
    ====================  ======================================================

    References:
        | Rethinking Coarse-to-Fine Approach in Single Image Deblurring (Cho et al., 2021)
        | https://arxiv.org/abs/2108.05054

    Args:
        part: "complex" or "amplitude".
        norm: "ortho" or "backward".
        onesided: Whether only the columns of rfft2 are shown, W // 2 + 1 of them.

    Returns:
        Maps (N, 2C, H, W), real parts first, or amplitudes (N, C, H, W); the order of frequencies is not that of fft2.

    Raises:
        ValueError: An unknown part or norm, or a onesided that is no truth value.

    Example:
        >>> Fourier("amplitude")({"pixels": torch.ones(1, 1, 2, 2)})["pixels"]
        tensor([[[[2., 0.],
                  [0., 0.]]]])
    """

    is_spatial = False
    term_label = "frequency"
    citation_keys = ("cho2021",)

    def __init__(self, part: Part = "complex", *, norm: Norm = "ortho", onesided: bool = False) -> None:
        super().__init__()
        if part not in get_args(Part):
            raise ValueError(f"Fourier shows {' or '.join(map(format_literal, get_args(Part)))}; got {part!r}.")
        if norm not in get_args(Norm):
            raise ValueError(f"Fourier knows the norms {', '.join(map(format_literal, get_args(Norm)))}; got {norm!r}.")
        if not isinstance(onesided, bool):
            raise ValueError(f"Fourier wants onesided to be True or False; got {onesided!r}.")
        self.part, self.norm, self.onesided = part, norm, onesided
        self.is_linear = part == "complex"

    def forward(self, maps: Maps) -> Maps:
        """The transform of each map (N, C, H, W)."""
        return {name: self.transform(shown) for name, shown in maps.items()}

    def transform(self, image: Tensor) -> Tensor:
        """The transform of a map (N, C, H, W)."""
        waves: Tensor = torch.fft.rfft2(image, norm=self.norm) if self.onesided else compute_spectrum(image, self.norm)
        if self.part == "amplitude":
            return waves.abs()  # whose gradient at 0 is 0
        return torch.cat([waves.real, waves.imag], dim=1)

    def __repr__(self) -> str:
        part = [] if self.part == "complex" else [self.part]
        return repr_of(self, *part, norm=None if self.norm == "ortho" else self.norm, onesided=self.onesided or None)


def compute_spectrum(image: Tensor, norm: Norm = "ortho") -> Tensor:
    """The coefficients (..., H, W) of real maps (..., H, W), each mirrored frequency standing for its twin.

    A real map's coefficient at -u, -v is the conjugate of that at u, v: one half of the transform and a copy of its
    inner columns hold the magnitudes of all, in a fifth of the time that `fft2` takes on a CPU.
    """
    half = torch.fft.rfft2(image, norm=norm)
    return torch.cat([half, half[..., 1 : (image.shape[-1] + 1) // 2]], dim=-1)

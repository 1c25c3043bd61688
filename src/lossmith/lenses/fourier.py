"""The Fourier transform of an image: the amplitude and phase of each frequency."""

from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith._repr import repr_of
from lossmith.lens import Lens, Maps

__all__ = ["Fourier"]

Part = Literal["complex", "amplitude"]
Norm = Literal["ortho", "backward"]


@final
class Fourier(Lens):
    r"""The discrete Fourier transform of each channel.

    .. math:: X_{uv} = \frac{1}{n} \sum_{h,w} x_{hw} \, e^{-2 \pi i (uh/H + vw/W)}

    as real and imaginary parts ("complex"), or its amplitude :math:`\lvert X_{uv} \rvert`, which does not depend on
    positions in the image. With :math:`n = \sqrt{HW}` ("ortho") the energy is the image's, so that L2 is half of its
    value on pixels and does not depend on the resolution; with n = 1 ("backward") values grow with the side.

    Every coefficient has the same weight, as in ``fft2``, though only the half that a real image needs is computed.
    With ``onesided=True`` only that half is returned, as in ``rfft2``: two of its columns, which are their own mirror
    images, then have twice the weight, and values differ by a few percent. Any size is supported. The transform is
    never computed in float16, where cuFFT supports only powers of two.

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
        onesided: Whether to return only the W // 2 + 1 columns of rfft2.

    Returns:
        Maps (N, 2C, H, W), real parts first, or amplitudes (N, C, H, W); frequencies are not in the order of fft2.

    Raises:
        ValueError: An unknown part or norm, or an onesided that is no bool.

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
        self.part: Part = check_choice("Fourier part", part, Part)
        self.norm: Norm = check_choice("Fourier norm", norm, Norm)
        if not isinstance(onesided, bool):
            raise ValueError(f"Fourier onesided must be True or False; got {onesided!r}.")
        self.onesided = onesided
        self.is_linear = part == "complex"

    def forward(self, maps: Maps) -> Maps:
        """Return the transform of each map (N, C, H, W)."""
        return {name: self.transform(image) for name, image in maps.items()}

    def transform(self, image: Tensor) -> Tensor:
        """Return the transform of a map (N, C, H, W)."""
        coefficients: Tensor = (
            torch.fft.rfft2(image, norm=self.norm) if self.onesided else compute_spectrum(image, self.norm)
        )
        if self.part == "amplitude":
            return coefficients.abs()  # the gradient at 0 is 0
        return torch.cat([coefficients.real, coefficients.imag], dim=1)

    def __repr__(self) -> str:
        part = [] if self.part == "complex" else [self.part]
        return repr_of(self, *part, norm=None if self.norm == "ortho" else self.norm, onesided=self.onesided or None)


def compute_spectrum(image: Tensor, norm: Norm = "ortho") -> Tensor:
    """Return the coefficients (..., H, W) of real maps (..., H, W), up to conjugation.

    The coefficient of a real map at -u, -v is the conjugate of that at u, v: one half of the transform and a copy of
    its inner columns contain all magnitudes, in a fifth of the time that `fft2` takes on a CPU.
    """
    half = torch.fft.rfft2(image, norm=norm)
    return torch.cat([half, half[..., 1 : (image.shape[-1] + 1) // 2]], dim=-1)

"""Losses on Fourier coefficients and wavelet bands."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_bool, check_integer, check_number
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid
from lossmith.lenses.fourier import Fourier, Part, compute_spectrum
from lossmith.lenses.fourier import Norm as FourierNorm
from lossmith.lenses.wavelet import Name, Wavelet
from lossmith.losses.pixel import L1

__all__ = ["FocalFrequency", "fft_l1", "wavelet_l1"]


@final
class FocalFrequency(Distance):
    r"""Focal frequency loss: the squared error of each frequency, weighted by its size.

    .. math:: \frac{1}{C H W} \sum_{c,u,v} w_{cuv} \lvert d_{cuv} \rvert^2, \qquad
        w_{cuv} = \frac{\lvert d_{cuv} \rvert^\alpha}{\max_{uv} \lvert d_{cuv} \rvert^\alpha}

    with d the difference of the orthonormal Fourier transforms. The weights are held constant, so that the gradient is
    not the derivative of the value. The paper prints the transform without the factor :math:`1 / \sqrt{HW}` of the
    authors' package, which divides the value by :math:`HW`; this class follows the package. The resolution then affects
    the value only through the largest error, which is slightly larger among more frequencies: 5 % for noise at twice
    the side length.

    Values and gradients equal those of focal-frequency-loss 0.3, whose option names are kept. Its two statistics over
    the batch make the value of an image depend on the others.

    References:
        | Focal Frequency Loss for Image Reconstruction and Synthesis (Jiang et al., 2021)
        | https://arxiv.org/abs/2012.12821

    Args:
        alpha: The exponent of the weights, at least 0; 0 gives all frequencies the same weight, which is :class:`L2`.
        patch_factor: The number of patches per side, each with a transform of its own.
        ave_spectrum: Whether the spectra are averaged over the batch before the comparison.
        log_matrix: Whether :math:`\log(1 + \lvert d \rvert^\alpha)` replaces the power.
        batch_matrix: Whether weights are normalised by the maximum over the batch instead of each channel and patch.
        joint_matrix: Whether weights are normalised by the maximum over the channels instead of each channel, so that a
            band with small errors has small weights; not in the authors' package.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the sides are not divisible by `patch_factor`.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
        >>> FocalFrequency()(x, y)
        tensor(0.2500)
    """

    citation_keys = ("jiang2021",)
    value_range = (0.0, 1.0)
    gradient_note = "the weights of the frequencies are held constant, as published"

    def __init__(
        self,
        alpha: float = 1.0,
        patch_factor: int = 1,
        *,
        ave_spectrum: bool = False,
        log_matrix: bool = False,
        batch_matrix: bool = False,
        joint_matrix: bool = False,
    ) -> None:
        super().__init__()
        check_number("FocalFrequency alpha", alpha, low=0)
        check_integer("FocalFrequency patch_factor", patch_factor, low=1)
        self.switches = {"ave_spectrum": ave_spectrum, "log_matrix": log_matrix, "batch_matrix": batch_matrix}
        self.switches["joint_matrix"] = joint_matrix
        for name, value in self.switches.items():
            check_bool(f"FocalFrequency {name}", value)
        self.alpha, self.patch_factor = alpha, patch_factor
        self.ave_spectrum, self.log_matrix, self.batch_matrix = ave_spectrum, log_matrix, batch_matrix
        self.joint_matrix = joint_matrix
        self.is_batch_dependent = ave_spectrum or batch_matrix

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the weighted error of each image, (N,); one value for all with `ave_spectrum`."""
        difference = compute_spectrum(self._split_patches(pred - target))
        if self.ave_spectrum:
            difference = difference.mean(dim=0, keepdim=True)
        squares = difference.real.square() + difference.imag.square()
        value = (self._weight_matrix(squares.detach()) * squares).flatten(1).mean(dim=1)
        return value.expand(len(pred)) if self.ave_spectrum else value

    def _weight_matrix(self, squares: Tensor) -> Tensor:
        """Return the weights of squared errors, in [0, 1]; 0 where all errors are 0."""
        dims = (0, 1, 2, 3, 4) if self.batch_matrix else (1, 3, 4) if self.joint_matrix else (3, 4)
        maximum = squares.amax(dim=dims, keepdim=True)
        is_nonzero = maximum > 0
        divisor = torch.where(is_nonzero, maximum, 1.0)
        if self.log_matrix:
            weights = torch.log1p(squares.pow(self.alpha / 2)) / torch.log1p(divisor.pow(self.alpha / 2))
        else:
            weights = (squares / divisor).pow(self.alpha / 2)  # divided first, so that no power overflows
        return torch.where(is_nonzero, weights, 0.0)

    def _split_patches(self, image: Tensor) -> Tensor:
        """Split a map (N, C, H, W) into patches, (N, C, patches, h, w)."""
        n, c, height, width = image.shape
        factor = self.patch_factor
        if min(height, width) < factor:
            raise ValueError(f"{self!r} needs images of at least {factor} px a side; got {height}x{width}.")
        if height % factor or width % factor:
            raise ValueError(
                f"{self!r} needs sides that are multiples of {factor}; got {height}x{width}. "
                f"Crop the images to {height - height % factor}x{width - width % factor}."
            )
        grid = image.view(n, c, factor, height // factor, factor, width // factor).transpose(3, 4)
        return grid.reshape(n, c, factor * factor, height // factor, width // factor)

    def __repr__(self) -> str:
        alpha = [] if (self.alpha, self.patch_factor) == (1, 1) else [self.alpha]
        factor = [] if self.patch_factor == 1 else [self.patch_factor]
        return repr_of(self, *alpha, *factor, **{name: value or None for name, value in self.switches.items()})


def fft_l1(part: Part = "complex", *, norm: FourierNorm = "ortho", onesided: bool = False) -> Hybrid:
    r"""Build the mean absolute error of Fourier coefficients.

    .. math:: \frac{1}{2CHW} \sum_{c,u,v} \lvert \Re\, d_{cuv} \rvert + \lvert \Im\, d_{cuv} \rvert

    Published weights refer to ``norm="backward"``: MIMO-UNet adds 0.1 of it to an L1 at each of three scales. For crops
    of 256 px this corresponds to 25.6 with "ortho", and to less for smaller crops, hence "ortho" as default.

    References:
        | Rethinking Coarse-to-Fine Approach in Single Image Deblurring (Cho et al., 2021)
        | https://arxiv.org/abs/2108.05054

    Args:
        part: "complex" for real and imaginary parts, or "amplitude", which does not depend on positions.
        norm: "ortho" or "backward", see :class:`Fourier`.
        onesided: Whether only the columns of rfft2 are compared.

    Example:
        >>> fft_l1()
        L1() @ Fourier()
    """
    return L1() @ Fourier(part, norm=norm, onesided=onesided)


def wavelet_l1(bands: Mapping[str, float] | None = None, name: Name = "haar", *, levels: int = 1) -> Hybrid:
    r"""Build the mean absolute error of wavelet bands, each with its own weight.

    .. math:: \sum_b \lambda_b \, \overline{\lvert W_b x - W_b y \rvert}

    Bands of equal weight form one term. WGSR weights the bands of an undecimated transform; for this transform no
    published weights are known, hence the default of 1.

    References:
        | A theory for multiresolution signal decomposition: the wavelet representation (Mallat, 1989)
        | https://doi.org/10.1109/34.192463

    Args:
        bands: The weights by band, such as {"LL": 0.1, "HH1": 0.05}; None for 1 for every band.
        name: "haar", "db2", "db4" or "sym4".
        levels: The number of decomposition levels, at least 1.

    Raises:
        ValueError: If there is no band, a band is unknown, or a weight is not positive.

    Example:
        >>> wavelet_l1({"LL": 0.1, "LH1": 0.01, "HL1": 0.01})
        0.1 * L1() @ Wavelet("haar", bands=["LL"]) + 0.01 * L1() @ Wavelet("haar", bands=["LH1", "HL1"])
    """
    if bands is None:
        return L1() @ Wavelet(name, levels)
    if not isinstance(bands, Mapping) or not bands:
        raise ValueError(f'wavelet_l1 needs bands and weights, such as {{"LL": 0.1, "HH1": 1}}; got {bands!r}.')
    by_weight: dict[float, list[str]] = {}
    for band, weight in bands.items():
        check_number(f"wavelet_l1 weight of {band!r}", weight, low=0, open_low=True)
        by_weight.setdefault(weight, []).append(band)
    terms = [weight * L1() @ Wavelet(name, levels, bands=names) for weight, names in by_weight.items()]
    return Hybrid(term for hybrid in terms for term in hybrid.terms)

"""Frequency: losses that count waves and bands apart, so that the large ones do not hide the small ones."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_number
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
    r"""The squared error of each frequency, weighted by how wrong it is.

    .. math:: \frac{1}{C H W} \sum_{c,u,v} w_{cuv} \lvert d_{cuv} \rvert^2, \qquad
        w_{cuv} = \frac{\lvert d_{cuv} \rvert^\alpha}{\max_{uv} \lvert d_{cuv} \rvert^\alpha}

    with d the difference of the orthonormal Fourier transforms and the weights held fixed, so that the gradient is not
    the derivative of the value. The paper prints the transform without the :math:`1 / \sqrt{HW}` that the authors'
    package gives it, which makes the value smaller by :math:`HW`; we follow the package. The resolution then counts
    only by the largest error, which is a little larger among more frequencies: of noise at twice the side, by 5 %.

    Values and gradients are those of focal-frequency-loss 0.3, with its names for the options. Its two statistics over
    the batch make the value of one image depend on the others.

    References:
        | Focal Frequency Loss for Image Reconstruction and Synthesis (Jiang et al., 2021)
        | https://arxiv.org/abs/2012.12821

    Args:
        alpha: How much more a worse frequency counts, at least 0; with 0 all count alike, which is :class:`L2`.
        patch_factor: Into how many patches a side is cut, each with its own transform.
        ave_spectrum: Whether the spectra are averaged over the batch before they are compared.
        log_matrix: Whether :math:`\log(1 + \lvert d \rvert^\alpha)` stands for the power.
        batch_matrix: Whether the largest weight is sought over the whole batch and not in each channel of each patch.

    Raises:
        ValueError: A bad argument, or at the call sides that cannot be cut into the patches.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
        >>> FocalFrequency()(x, y)
        tensor(0.2500)
    """

    citation_keys = ("jiang2021",)
    value_range = (0.0, 1.0)

    def __init__(
        self,
        alpha: float = 1.0,
        patch_factor: int = 1,
        *,
        ave_spectrum: bool = False,
        log_matrix: bool = False,
        batch_matrix: bool = False,
    ) -> None:
        super().__init__()
        if check_number("FocalFrequency alpha", alpha) < 0:
            raise ValueError(f"FocalFrequency wants alpha of at least 0; got {alpha!r}.")
        if isinstance(patch_factor, bool) or not isinstance(patch_factor, int) or patch_factor < 1:
            raise ValueError(f"FocalFrequency wants a whole patch_factor of at least 1; got {patch_factor!r}.")
        self.switches = {"ave_spectrum": ave_spectrum, "log_matrix": log_matrix, "batch_matrix": batch_matrix}
        for name, value in self.switches.items():
            if not isinstance(value, bool):
                raise ValueError(f"FocalFrequency wants {name} to be True or False; got {value!r}.")
        self.alpha, self.patch_factor = alpha, patch_factor
        self.ave_spectrum, self.log_matrix, self.batch_matrix = ave_spectrum, log_matrix, batch_matrix
        self.is_batch_dependent = ave_spectrum or batch_matrix  # two of its options make it so

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """The weighted error of each image, (N,); one value for all with ave_spectrum."""
        off = compute_spectrum(self.patches(pred - target))
        if self.ave_spectrum:
            off = off.mean(dim=0, keepdim=True)
        squares = off.real.square() + off.imag.square()
        value = (self.matrix(squares.detach()) * squares).flatten(1).mean(dim=1)
        return value.expand(len(pred)) if self.ave_spectrum else value

    def matrix(self, squares: Tensor) -> Tensor:
        """The weights of squared errors, in [0, 1]; 0 where there is no error at all."""
        over = (0, 1, 2, 3, 4) if self.batch_matrix else (3, 4)
        largest = squares.amax(dim=over, keepdim=True)
        seen = largest > 0
        most = torch.where(seen, largest, 1.0)
        if self.log_matrix:
            weights = torch.log1p(squares.pow(self.alpha / 2)) / torch.log1p(most.pow(self.alpha / 2))
        else:
            weights = (squares / most).pow(self.alpha / 2)  # divided first, so that no power overflows
        return torch.where(seen, weights, 0.0)

    def patches(self, image: Tensor) -> Tensor:
        """A map (N, C, H, W) cut into its patches, (N, C, patches, h, w)."""
        n, c, height, width = image.shape
        cuts = self.patch_factor
        if min(height, width) < cuts:
            raise ValueError(f"{self!r} wants pictures of at least {cuts} px a side; got {height}x{width}.")
        if height % cuts or width % cuts:
            raise ValueError(
                f"{self!r} wants sides that are multiples of {cuts}; got {height}x{width}. "
                f"Crop the pictures to {height - height % cuts}x{width - width % cuts}."
            )
        cut = image.view(n, c, cuts, height // cuts, cuts, width // cuts).transpose(3, 4)
        return cut.reshape(n, c, cuts * cuts, height // cuts, width // cuts)

    def __repr__(self) -> str:
        alpha = [] if (self.alpha, self.patch_factor) == (1, 1) else [self.alpha]
        factor = [] if self.patch_factor == 1 else [self.patch_factor]
        return repr_of(self, *alpha, *factor, **{name: value or None for name, value in self.switches.items()})


def fft_l1(part: Part = "complex", *, norm: FourierNorm = "ortho", onesided: bool = False) -> Hybrid:
    r"""The mean absolute error of the Fourier coefficients.

    .. math:: \frac{1}{2CHW} \sum_{c,u,v} \lvert \Re\, d_{cuv} \rvert + \lvert \Im\, d_{cuv} \rvert

    Published weights are for ``norm="backward"``: MIMO-UNet adds 0.1 of it to an L1, at each of three scales. On crops
    of 256 px that is 25.6 with "ortho", on smaller ones less, which is why "ortho" is the default here.

    References:
        | Rethinking Coarse-to-Fine Approach in Single Image Deblurring (Cho et al., 2021)
        | https://arxiv.org/abs/2108.05054

    Args:
        part: "complex" for real and imaginary parts, "amplitude" for what does not depend on place.
        norm: "ortho" or "backward", see :class:`Fourier`.
        onesided: Whether only the columns of rfft2 count.

    Example:
        >>> fft_l1()
        L1() @ Fourier()
    """
    return L1() @ Fourier(part, norm=norm, onesided=onesided)


def wavelet_l1(bands: Mapping[str, float] | None = None, name: Name = "haar", *, levels: int = 1) -> Hybrid:
    r"""The mean absolute error in each band of a wavelet transform, each with a weight of its own.

    .. math:: \sum_b \lambda_b \, \overline{\lvert W_b x - W_b y \rvert}

    Bands of one weight are one term. WGSR weighs the bands of a transform that is not decimated; no weights have been
    published for this one that we know of, hence the default of 1.

    References:
        | A theory for multiresolution signal decomposition: the wavelet representation (Mallat, 1989)
        | https://doi.org/10.1109/34.192463

    Args:
        bands: The weights by band, such as {"LL": 0.1, "HH1": 0.05}; 1 for every band by default.
        name: "haar", "db2", "db4" or "sym4".
        levels: How often the low band is taken apart again, at least once.

    Raises:
        ValueError: No band, one that is not there, or a weight that is no positive number.

    Example:
        >>> wavelet_l1({"LL": 0.1, "LH1": 0.01, "HL1": 0.01})
        0.1 * L1() @ Wavelet("haar", bands=["LL"]) + 0.01 * L1() @ Wavelet("haar", bands=["LH1", "HL1"])
    """
    if bands is None:
        return L1() @ Wavelet(name, levels)
    if not isinstance(bands, Mapping) or not bands:
        raise ValueError(f'wavelet_l1 wants bands with their weights, such as {{"LL": 0.1, "HH1": 1}}; got {bands!r}.')
    shared: dict[float, list[str]] = {}
    for band, weight in bands.items():
        if check_number("wavelet_l1 weight", weight) <= 0:
            raise ValueError(f"wavelet_l1 wants a positive weight for band {band!r}; got {weight!r}.")
        shared.setdefault(weight, []).append(band)
    terms = [weight * L1() @ Wavelet(name, levels, bands=names) for weight, names in shared.items()]
    return Hybrid(term for hybrid in terms for term in hybrid.terms)

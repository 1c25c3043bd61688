"""Structural similarity at one scale and at several scales."""

from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice, check_integer, check_number
from lossmith._filters import constant
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Loss
from lossmith.lens import BandMode
from lossmith.losses._structure import SimilarityWindow, compute_similarity_map, mean_dissimilarity

__all__ = ["MSSSIM", "SSIM"]

OddSides = Literal["crop", "replicate", "zeros"]

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@final
class SSIM(Distance):
    r"""One minus the structural similarity (SSIM).

    .. math:: 1 - \frac{1}{C P} \sum_p \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
        {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \quad c_i = K_i^2

    with moments under a Gaussian window, at every position where the window fits (Wang's "valid"), for each channel
    separately: the mean over channels is taken last, so that there is no joint variant. A mask, (N, 1, H, W), weights
    each position by its value at the centre of the window. The value lies in :math:`[0, 2]`. MONAI's loss is the same;
    kornia's, with ``padding="valid"``, is half; piq downscales images above 256 px by default.

    References:
        | Image quality assessment: from error visibility to structural similarity (Wang et al., 2004)
        | https://www.cns.nyu.edu/pub/lcv/wang03-preprint.pdf

    Args:
        window: The side of the window in pixels, odd.
        sigma: The standard deviation of the Gaussian in pixels; positive.
        k1: The stabilising constant of the comparison of luminance; positive.
        k2: The stabilising constant of the comparison of contrast; positive.

    Raises:
        ValueError: If an argument is out of range; or at the call, if an image is smaller than the window.

    Example:
        >>> x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> SSIM()(x, x).abs() < 1e-6, SSIM()(x, 1 - x) > 1
        (tensor(True), tensor(True))
    """

    citation_keys = ("wang2004",)
    value_range = (0.0, 2.0)

    def __init__(self, window: int = 11, *, sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03) -> None:
        super().__init__()
        _check_options("SSIM", window, sigma, k1, k2)
        self.window, self.sigma, self.k1, self.k2 = window, sigma, k1, k2

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute one minus the similarity of each image, (N,)."""
        self.check_size(*pred.shape[-2:])
        return mean_dissimilarity(pred, target, self._similarity_window, mask, is_joint=True).squeeze(1)

    def measure_map(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute one minus the similarity at each position where the window fits."""
        self.check_size(*pred.shape[-2:])
        return 1 - compute_similarity_map(pred, target, self._similarity_window)

    @property
    def _similarity_window(self) -> SimilarityWindow:
        return SimilarityWindow(self.window, self.sigma, self.k1**2, self.k2**2)

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError if images of this size are smaller than the window."""
        if min(height, width) < self.window:
            raise ValueError(
                f"{self!r} needs images of at least {self.window}x{self.window} px; "
                f"got {height}x{width}. SSIM({_largest_odd(min(height, width))}) fits."
            )

    def __repr__(self) -> str:
        return _window_repr(self, window=self.window, sigma=self.sigma, k1=self.k1, k2=self.k2)


@final
class MSSSIM(Distance):
    r"""One minus the multi-scale structural similarity (MS-SSIM).

    .. math:: 1 - \frac{1}{C} \sum_c \Big(\prod_{j<M} \overline{cs_j}^{\,w_j}\Big) \overline{ssim_M}^{\,w_M}

    with :math:`cs` the factor of :class:`SSIM` that compares contrast and structure, and each scale half the previous
    one (2 x 2 means). A mean below 1e-4, as opposite images have, is set to 1e-4:
    its fractional power is NaN in other libraries. With fewer scales, the weights are rescaled to sum 1. With
    ``bands="joint"``, the means are over positions and channels, and the product is that of all bands instead of the
    mean of each band's product. A mask, (N, 1, H, W), is halved like the images, and weights each position by its value
    at the centre of the window.

    References:
        | Multi-scale structural similarity for image quality assessment (Wang et al., 2003)
        | https://www.cns.nyu.edu/pub/eero/wang03b.pdf

    Args:
        scales: The number of scales, 1 to 5; five need images of at least 176 px with a window of 11, or 161 px if odd
            sides are padded.
        window: The side of the window in pixels, odd.
        sigma: The standard deviation of the Gaussian in pixels; positive.
        k1: The stabilising constant of the comparison of luminance; positive.
        k2: The stabilising constant of the comparison of contrast; positive.
        odd_sides: What happens to an odd side before it is halved: "crop" drops the last row or column; "replicate"
            pads by the first ones, as piq does; "zeros" pads by zeros, as pytorch-msssim does, which darkens borders.
        bands: "each" for the mean of the similarities of the bands, or "joint" for the similarity of all bands.

    Raises:
        ValueError: If an argument is out of range; or at the call, if an image is too small for the scales.

    Example:
        >>> x = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
        >>> MSSSIM(scales=3)(x, x).abs() < 1e-6
        tensor(True)
    """

    citation_keys = ("wang2003",)
    value_range = (0.0, 1.0)

    def __init__(
        self,
        scales: int = 5,
        *,
        window: int = 11,
        sigma: float = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        odd_sides: OddSides = "crop",
        bands: BandMode = "each",
    ) -> None:
        super().__init__()
        _check_options("MSSSIM", window, sigma, k1, k2)
        check_integer("MSSSIM scales", scales, low=1, high=len(_SCALE_WEIGHTS))
        self.odd_sides = check_choice("MSSSIM odd_sides", odd_sides, OddSides)
        self.bands = check_choice("MSSSIM bands", bands, BandMode)
        self.scales, self.window, self.sigma, self.k1, self.k2 = scales, window, sigma, k1, k2
        weights = _SCALE_WEIGHTS[:scales]
        self.scale_weights = list(weights) if scales == len(_SCALE_WEIGHTS) else [w / sum(weights) for w in weights]

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute one minus the similarity of each image, (N,)."""
        self.check_size(*pred.shape[-2:])
        values = []
        for scale in range(self.scales):
            is_last = scale == self.scales - 1
            window = SimilarityWindow(self.window, self.sigma, self.k1**2, self.k2**2, has_luminance=is_last)
            values.append(mean_dissimilarity(pred, target, window, mask, is_joint=self.bands == "joint"))
            if not is_last:
                pred, target = _halve(pred, self.odd_sides), _halve(target, self.odd_sides)
                mask = None if mask is None else _halve(mask, self.odd_sides)
        similarities = (1 - torch.stack(values, dim=-1)).clamp_min(1e-4)
        powers = constant(tuple(self.scale_weights), like=similarities)
        return 1 - (similarities.log() * powers).sum(dim=-1).exp().mean(dim=1)

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError if images of this size are too small for the scales."""
        side = min(height, width)
        if side < (least := self._min_size(self.scales)):
            scales = max((s for s in range(1, self.scales) if side >= self._min_size(s)), default=None)
            fitting = f"MSSSIM({scales}) fits." if scales else f"SSIM({_largest_odd(side)}) fits."
            if side > (self.window - 1) << (self.scales - 1):
                fitting = f'MSSSIM(odd_sides="replicate") pads odd sides and fits, and so does {fitting}'
            raise ValueError(f"{self!r} needs images of at least {least} px a side; got {height}x{width}. {fitting}")

    def _min_size(self, scales: int) -> int:
        """Return the least side in pixels of an image for a number of scales."""
        if self.odd_sides == "crop":
            return self.window << (scales - 1)
        return ((self.window - 1) << (scales - 1)) + 1

    def __repr__(self) -> str:
        scales = [] if self.scales == len(_SCALE_WEIGHTS) else [self.scales]
        odd_sides = None if self.odd_sides == "crop" else self.odd_sides
        options = {"window": self.window, "sigma": self.sigma, "k1": self.k1, "k2": self.k2}
        return _window_repr(
            self, *scales, **options, odd_sides=odd_sides, bands=None if self.bands == "each" else self.bands
        )


def _halve(image: Tensor, odd_sides: OddSides) -> Tensor:
    """Return the 2 x 2 means of an image."""
    height, width = image.shape[2] % 2, image.shape[3] % 2
    if odd_sides == "zeros":
        return F.avg_pool2d(image, 2, padding=(height, width))
    if odd_sides == "replicate" and (odd := max(height, width)):
        image = F.pad(image, (odd, 0, odd, 0), mode="replicate")
    return F.avg_pool2d(image, 2)


def _check_options(owner: str, window: int, sigma: float, k1: float, k2: float) -> None:
    if check_integer(f"{owner} window", window, low=1) % 2 == 0:
        raise ValueError(f"{owner} window must be odd; got {window!r}.")
    for name, value in (("sigma", sigma), ("k1", k1), ("k2", k2)):
        check_number(f"{owner} {name}", value, low=0, open_low=True)


def _largest_odd(side: int) -> int:
    return max(1, side - (side + 1) % 2)


def _window_repr(loss: Loss, *positional: int, **options: float | str | None) -> str:
    defaults = {"window": 11, "sigma": 1.5, "k1": 0.01, "k2": 0.03, "odd_sides": None, "bands": None}
    return repr_of(loss, *positional, **{name: v for name, v in options.items() if v != defaults[name]})

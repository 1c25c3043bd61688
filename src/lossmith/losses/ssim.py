"""Structural similarity, at one scale and at several."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Loss

__all__ = ["MSSSIM", "SSIM"]

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@final
class SSIM(Distance):
    r"""One minus the structural similarity.

    .. math:: 1 - \frac{1}{C P} \sum_p \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
        {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \quad c_i = K_i^2

    with moments under a Gaussian window, at every place where the window fits (Wang's "valid"), each channel by
    itself. It lies in :math:`[0, 2]`. MONAI's loss is the same, kornia's half of it with ``padding="valid"``;
    piq halves pictures above 256 px unless told not to.

    References:
        | Image quality assessment: from error visibility to structural similarity (Wang et al., 2004)
        | https://www.cns.nyu.edu/pub/lcv/wang03-preprint.pdf

    Args:
        window: The window's side, odd.
        sigma: The Gaussian's deviation in pixels.
        k1: Stabilises the comparison of brightness.
        k2: Stabilises the comparison of contrast.

    Raises:
        ValueError: A bad argument, or at the call a picture smaller than the window.

    Example:
        >>> x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> SSIM()(x, x).abs() < 1e-6, SSIM()(x, 1 - x) > 1
        (tensor(True), tensor(True))
    """

    citation_keys = ("wang2004",)
    value_range = (0.0, 2.0)

    def __init__(self, window: int = 11, *, sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03) -> None:
        super().__init__()
        _check("SSIM", window, sigma, k1, k2)
        self.window, self.sigma, self.k1, self.k2 = window, sigma, k1, k2

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """One minus the similarity of each image, (N,)."""
        self.refuse_small(*pred.shape[-2:])
        contrast, brightness = parts(pred, target, self.window, self.sigma, self.k1, self.k2)
        return 1 - (contrast * brightness).flatten(1).mean(dim=1)

    def refuse_small(self, height: int, width: int) -> None:
        """Raises if the window does not fit into pictures of these sides."""
        if min(height, width) < self.window:
            raise ValueError(
                f"{self!r} wants pictures of at least {self.window}x{self.window} px; "
                f"got {height}x{width}. SSIM({_odd(min(height, width))}) fits."
            )

    def __repr__(self) -> str:
        return _spelled(self, window=self.window, sigma=self.sigma, k1=self.k1, k2=self.k2)


@final
class MSSSIM(Distance):
    r"""One minus the structural similarity over several scales.

    .. math:: 1 - \frac{1}{C} \sum_c \Big(\prod_{j<M} \overline{cs_j}^{\,w_j}\Big) \overline{ssim_M}^{\,w_M}

    with :math:`cs` the factor of :class:`SSIM` that compares contrast and structure, and each scale half the one before
    it (2 x 2 means; an odd last row or column is dropped). A mean below 1e-4, as opposite pictures have, counts as
    1e-4: its fractional power is NaN in other libraries. With fewer scales the weights are scaled to sum 1.

    References:
        | Multi-scale structural similarity for image quality assessment (Wang et al., 2003)
        | https://www.cns.nyu.edu/pub/eero/wang03b.pdf

    Args:
        scales: How many scales, 1 to 5; five want pictures of at least 176 px with the window of 11.
        window: The window's side, odd.
        sigma: The Gaussian's deviation in pixels.
        k1: Stabilises the comparison of brightness.
        k2: Stabilises the comparison of contrast.

    Raises:
        ValueError: A bad argument, or at the call a picture too small for the scales.

    Example:
        >>> x = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
        >>> MSSSIM(scales=3)(x, x).abs() < 1e-6
        tensor(True)
    """

    citation_keys = ("wang2003",)
    value_range = (0.0, 1.0)

    def __init__(
        self, scales: int = 5, *, window: int = 11, sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03
    ) -> None:
        super().__init__()
        _check("MSSSIM", window, sigma, k1, k2)
        if not (isinstance(scales, int) and 1 <= scales <= len(SCALES)):
            raise ValueError(f"MSSSIM wants 1 to {len(SCALES)} scales; got {scales!r}.")
        self.scales, self.window, self.sigma, self.k1, self.k2 = scales, window, sigma, k1, k2
        self.shares = [w / sum(SCALES[:scales]) for w in SCALES[:scales]] if scales < len(SCALES) else list(SCALES)

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """One minus the similarity of each image, (N,)."""
        self.refuse_small(*pred.shape[-2:])
        product = pred.new_ones(pred.shape[:2])
        for scale, share in enumerate(self.shares):
            contrast, brightness = parts(pred, target, self.window, self.sigma, self.k1, self.k2)
            last = scale == self.scales - 1
            mean = (contrast * brightness if last else contrast).flatten(2).mean(dim=2)
            product = product * mean.clamp_min(1e-4).pow(share)
            if not last:
                pred, target = F.avg_pool2d(pred, 2), F.avg_pool2d(target, 2)
        return 1 - product.mean(dim=1)

    def refuse_small(self, height: int, width: int) -> None:
        """Raises if pictures of these sides are too small for the scales."""
        side = min(height, width)
        if side >> (self.scales - 1) < self.window:
            fit = max((s for s in range(1, self.scales) if side >> (s - 1) >= self.window), default=None)
            raise ValueError(
                f"{self!r} wants pictures of at least {self.window << (self.scales - 1)} px a side; "
                f"got {height}x{width}. " + (f"MSSSIM({fit}) fits." if fit else f"SSIM({_odd(side)}) fits.")
            )

    def __repr__(self) -> str:
        scales = [] if self.scales == len(SCALES) else [self.scales]
        return _spelled(self, *scales, window=self.window, sigma=self.sigma, k1=self.k1, k2=self.k2)


def parts(pred: Tensor, target: Tensor, window: int, sigma: float, k1: float, k2: float) -> tuple[Tensor, Tensor]:
    """The maps of SSIM's two factors: contrast and structure, and brightness."""
    # variances do not change with a shift, and lose fewer digits about the mean
    mean_x, mean_y = (image.detach().mean(dim=(2, 3), keepdim=True) for image in (pred, target))
    x, y = pred - mean_x, target - mean_y
    m_x, m_y, xx, yy, xy = blur(torch.cat([x, y, x * x, y * y, x * y], dim=1), window, sigma).chunk(5, dim=1)
    c1, c2 = k1**2, k2**2
    variances = (xx - m_x.square()) + (yy - m_y.square())
    contrast = (2 * (xy - m_x * m_y) + c2) / (variances.clamp_min(0) + c2)
    mu_x, mu_y = m_x + mean_x, m_y + mean_y
    brightness = (2 * mu_x * mu_y + c1) / (mu_x.square() + mu_y.square() + c1)
    return contrast, brightness


def blur(image: Tensor, window: int, sigma: float) -> Tensor:
    """A picture under a separable Gaussian window of sum 1, wherever the window fits."""
    # no buffer: a parent's half() would round it, and the variances with it
    place = torch.arange(window, dtype=image.dtype, device=image.device) - (window - 1) / 2
    weights = torch.exp(-place.square() / (2 * sigma**2))
    channels = image.shape[1]
    row = (weights / weights.sum()).view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(image, row, groups=channels), row.transpose(2, 3), groups=channels)


def _check(who: str, window: int, sigma: float, k1: float, k2: float) -> None:
    if not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise ValueError(f"{who} wants an odd window; got {window!r}.")
    for name, value in (("sigma", sigma), ("k1", k1), ("k2", k2)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{who} wants {name} > 0; got {value!r}.")


def _odd(side: int) -> int:
    return max(1, side - (side + 1) % 2)


def _spelled(who: Loss, *places: int, **rest: float) -> str:
    usual: Sequence[tuple[str, float]] = (("window", 11), ("sigma", 1.5), ("k1", 0.01), ("k2", 0.03))
    return repr_of(who, *places, **{n: rest[n] for n, value in usual if n in rest and rest[n] != value})

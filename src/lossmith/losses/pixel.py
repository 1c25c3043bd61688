"""Distances between the values of two images or two feature maps.

Each distance accepts a mask, ``L1().on(mask="mask")``, an input (N, 1, H, W) with values in [0, 1]: the mean of each
image is then taken over the masked pixels. Through a lens, the mask is resized to the feature maps by averaging areas;
a Gram matrix is computed from the masked positions.
"""

from typing import final

import torch
from torch import Tensor

from lossmith._checks import check_choice, check_number
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.lens import BandMode
from lossmith.losses._reductions import (
    apply_mask,
    masked_mean,
    mean_absolute_error,
    mean_squared_error,
    non_batch_dims,
)

__all__ = ["L1", "L2", "Charbonnier", "Huber", "Lp", "SquaredNorm"]


@final
class L1(Distance):
    r"""Mean absolute error.

    .. math:: \frac{1}{CHW} \sum_i \lvert x_i - y_i \rvert

    The minimiser is the median of the possible targets: robust to outliers, slightly blurred, with correct colours. The
    value lies in :math:`[0, 1]` for images.

    Example:
        >>> x = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
        >>> y = torch.tensor([[[[0.2, 0.3], [0.4, 0.5]]]])
        >>> L1()(x, y)
        tensor(0.1000)
    """

    value_range = (0.0, 1.0)
    tiling = "mean"
    has_compact_backward = True

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the distance of each image, (N,)."""
        return mean_absolute_error(pred, target) if mask is None else masked_mean(self.measure_map(pred, target), mask)

    def measure_map(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the absolute errors."""
        return (pred - target).abs()


@final
class L2(Distance):
    r"""Mean squared error, without a root.

    .. math:: \frac{1}{CHW} \sum_i (x_i - y_i)^2

    The minimiser is the mean of the possible targets: the highest PSNR, and blur where several targets are possible.

    Example:
        >>> x = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
        >>> y = torch.tensor([[[[0.2, 0.3], [0.4, 0.5]]]])
        >>> L2()(x, y)
        tensor(0.0100)
    """

    value_range = (0.0, 1.0)
    tiling = "mean"
    is_mean_seeking = True

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the distance of each image, (N,)."""
        return mean_squared_error(pred, target) if mask is None else masked_mean(self.measure_map(pred, target), mask)

    def measure_map(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the squared errors."""
        return (pred - target).square()


@final
class Lp(Distance):
    r"""Mean of a power of the absolute error, without a root; p = 1 is :class:`L1` and p = 2 is :class:`L2`.

    .. math:: \frac{1}{CHW} \sum_i \lvert x_i - y_i \rvert^p

    Args:
        p: The power, at least 1.

    Raises:
        ValueError: If p is below 1 or not finite.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
        >>> Lp(3)(x, y)
        tensor(0.1250)
    """

    value_range = (0.0, 1.0)
    tiling = "mean"
    example_formula = "Lp(1.5)"

    def __init__(self, p: float) -> None:
        super().__init__()
        check_number("Lp p", p, low=1)
        self.p = p

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the distance of each image, (N,)."""
        return masked_mean(self.measure_map(pred, target), mask)

    def measure_map(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the powers of the absolute errors."""
        return (pred - target).abs().pow(self.p)

    def __repr__(self) -> str:
        return repr_of(self, self.p)


@final
class Charbonnier(Distance):
    r"""Smooth :class:`L1`: quadratic for errors below eps, linear above.

    .. math:: \frac{1}{CHW} \sum_i \sqrt{(x_i - y_i)^2 + \epsilon^2}

    With ``bands="joint"``, the square is the mean square over the bands of a pixel: an error in one band makes the
    errors of the other bands at this pixel cost less than elsewhere, so that bands are restored at the same positions.
    The value of equal images is eps, not 0. In BasicSR, ``eps=1e-12`` is added inside the root without a square, which
    is 1e-6 here. kornia's Charbonnier loss is :math:`\sqrt{d^2 + 1} - 1`, a different function.

    References:
        | Two deterministic half-quadratic regularization algorithms for computed imaging (Charbonnier et al., 1994)
        | Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution (Lai et al., 2017), for eps = 1e-3
        | https://arxiv.org/abs/1704.03915

    Args:
        eps: The error at which the function turns from quadratic to linear, in units of the image range; above 1e-18,
            so that its square is positive in float32.
        bands: "each" for the error of each band, or "joint" for the root mean square error over the bands.

    Raises:
        ValueError: If eps is out of range, or `bands` is unknown.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.3)
        >>> Charbonnier(eps=0.4)(x, y)
        tensor(0.5000)
    """

    citation_keys = ("charbonnier1994",)
    tiling = "mean"

    def __init__(self, eps: float = 1e-3, *, bands: BandMode = "each") -> None:
        super().__init__()
        check_number("Charbonnier eps", eps, low=1e-18, open_low=True)
        self.eps, self.bands = eps, check_choice("Charbonnier bands", bands, BandMode)

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the distance of each image, (N,)."""
        return masked_mean(self.measure_map(pred, target), mask)

    def measure_map(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each value, or with joint bands of each pixel."""
        squares = (pred - target).square()
        if self.bands == "joint":
            squares = squares.mean(dim=1, keepdim=True)
        return (squares + self.eps**2).sqrt()

    def __repr__(self) -> str:
        bands = None if self.bands == "each" else self.bands
        return repr_of(self, eps=None if self.eps == 1e-3 else self.eps, bands=bands)


@final
class Huber(Distance):
    r"""Half the squared error for errors up to delta, linear above.

    .. math:: \frac{1}{CHW} \sum_i \begin{cases} d_i^2 / 2 & \lvert d_i \rvert \le \delta \\
        \delta (\lvert d_i \rvert - \delta / 2) & \text{else} \end{cases}, \quad d = x - y

    References:
        | Robust Estimation of a Location Parameter (Huber, 1964)

    Args:
        delta: The error at which the function turns linear, in units of the image range; positive.

    Raises:
        ValueError: If delta is not positive and finite.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
        >>> Huber(delta=0.1)(x, y)
        tensor(0.0450)
    """

    citation_keys = ("huber1964",)
    tiling = "mean"

    def __init__(self, delta: float = 0.1) -> None:
        super().__init__()
        check_number("Huber delta", delta, low=0, open_low=True)
        self.delta = delta

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the distance of each image, (N,)."""
        return masked_mean(self.measure_map(pred, target), mask)

    def measure_map(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each value."""
        return torch.nn.functional.huber_loss(pred, target, reduction="none", delta=self.delta)

    def __repr__(self) -> str:
        return repr_of(self, delta=None if self.delta == 0.1 else self.delta)


@final
class SquaredNorm(Distance):
    r"""Sum of squared errors: the squared Euclidean norm; of Gram matrices, the squared Frobenius norm.

    .. math:: \lVert x - y \rVert_2^2 = \sum_i (x_i - y_i)^2

    The value grows with the number of values and hence with the resolution. Use it for papers that print a squared norm
    without a mean.

    Example:
        >>> x, y = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)
        >>> SquaredNorm()(x, y)
        tensor(1.)
    """

    tiling = "sum"
    is_mean_seeking = True

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the distance of each image, (N,)."""
        squares = (pred - target).square()
        return (squares if mask is None else apply_mask(squares, mask)).sum(dim=non_batch_dims(squares))

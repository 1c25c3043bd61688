"""Distances between the values of two maps: pixels, or what a lens shows.

Each may have a mask, ``L1().on(mask="mask")``, a view (N, 1, H, W): the mean is over what it covers, each image by
itself. Through lenses it is brought to the size of their maps, by areas; a Gram matrix counts what it covers.
"""

from typing import Any, final

import torch
from torch import Tensor

from lossmith._checks import check_number
from lossmith._repr import spelled
from lossmith.formula.distance import Distance

__all__ = ["L1", "L2", "Charbonnier", "Huber", "Lp", "SquaredNorm"]


@final
class L1(Distance):
    r"""The mean absolute error.

    .. math:: \frac{1}{CHW} \sum_i \lvert x_i - y_i \rvert

    Its minimiser is the median: robust, a little blurred, colours kept. It lies in :math:`[0, 1]` for pictures.

    Example:
        >>> x = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
        >>> y = torch.tensor([[[[0.2, 0.3], [0.4, 0.5]]]])
        >>> L1()(x, y)
        tensor(0.1000)
    """

    bounds = (0.0, 1.0)
    tiling = "mean"
    frugal = True

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance for each image, (N,)."""
        if mask is not None:
            return mean((pred - target).abs(), mask)
        distance: Tensor = _Absolute.apply(pred, target)  # type: ignore[no-untyped-call]
        return distance

    def __repr__(self) -> str:
        return "L1()"


@final
class L2(Distance):
    r"""The mean squared error; no root is taken.

    .. math:: \frac{1}{CHW} \sum_i (x_i - y_i)^2

    Its minimiser is the mean: the highest PSNR, and blur wherever several answers are possible.

    Example:
        >>> x = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
        >>> y = torch.tensor([[[[0.2, 0.3], [0.4, 0.5]]]])
        >>> L2()(x, y)
        tensor(0.0100)
    """

    bounds = (0.0, 1.0)
    tiling = "mean"
    mean_preserving = True

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance for each image, (N,)."""
        if mask is not None:
            return mean((pred - target).square(), mask)
        distance: Tensor = _Squared.apply(pred, target)  # type: ignore[no-untyped-call]
        return distance

    def __repr__(self) -> str:
        return "L2()"


@final
class Lp(Distance):
    r"""The mean of a power of the error; no root is taken, so that p = 1 is :class:`L1` and p = 2 is :class:`L2`.

    .. math:: \frac{1}{CHW} \sum_i \lvert x_i - y_i \rvert^p

    Args:
        p: The power, at least 1.

    Raises:
        ValueError: p is below 1.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
        >>> Lp(3)(x, y)
        tensor(0.1250)
    """

    bounds = (0.0, 1.0)
    tiling = "mean"

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 1 <= check_number("Lp p", p) < float("inf"):
            raise ValueError(f"Lp wants a finite p of at least 1; got {p!r}.")
        self.p = p

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance for each image, (N,)."""
        return mean((pred - target).abs().pow(self.p), mask)

    def __repr__(self) -> str:
        return spelled(self, self.p)


@final
class Charbonnier(Distance):
    r"""A smooth :class:`L1`: quadratic below eps, linear above it.

    .. math:: \frac{1}{CHW} \sum_i \sqrt{(x_i - y_i)^2 + \epsilon^2}

    Equal images give eps, not 0. BasicSR's ``eps=1e-12`` stands inside the root and is our 1e-6; kornia's Charbonnier
    is :math:`\sqrt{d^2 + 1} - 1`, another function.

    References:
        | Two deterministic half-quadratic regularization algorithms for computed imaging (Charbonnier et al., 1994)
        | Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution (Lai et al., 2017), for eps = 1e-3
        | https://arxiv.org/abs/1704.03915

    Args:
        eps: Where it bends, in units of the image range.

    Raises:
        ValueError: eps is not positive, or too small for float32.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.3)
        >>> Charbonnier(eps=0.4)(x, y)
        tensor(0.5000)
    """

    papers = ("charbonnier1994",)

    tiling = "mean"

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        if not 1e-18 < eps < float("inf"):  # whose square float32 still tells from 0
            raise ValueError(f"Charbonnier wants eps > 1e-18; got {eps!r}.")
        self.eps = eps

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance for each image, (N,)."""
        return mean(((pred - target).square() + self.eps**2).sqrt(), mask)

    def __repr__(self) -> str:
        return spelled(self) if self.eps == 1e-3 else spelled(self, eps=self.eps)


@final
class Huber(Distance):
    r"""Half the squared error near zero, linear beyond delta.

    .. math:: \frac{1}{CHW} \sum_i \begin{cases} d_i^2 / 2 & \lvert d_i \rvert \le \delta \\
        \delta (\lvert d_i \rvert - \delta / 2) & \text{else} \end{cases}, \quad d = x - y

    References:
        | Robust Estimation of a Location Parameter (Huber, 1964)

    Args:
        delta: Where it turns linear, in units of the image range.

    Raises:
        ValueError: delta is not positive.

    Example:
        >>> x, y = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
        >>> Huber(delta=0.1)(x, y)
        tensor(0.0450)
    """

    papers = ("huber1964",)

    tiling = "mean"

    def __init__(self, delta: float = 0.1) -> None:
        super().__init__()
        if not 0 < delta < float("inf"):
            raise ValueError(f"Huber wants delta > 0; got {delta!r}.")
        self.delta = delta

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance for each image, (N,)."""
        errors = torch.nn.functional.huber_loss(pred, target, reduction="none", delta=self.delta)
        return mean(errors, mask)

    def __repr__(self) -> str:
        return spelled(self) if self.delta == 0.1 else spelled(self, delta=self.delta)


@final
class SquaredNorm(Distance):
    r"""The sum of the squared errors: a plain squared norm, and of Gram matrices the squared Frobenius norm.

    .. math:: \lVert x - y \rVert_2^2 = \sum_i (x_i - y_i)^2

    It grows with the number of values, hence with the resolution; papers that print a bare squared norm mean it.

    Example:
        >>> x, y = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)
        >>> SquaredNorm()(x, y)
        tensor(1.)
    """

    tiling = "sum"
    mean_preserving = True

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance for each image, (N,)."""
        squares = (pred - target).square()
        return (squares if mask is None else masked(squares, mask)).sum(dim=inner(squares))

    def __repr__(self) -> str:
        return "SquaredNorm()"


def mean(errors: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of the errors of each image, (N,); under a mask, of those that it covers, and 0 if it covers none."""
    if mask is None:
        return errors.mean(dim=inner(errors))
    total = mask.sum(dim=(1, 2, 3)) * errors.shape[1]
    return masked(errors, mask).sum(dim=inner(errors)) / torch.where(total > 0, total, 1.0)


def inner(tensor: Tensor) -> tuple[int, ...]:
    """All dimensions but the first; flattening them would copy features that are stored channels last."""
    return tuple(range(1, tensor.dim()))


def masked(errors: Tensor, mask: Tensor) -> Tensor:
    """Errors times a mask (N, 1, H, W); nothing where it covers nothing, whatever is there."""
    return torch.where(mask > 0, errors * mask, 0.0)


class _Absolute(torch.autograd.Function):
    """The mean absolute difference, of which the backward pass needs but the signs: a byte a value."""

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor) -> Tensor:
        difference = pred - target
        value = difference.abs().mean(dim=inner(difference))
        ctx.save_for_backward(difference.sign().to(torch.int8), value)
        return value

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, Tensor | None]:
        signs, value = ctx.saved_tensors
        share = (arriving + (value - value)) / signs[0].numel()  # where the value is no number, nor is its gradient
        back = signs * share.view(-1, *(1,) * (signs.dim() - 1))
        return (back if ctx.needs_input_grad[0] else None), (-back if ctx.needs_input_grad[1] else None)


class _Squared(torch.autograd.Function):
    """The mean squared difference, in no more passes over memory than needed."""

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor) -> Tensor:
        difference = pred - target
        ctx.save_for_backward(pred, target, difference)
        length: Tensor = torch.linalg.vector_norm(difference, dim=inner(difference))
        return length.square() / difference[0].numel()

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, Tensor | None]:
        pred, target, difference = ctx.saved_tensors
        share = (2 / pred[0].numel()) * arriving
        if torch.is_grad_enabled():  # create_graph=True
            difference = pred - target
        back = difference * share.view(-1, *(1,) * (pred.dim() - 1))
        return (back if ctx.needs_input_grad[0] else None), (-back if ctx.needs_input_grad[1] else None)

"""The distances between the values of two maps (N, ...), and how much one map (N, H, W, C) varies."""

from keras import ops

from lossmith.formula.loss import Loss
from lossmith.keras.inputs import Tensor
from lossmith.losses import TV, Charbonnier, EdgeAwareTV, Huber, Lp

__all__ = ["charbonnier", "edge_aware_tv", "huber", "l1", "l2", "lp", "squared_norm", "tv"]


def l1(loss: Loss, pred: Tensor, target: Tensor) -> Tensor:
    """The mean absolute error of each image, (N,)."""
    return mean(absolute(pred - target))


def l2(loss: Loss, pred: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each image, (N,)."""
    return mean(ops.square(pred - target))


def lp(loss: Lp, pred: Tensor, target: Tensor) -> Tensor:
    """The mean of a power of the error of each image, (N,)."""
    return mean(ops.power(absolute(pred - target), loss.p))


def charbonnier(loss: Charbonnier, pred: Tensor, target: Tensor) -> Tensor:
    """The mean of the error, rounded at zero, of each image, (N,)."""
    return mean(ops.sqrt(ops.square(pred - target) + loss.eps**2))


def huber(loss: Huber, pred: Tensor, target: Tensor) -> Tensor:
    """The mean error of each image, half a square near zero, (N,)."""
    error = absolute(pred - target)
    return mean(ops.where(error <= loss.delta, ops.square(error) / 2, loss.delta * (error - loss.delta / 2)))


def squared_norm(loss: Loss, pred: Tensor, target: Tensor) -> Tensor:
    """The sum of the squared errors of each image, (N,)."""
    return total(ops.square(pred - target))


def tv(loss: TV, pred: Tensor) -> Tensor:
    """The variation of each image, (N,)."""
    down, right = differences(pred)
    reduce = total if loss.per == "image" else mean
    if loss.kind == "isotropic":
        squares = ops.square(down[:, :, :-1]) + ops.square(right[:, :-1])
        return reduce(squares if loss.squared else root(squares))
    if loss.squared:
        return reduce(ops.square(down)) + reduce(ops.square(right))
    return reduce(absolute(down)) + reduce(absolute(right))


def edge_aware_tv(loss: EdgeAwareTV, pred: Tensor, target: Tensor) -> Tensor:
    """The variation of each image away from the target's edges, (N,)."""
    down, right = (
        mean(absolute(varied) * ops.exp(-loss.k * ops.mean(ops.abs(edge), axis=-1, keepdims=True)))
        for varied, edge in zip(differences(pred), differences(target), strict=True)
    )
    return down + right


def absolute(error: Tensor) -> Tensor:
    """The absolute value, with gradient 0 at 0 on every backend; JAX's own has 1 there."""
    return error * ops.stop_gradient(ops.sign(error))


def mean(errors: Tensor) -> Tensor:
    """The mean of each image, (N,); 0 where a picture is one pixel wide and has nothing that way."""
    return total(errors) if 0 in errors.shape[1:] else ops.mean(errors, axis=tuple(range(1, len(errors.shape))))


def total(errors: Tensor) -> Tensor:
    """The sum of each image, (N,)."""
    return ops.sum(errors, axis=tuple(range(1, len(errors.shape))))


def differences(image: Tensor) -> tuple[Tensor, Tensor]:
    """What each pixel lacks to its neighbour below and to its right."""
    return image[:, 1:] - image[:, :-1], image[:, :, 1:] - image[:, :, :-1]


def root(squares: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0, where the root itself has none."""
    seen = squares != 0
    return ops.where(seen, ops.sqrt(ops.where(seen, squares, 1.0)), 0.0)

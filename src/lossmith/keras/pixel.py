"""Pixel distances of maps (N, ...), and total variation of maps (N, H, W, C), under Keras."""

from keras import ops

from lossmith import losses
from lossmith.keras.registry import Tensor, register_measure

__all__: list[str] = []


@register_measure(losses.L1)
def _l1(loss: losses.L1, pred: Tensor, target: Tensor) -> Tensor:
    return _mean(_absolute(pred - target))


@register_measure(losses.L2)
def _l2(loss: losses.L2, pred: Tensor, target: Tensor) -> Tensor:
    return _mean(ops.square(pred - target))


@register_measure(losses.Lp)
def _lp(loss: losses.Lp, pred: Tensor, target: Tensor) -> Tensor:
    return _mean(ops.power(_absolute(pred - target), loss.p))


@register_measure(losses.Charbonnier)
def _charbonnier(loss: losses.Charbonnier, pred: Tensor, target: Tensor) -> Tensor:
    squares = ops.square(pred - target)
    if loss.bands == "joint":
        squares = ops.mean(squares, axis=-1, keepdims=True)
    return _mean(ops.sqrt(squares + loss.eps**2))


@register_measure(losses.Huber)
def _huber(loss: losses.Huber, pred: Tensor, target: Tensor) -> Tensor:
    error = _absolute(pred - target)
    return _mean(ops.where(error <= loss.delta, ops.square(error) / 2, loss.delta * (error - loss.delta / 2)))


@register_measure(losses.SquaredNorm)
def _squared_norm(loss: losses.SquaredNorm, pred: Tensor, target: Tensor) -> Tensor:
    return _sum(ops.square(pred - target))


@register_measure(losses.TV)
def _tv(loss: losses.TV, pred: Tensor) -> Tensor:
    down, right = _differences(pred)
    reduce = _sum if loss.per == "image" else _mean
    if loss.kind == "isotropic":
        squares = ops.square(down[:, :, :-1]) + ops.square(right[:, :-1])
        return reduce(squares if loss.squared else _sqrt(_join_bands(loss, squares)))
    if loss.squared:
        return reduce(ops.square(down)) + reduce(ops.square(right))
    if loss.bands == "joint":
        return sum(reduce(_sqrt(_join_bands(loss, ops.square(each)))) for each in (down, right))
    return reduce(_absolute(down)) + reduce(_absolute(right))


def _join_bands(loss: losses.TV, squares: Tensor) -> Tensor:
    if loss.bands == "each":
        return squares
    return (ops.sum if loss.per == "image" else ops.mean)(squares, axis=-1, keepdims=True)


@register_measure(losses.SpectralAngle)
def _spectral_angle(loss: losses.SpectralAngle, pred: Tensor, target: Tensor) -> Tensor:
    loss.check_bands(pred.shape[-1])
    u, v = (_normalize(image) for image in (pred, target))
    difference, total = (_sqrt(ops.sum(ops.square(each), axis=-1, keepdims=True)) for each in (u - v, u + v))
    total = ops.where((difference == 0) & (total == 0), 1.0, total)
    return _mean(2 * ops.arctan2(difference, total))


@register_measure(losses.EdgeAwareTV)
def _edge_aware_tv(loss: losses.EdgeAwareTV, pred: Tensor, target: Tensor) -> Tensor:
    down, right = (
        _mean(_absolute(difference) * ops.exp(-loss.k * ops.mean(ops.abs(edge), axis=-1, keepdims=True)))
        for difference, edge in zip(_differences(pred), _differences(target), strict=True)
    )
    return down + right


def _absolute(error: Tensor) -> Tensor:
    """Compute the absolute value, with gradient 0 at 0 on every backend; JAX's own gradient at 0 is 1."""
    return error * ops.stop_gradient(ops.sign(error))


def _mean(errors: Tensor) -> Tensor:
    """Compute the mean of each image, (N,); 0 for an image that is one pixel wide and has no differences."""
    return _sum(errors) if 0 in errors.shape[1:] else ops.mean(errors, axis=tuple(range(1, len(errors.shape))))


def _sum(errors: Tensor) -> Tensor:
    """Compute the sum of each image, (N,)."""
    return ops.sum(errors, axis=tuple(range(1, len(errors.shape))))


def _differences(image: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the differences of each pixel to the pixel below and to the right."""
    return image[:, 1:] - image[:, :-1], image[:, :, 1:] - image[:, :, :-1]


def _normalize(spectra: Tensor) -> Tensor:
    """Return spectra of length 1; a spectrum of zeros stays 0."""
    squares = ops.sum(ops.square(spectra), axis=-1, keepdims=True)
    is_nonzero = squares != 0
    return spectra * ops.where(is_nonzero, ops.rsqrt(ops.where(is_nonzero, squares, 1.0)), 0.0)


def _sqrt(squares: Tensor) -> Tensor:
    """Compute the square root, with gradient 0 at 0."""
    is_positive = squares != 0
    return ops.where(is_positive, ops.sqrt(ops.where(is_positive, squares, 1.0)), 0.0)

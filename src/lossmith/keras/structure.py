"""Structural similarity of maps (N, H, W, C) under Keras, at one scale and at several."""

import torch
from keras import ops

from lossmith import losses
from lossmith._filters import gaussian_taps
from lossmith.keras.registry import Tensor, register_measure

__all__: list[str] = []


@register_measure(losses.SSIM)
def _ssim(loss: losses.SSIM, pred: Tensor, target: Tensor) -> Tensor:
    loss.check_size(*pred.shape[1:3])
    contrast, luminance = _similarity_maps(loss, pred, target)
    return 1 - ops.mean(contrast * luminance, axis=(1, 2, 3))


@register_measure(losses.MSSSIM)
def _ms_ssim(loss: losses.MSSSIM, pred: Tensor, target: Tensor) -> Tensor:
    if loss.odd_sides != "crop":
        raise ValueError(f'{loss!r} is not available under Keras, which has no padded pooling; use odd_sides="crop".')
    loss.check_size(*pred.shape[1:3])
    product = ops.ones_like(pred[:, 0, 0, :1] if loss.bands == "joint" else pred[:, 0, 0])
    for scale, exponent in enumerate(loss.scale_weights):
        contrast, luminance = _similarity_maps(loss, pred, target)
        is_last = scale == loss.scales - 1
        mean = ops.mean(contrast * luminance if is_last else contrast, axis=(1, 2))
        mean = ops.mean(mean, axis=1, keepdims=True) if loss.bands == "joint" else mean
        product = product * ops.power(ops.maximum(mean, 1e-4), exponent)
        if not is_last:
            pred, target = (ops.average_pool(x, 2, 2, "valid", data_format="channels_last") for x in (pred, target))
    return 1 - ops.mean(product, axis=1)


def _similarity_maps(loss: losses.SSIM | losses.MSSSIM, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the maps of SSIM's two factors: contrast and structure, and luminance."""
    # variances are invariant to a shift, and more accurate about the mean
    x_mean, y_mean = (ops.mean(ops.stop_gradient(image), axis=(1, 2), keepdims=True) for image in (pred, target))
    x, y = pred - x_mean, target - y_mean
    moments = _filter_gaussian(ops.concatenate([x, y, x * x, y * y, x * y], axis=-1), loss.window, loss.sigma)
    m_x, m_y, xx, yy, xy = ops.split(moments, 5, axis=-1)
    c1, c2 = loss.k1**2, loss.k2**2
    variances = (xx - ops.square(m_x)) + (yy - ops.square(m_y))
    contrast = (2 * (xy - m_x * m_y) + c2) / (ops.maximum(variances, 0.0) + c2)
    mu_x, mu_y = m_x + x_mean, m_y + y_mean
    luminance = (2 * mu_x * mu_y + c1) / (ops.square(mu_x) + ops.square(mu_y) + c1)
    return contrast, luminance


def _filter_gaussian(image: Tensor, window: int, sigma: float) -> Tensor:
    """Filter a map by a separable Gaussian window of sum 1, without padding."""
    taps = gaussian_taps(window, sigma, like=torch.zeros((), dtype=torch.float64, device="cpu")).numpy()
    row = taps[:, None].repeat(image.shape[-1], axis=1)
    for shape in ((1, window, -1, 1), (window, 1, -1, 1)):
        kernel = ops.convert_to_tensor(row.reshape(shape), dtype=image.dtype)
        image = ops.depthwise_conv(image, kernel, 1, "valid", data_format="channels_last")
    return image

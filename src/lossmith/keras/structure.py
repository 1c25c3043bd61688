"""Structural similarity of maps (N, H, W, C), at one scale and at several."""

import numpy as np
from keras import ops

from lossmith.keras.inputs import Tensor
from lossmith.losses import MSSSIM, SSIM

__all__ = ["ms_ssim", "ssim"]


def ssim(loss: SSIM, pred: Tensor, target: Tensor) -> Tensor:
    """One minus the similarity of each image, (N,)."""
    loss.refuse_small(*pred.shape[1:3])
    contrast, brightness = parts(loss, pred, target)
    return 1 - ops.mean(contrast * brightness, axis=(1, 2, 3))


def ms_ssim(loss: MSSSIM, pred: Tensor, target: Tensor) -> Tensor:
    """One minus the similarity of each image over the scales, (N,)."""
    loss.refuse_small(*pred.shape[1:3])
    product = ops.ones_like(pred[:, 0, 0])
    for scale, share in enumerate(loss.shares):
        contrast, brightness = parts(loss, pred, target)
        last = scale == loss.scales - 1
        mean = ops.mean(contrast * brightness if last else contrast, axis=(1, 2))
        product = product * ops.power(ops.maximum(mean, 1e-4), share)
        if not last:
            pred, target = (ops.average_pool(x, 2, 2, "valid", data_format="channels_last") for x in (pred, target))
    return 1 - ops.mean(product, axis=1)


def parts(loss: SSIM | MSSSIM, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of SSIM's two factors: contrast and structure, and brightness."""
    # variances do not change with a shift, and lose fewer digits about the mean
    mean_x, mean_y = (ops.mean(ops.stop_gradient(image), axis=(1, 2), keepdims=True) for image in (pred, target))
    x, y = pred - mean_x, target - mean_y
    moments = blurred(ops.concatenate([x, y, x * x, y * y, x * y], axis=-1), loss.window, loss.sigma)
    m_x, m_y, xx, yy, xy = ops.split(moments, 5, axis=-1)
    c1, c2 = loss.k1**2, loss.k2**2
    variances = (xx - ops.square(m_x)) + (yy - ops.square(m_y))
    contrast = (2 * (xy - m_x * m_y) + c2) / (ops.maximum(variances, 0.0) + c2)
    mu_x, mu_y = m_x + mean_x, m_y + mean_y
    brightness = (2 * mu_x * mu_y + c1) / (ops.square(mu_x) + ops.square(mu_y) + c1)
    return contrast, brightness


def blurred(image: Tensor, window: int, sigma: float) -> Tensor:
    """A map under a separable Gaussian window of sum 1, wherever the window fits."""
    place = np.arange(window) - (window - 1) / 2
    weights = np.exp(-(place**2) / (2 * sigma**2))
    row = np.broadcast_to((weights / weights.sum())[:, None], (window, image.shape[-1]))
    for shape in ((1, window, -1, 1), (window, 1, -1, 1)):
        kernel = ops.convert_to_tensor(row.reshape(shape), dtype=image.dtype)
        image = ops.depthwise_conv(image, kernel, 1, "valid", data_format="channels_last")
    return image

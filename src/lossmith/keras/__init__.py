"""The losses for Keras 3, on TensorFlow, JAX and PyTorch: the same names, arguments, texts and numbers.

    from lossmith.keras import L1, TV, parse, perceptual, style

    loss = L1() + 0.1 * perceptual("vgg19") + 0.05 * style("vgg19")    # or parse("L1 + 0.1*perceptual('vgg19') + ...")
    model.compile("adam", loss=loss, metrics=loss.metrics())           # every term is shown by its name
    model.fit(inputs, pictures)                                        # RGB in [0, 1], as keras.config lays them

Each is a `keras.losses.Loss` around the object that the PyTorch half has for the formula, so that a formula is read,
written, named and cited in one place; ``loss.formula`` is that object.
"""

from lossmith import losses
from lossmith.keras.loss import KerasLoss, TermMetric, parse, under_keras
from lossmith.lenses import VGG, AlexNet, Applications, Calibrated, Distilled, Embedded, Gram, SqueezeNet

__all__ = [
    "L1",
    "L2",
    "MSSSIM",
    "SSIM",
    "TV",
    "VGG",
    "AlexNet",
    "Applications",
    "Calibrated",
    "Charbonnier",
    "Distilled",
    "EdgeAwareTV",
    "Embedded",
    "Gram",
    "Huber",
    "InfoNCE",
    "KerasLoss",
    "Lp",
    "SquaredNorm",
    "SqueezeNet",
    "TermMetric",
    "distilled_lpips",
    "gatys",
    "johnson",
    "lpips",
    "ms_ssim_l1",
    "parse",
    "pconv",
    "perceptual",
    "style",
]

L1 = under_keras(losses.L1)
L2 = under_keras(losses.L2)
Lp = under_keras(losses.Lp)
Charbonnier = under_keras(losses.Charbonnier)
Huber = under_keras(losses.Huber)
SquaredNorm = under_keras(losses.SquaredNorm)
TV = under_keras(losses.TV)
EdgeAwareTV = under_keras(losses.EdgeAwareTV)
SSIM = under_keras(losses.SSIM)
MSSSIM = under_keras(losses.MSSSIM)
InfoNCE = under_keras(losses.InfoNCE)
perceptual = under_keras(losses.perceptual)
style = under_keras(losses.style)
lpips = under_keras(losses.lpips)
distilled_lpips = under_keras(losses.distilled_lpips)
ms_ssim_l1 = under_keras(losses.ms_ssim_l1)
gatys = under_keras(losses.gatys)
johnson = under_keras(losses.johnson)
pconv = under_keras(losses.pconv)

"""The losses for Keras 3, on TensorFlow, JAX and PyTorch: the same names, arguments, texts and values.

    from lossmith.keras import L1, TV, parse, perceptual, style

    loss = L1() + 0.002 * perceptual("vgg19") + 0.05 * style("vgg19")  # or parse("L1 + 0.002*perceptual('vgg19')")
    model.compile("adam", loss=loss, metrics=loss.metrics())           # shows every term by its name
    model.fit(inputs, images)                                          # RGB in [0, 1], in the data format of Keras

Each is a `keras.losses.Loss` around the loss of the PyTorch half, ``loss.formula``, which is parsed, printed, named and
cited in the same way. :func:`register_measure` and :func:`register_lens` add the losses and lenses of other packages.
"""

from lossmith import losses
from lossmith.keras.loss import KerasLoss, TermMetric, keras_constructor
from lossmith.keras.loss import parse_for_keras as parse
from lossmith.keras.registry import register_lens, register_measure
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
    "keras_constructor",
    "lpips",
    "ms_ssim_l1",
    "parse",
    "pconv",
    "perceptual",
    "register_lens",
    "register_measure",
    "style",
]

L1 = keras_constructor(losses.L1)
L2 = keras_constructor(losses.L2)
Lp = keras_constructor(losses.Lp)
Charbonnier = keras_constructor(losses.Charbonnier)
Huber = keras_constructor(losses.Huber)
SquaredNorm = keras_constructor(losses.SquaredNorm)
TV = keras_constructor(losses.TV)
EdgeAwareTV = keras_constructor(losses.EdgeAwareTV)
SSIM = keras_constructor(losses.SSIM)
MSSSIM = keras_constructor(losses.MSSSIM)
InfoNCE = keras_constructor(losses.InfoNCE)
perceptual = keras_constructor(losses.perceptual)
style = keras_constructor(losses.style)
lpips = keras_constructor(losses.lpips)
distilled_lpips = keras_constructor(losses.distilled_lpips)
ms_ssim_l1 = keras_constructor(losses.ms_ssim_l1)
gatys = keras_constructor(losses.gatys)
johnson = keras_constructor(losses.johnson)
pconv = keras_constructor(losses.pconv)

"""Losses for image networks, written as one formula.

A loss is a flat sum of terms, ``weight * distance @ lens`` on named inputs::

    from lossmith import L1, TV, Knob, parse, perceptual, style

    loss = L1() + 0.002 * perceptual("vgg19") + 0.05 * style("vgg19")
    loss(pred, target)                                # a scalar; pred and target are (N, 3, H, W), RGB in [0, 1]
    loss.evaluate({"pred": pred, "target": target})   # every term, unweighted, one value per image

The operators ``+``, ``*``, ``@`` and ``.on()`` keep this form, all terms on one network share one pass of this network,
and the `repr` of the sum is its text::

    parse("L1 + 0.002*perceptual")                      # names stand for their defaults
    L1() + Knob("lam") * perceptual()                 # a weight set at the call: loss(pred, target, lam=0.3)
    L1().on(pred="filled") + 1e-6 * TV()              # other inputs than pred and target

The most common names are here; all losses are in :mod:`lossmith.losses` and all lenses in :mod:`lossmith.lenses`. A new
distance defines one method, ``measure(pred, target) -> (N,)``, see CONTRIBUTING.md.
"""

from typing import TYPE_CHECKING

from lossmith._lazy import lazy_names

if TYPE_CHECKING:
    from lossmith.backbone import Backbone
    from lossmith.balance.calibrate import calibrate
    from lossmith.doctor.examine import check
    from lossmith.formula.distance import Distance
    from lossmith.formula.loss import Hybrid, Loss
    from lossmith.formula.no_data import mask_no_data, mask_terms
    from lossmith.formula.pinned import pinned
    from lossmith.formula.sampling import Every, Part, Window
    from lossmith.formula.schedule import OffAfter, OnFrom, Piecewise, Ramp
    from lossmith.formula.snr_gate import Gate
    from lossmith.formula.tiled import tiled
    from lossmith.formula.weight import GradientShare, Knob, Weight
    from lossmith.lens import Features, Lens
    from lossmith.lenses import VGG, Downsample, Gram, MissingWeightsError, WrongWeightsError
    from lossmith.losses import (
        L1,
        L2,
        MSSSIM,
        SSIM,
        TV,
        Adversarial,
        Charbonnier,
        External,
        Huber,
        InfoNCE,
        dists,
        lpips,
        perceptual,
        style,
    )
    from lossmith.monitor import LossMonitor
    from lossmith.parser import ExpressionError, load, parse, register, save, unregister

__version__ = "0.1.0"

__all__ = [
    "L1",
    "L2",
    "MSSSIM",
    "SSIM",
    "TV",
    "VGG",
    "Adversarial",
    "Backbone",
    "Charbonnier",
    "Distance",
    "Downsample",
    "Every",
    "ExpressionError",
    "External",
    "Features",
    "Gate",
    "GradientShare",
    "Gram",
    "Huber",
    "Hybrid",
    "InfoNCE",
    "Knob",
    "Lens",
    "Loss",
    "LossMonitor",
    "MissingWeightsError",
    "OffAfter",
    "OnFrom",
    "Part",
    "Piecewise",
    "Ramp",
    "Weight",
    "Window",
    "WrongWeightsError",
    "calibrate",
    "check",
    "dists",
    "load",
    "lpips",
    "mask_no_data",
    "mask_terms",
    "parse",
    "perceptual",
    "pinned",
    "register",
    "save",
    "style",
    "tiled",
    "unregister",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "backbone": "Backbone",
        "balance.calibrate": "calibrate",
        "doctor.examine": "check",
        "formula.distance": "Distance",
        "formula.loss": "Hybrid Loss",
        "formula.no_data": "mask_no_data mask_terms",
        "formula.pinned": "pinned",
        "formula.sampling": "Every Part Window",
        "formula.schedule": "OffAfter OnFrom Piecewise Ramp",
        "formula.snr_gate": "Gate",
        "formula.tiled": "tiled",
        "formula.weight": "GradientShare Knob Weight",
        "lens": "Features Lens",
        "lenses": "VGG Downsample Gram MissingWeightsError WrongWeightsError",
        "losses": "L1 L2 MSSSIM SSIM TV Adversarial Charbonnier External Huber InfoNCE dists lpips perceptual style",
        "monitor": "LossMonitor",
        "parser": "ExpressionError load parse register save unregister",
        "engine": "",
        "image": "",
        "noise_levels": "",
    },
)

"""The losses of KAIR, whose configurations are flat."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

from lossmith.formula.loss import Loss
from lossmith.importer.basicsr import Context, adversarial
from lossmith.importer.recipe import ImportedTerm, LeftOut, Section
from lossmith.lenses.vgg import VGG
from lossmith.losses.pixel import L1, L2, Charbonnier
from lossmith.losses.ssim import SSIM

__all__ = ["translate_kair"]


def translate_kair(train: Mapping[str, Any], context: Context) -> tuple[list[ImportedTerm], dict[str, str]]:
    """Return the losses of the section "train" as terms, and the reasons why others are left out."""
    terms: list[ImportedTerm] = []
    left_out: dict[str, str] = {}
    section = Section("train", train)
    parts = {"G_lossfn": _translate_pixel, "F_lossfn": _translate_features, "D_lossfn": _translate_gan}
    for name, translate in parts.items():
        if name != "G_lossfn" and f"{name}_weight" not in train:
            continue
        try:
            if section.number(f"{name}_weight", 1.0) == 0:
                continue
            loss, deviations = translate(section, context)
            terms.append(ImportedTerm(name, loss, tuple(deviations)))
        except (LeftOut, ValueError) as reason:  # a ValueError for an option that the loss here refuses
            left_out[name] = str(reason).splitlines()[0].rstrip(".")
    return terms, left_out


def _translate_pixel(section: Section, context: Context) -> tuple[Loss, list[str]]:
    kind, weight = section.text("G_lossfn_type", "l1"), section.number("G_lossfn_weight", 1.0)
    if kind == "l2sum":
        if not (context.batch and context.crop):
            raise LeftOut("its sum over the batch needs crop and batch, which the configuration does not have")
        count = context.batch * context.channels * context.crop**2
        return weight * count * L2(), [f"the sum over {context.batch} crops of {context.crop} px is in the weight"]
    if kind == "charbonnier":
        return weight * Charbonnier(sqrt(section.number("G_charbonnier_eps", 1e-9))), []
    if kind == "ssim":
        return weight * SSIM(), ["images are padded with zeros there, which affects their borders"]
    if kind not in ("l1", "l2"):
        raise LeftOut(f"G_lossfn_type {kind!r} is not known")
    return weight * (L1() if kind == "l1" else L2()), []


def _translate_features(section: Section, context: Context) -> tuple[Loss, list[str]]:
    """Translate features of VGG-19, whose layers are given by their index in torchvision's network."""
    kind, weight = section.text("F_lossfn_type", "l1"), section.number("F_lossfn_weight", 1.0)
    if kind not in ("l1", "l2"):
        raise LeftOut(f"F_lossfn_type {kind!r} is not known")
    if not section.flag("F_use_input_norm", True) or section.flag("F_use_range_norm", False):
        raise LeftOut("its images are not normalised as the network was trained")
    indices, weights = section.value("F_feature_layer", [2, 7, 16, 25, 34]), section.value("F_weights", 1.0)
    indices = indices if isinstance(indices, list) else [indices]
    weights = weights if isinstance(weights, list) else [weights] * len(indices)
    names = VGG("vgg19", "conv1_1").backbone.layers
    if len(weights) != len(indices) or not all(isinstance(i, int) and 0 <= i < len(names) for i in indices):
        raise LeftOut("F_feature_layer and F_weights must be indices of VGG-19 and as many weights")
    layers = {
        names[i]: Section("F_weights", {"weight": w}).number("weight", 1.0)
        for i, w in zip(indices, weights, strict=True)
    }
    layers = {name: value for name, value in layers.items() if value > 0}
    if not layers:
        raise LeftOut("all weights of its layers are 0")
    distance: Loss = L1() if kind == "l1" else L2()
    return weight * distance @ VGG("vgg19", layers), []


def _translate_gan(section: Section, context: Context) -> tuple[Loss, list[str]]:
    kinds = {"gan": "vanilla", "ragan": "vanilla", "lsgan": "lsgan", "wgan": "wgan", "softplusgan": "wgan_softplus"}
    if (kind := section.text("gan_type", "gan")) not in kinds:
        raise LeftOut(f"gan_type {kind!r} is not known")
    return adversarial(kinds[kind], section.number("D_lossfn_weight", 1.0), context)

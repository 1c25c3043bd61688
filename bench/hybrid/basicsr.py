"""BasicSR's perceptual loss, reimplemented from its definitions.

The parts that determine the cost are unchanged (basicsr/archs/vgg_arch.py at 2ca24be, losses/basic_loss.py at 5521283):
torchvision's network with its in-place ReLUs, truncated after the deepest layer; one pass of the prediction and one of
the detached target, for the perceptual and the style term together; a clone of every requested layer; Gram matrices
divided by c h w; means over all elements, summed over the layers with their weights.
"""

from collections import OrderedDict

import torch
from torch import nn

from hybrid.contender import Contender
from hybrid.networks import STD, build_torchvision_features, get_mean
from hybrid.workloads import CONTENT_LAYER, REAL_ESRGAN_LAYERS, SHARED_LAYERS, STYLE_LAYERS
from lossmith.lenses.vgg import build_vgg_steps


class VGGFeatureExtractor(nn.Module):
    """VGG-19 up to the deepest of the given layers."""

    def __init__(self, layers, weights):
        super().__init__()
        names = [step.name for step in build_vgg_steps("vgg19")]
        deepest = max(names.index(layer) for layer in layers)
        self.layers = list(layers)
        modules = build_torchvision_features("vgg19", weights)[: deepest + 1]
        self.vgg_net = nn.Sequential(OrderedDict(zip(names, modules, strict=False)))
        self.vgg_net.eval().requires_grad_(False)
        self.register_buffer("mean", get_mean("vgg19", weights))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, x):
        x = (x - self.mean) / self.std
        output = {}
        for name, layer in self.vgg_net._modules.items():
            x = layer(x)
            if name in self.layers:
                output[name] = x.clone()
        return output


class PerceptualLoss(nn.Module):
    """The perceptual and the style loss of some layers; a loss of weight 0 is None."""

    def __init__(self, layer_weights, weights, perceptual_weight=1.0, style_weight=0.0, criterion="l1"):
        super().__init__()
        self.vgg = VGGFeatureExtractor(layer_weights, weights)
        self.layer_weights = layer_weights
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        self.criterion = {"l1": nn.L1Loss, "l2": nn.MSELoss}[criterion]()

    def forward(self, x, gt):
        x_features, gt_features = self.vgg(x), self.vgg(gt.detach())
        perceptual = style = None
        if self.perceptual_weight > 0:
            perceptual = sum(self.criterion(x_features[k], gt_features[k]) * w for k, w in self.layer_weights.items())
            perceptual = perceptual * self.perceptual_weight
        if self.style_weight > 0:
            style = sum(
                self.criterion(gram(x_features[k]), gram(gt_features[k])) * w for k, w in self.layer_weights.items()
            )
            style = style * self.style_weight
        return perceptual, style


def gram(x):
    n, c, h, w = x.shape
    flat = x.view(n, c, h * w)
    return flat.bmm(flat.transpose(1, 2)) / (c * h * w)


def build_hybrid(workload, weights):
    import lpips

    perceptual_and_style = PerceptualLoss(dict.fromkeys(SHARED_LAYERS, 1.0), weights, style_weight=1.0)
    lpips_loss, l1 = lpips.LPIPS(net="vgg", verbose=False), nn.L1Loss()

    def compute_terms(inputs):
        pair = inputs["pred"], inputs["target"]
        return [l1(*pair), *perceptual_and_style(*pair), lpips_loss(*pair, normalize=True).mean()]

    reference = next(iter(workload.formulas.values()))
    return Contender("BasicSR + lpips", compute_terms, reference, [perceptual_and_style, lpips_loss])


def build_perceptual(workload, weights):
    perceptual = PerceptualLoss(REAL_ESRGAN_LAYERS, weights)
    return Contender(
        "BasicSR",
        lambda inputs: [perceptual(inputs["pred"], inputs["target"])[0]],
        workload.formulas[workload.recommended],
        [perceptual],
    )


def build_style(workload, weights):
    """Return two losses as one contender, since the class takes one target: a content and a style image."""
    content = PerceptualLoss({CONTENT_LAYER: 1.0}, weights, criterion="l2")
    style = PerceptualLoss(dict.fromkeys(STYLE_LAYERS, 1.0), weights, 0.0, 1.0, criterion="l2")

    def compute_terms(inputs):
        return [content(inputs["pred"], inputs["content"])[0], style(inputs["pred"], inputs["style"])[1]]

    return Contender("BasicSR", compute_terms, workload.formulas[workload.recommended], [content, style])


BUILDERS = {"hybrid": build_hybrid, "perceptual": build_perceptual, "style": build_style}

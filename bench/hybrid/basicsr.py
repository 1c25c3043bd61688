"""BasicSR's perceptual loss, written anew from its definitions.

What matters for the cost is as it is there (basicsr/archs/vgg_arch.py at 2ca24be, losses/basic_loss.py at 5521283):
torchvision's network with its in-place ReLUs, cut behind the deepest layer; one pass of the prediction and one of the
detached truth, for the perceptual and the style term together; a clone of every layer that is asked for; Gram matrices
divided by c h w; means over all elements, summed over the layers with their weights.
"""

from collections import OrderedDict

import torch
from torch import nn

from hybrid.contender import Contender
from hybrid.loads import CONTENT, REAL_ESRGAN, SHARED, STYLE
from hybrid.networks import STD, features, mean_of
from lossmith.lenses.vgg import build_vgg_steps


class VGGFeatureExtractor(nn.Module):
    """VGG-19 up to the deepest of some layers."""

    def __init__(self, layers, weights):
        super().__init__()
        names = [step.name for step in build_vgg_steps("vgg19")]
        deepest = max(names.index(layer) for layer in layers)
        self.layers = list(layers)
        self.vgg_net = nn.Sequential(OrderedDict(zip(names, features("vgg19", weights)[: deepest + 1], strict=False)))
        self.vgg_net.eval().requires_grad_(False)
        self.register_buffer("mean", mean_of("vgg19", weights))
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
    """The perceptual and the style loss of some layers; one whose weight is 0 is None."""

    def __init__(self, layer_weights, weights, perceptual_weight=1.0, style_weight=0.0, criterion="l1"):
        super().__init__()
        self.vgg = VGGFeatureExtractor(layer_weights, weights)
        self.layer_weights = layer_weights
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        self.criterion = {"l1": nn.L1Loss, "l2": nn.MSELoss}[criterion]()

    def forward(self, x, gt):
        shown, truth = self.vgg(x), self.vgg(gt.detach())
        content = texture = None
        if self.perceptual_weight > 0:
            content = sum(self.criterion(shown[k], truth[k]) * w for k, w in self.layer_weights.items())
            content = content * self.perceptual_weight
        if self.style_weight > 0:
            texture = sum(self.criterion(gram(shown[k]), gram(truth[k])) * w for k, w in self.layer_weights.items())
            texture = texture * self.style_weight
        return content, texture


def gram(x):
    n, c, h, w = x.shape
    flat = x.view(n, c, h * w)
    return flat.bmm(flat.transpose(1, 2)) / (c * h * w)


def hybrid(load, weights):
    import lpips

    both = PerceptualLoss(dict.fromkeys(SHARED, 1.0), weights, style_weight=1.0)
    learned, pixel = lpips.LPIPS(net="vgg", verbose=False), nn.L1Loss()

    def terms(views):
        pair = views["pred"], views["target"]
        return [pixel(*pair), *both(*pair), learned(*pair, normalize=True).mean()]

    return Contender("BasicSR + lpips", terms, next(iter(load.ours.values())), [both, learned])


def perceptual(load, weights):
    content = PerceptualLoss(REAL_ESRGAN, weights)
    return Contender(
        "BasicSR", lambda views: [content(views["pred"], views["target"])[0]], load.ours[load.best], [content]
    )


def style(load, weights):
    """A style and a content picture are two truths, hence two losses; the class knows one."""
    content = PerceptualLoss({CONTENT: 1.0}, weights, criterion="l2")
    texture = PerceptualLoss(dict.fromkeys(STYLE, 1.0), weights, 0.0, 1.0, criterion="l2")

    def terms(views):
        return [content(views["pred"], views["content"])[0], texture(views["pred"], views["style"])[1]]

    return Contender("BasicSR", terms, load.ours[load.best], [content, texture])


BUILDERS = {"hybrid": hybrid, "perceptual": perceptual, "style": style}

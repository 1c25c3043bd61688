"""piq: `ContentLoss`, `StyleLoss` and `LPIPS`, each with a network of its own.

On torchvision's networks, whose ReLUs work in place, a layer called conv3_3 is relu3_3; distances are summed over the
channels, Gram matrices are not divided (docs/parity.md).
"""

from torch import nn

from hybrid.contender import Contender
from hybrid.loads import CONTENT, REAL_ESRGAN, SHARED, STYLE
from hybrid.networks import mean_of
from lossmith import L1, lpips
from lossmith import perceptual as features
from lossmith import style as texture

NAME = "piq"
CHANNELS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}


def hybrid(load, weights):
    import piq

    mean = mean_list(weights)
    one = piq.ContentLoss("vgg19", layers=SHARED, weights=[1.0, 1.0], mean=mean)
    two = piq.StyleLoss("vgg19", layers=SHARED, weights=[1.0, 1.0], mean=mean)
    three, pixel = piq.LPIPS(), nn.L1Loss()

    def terms(views):
        return [loss(views["pred"], views["target"]) for loss in (pixel, one, two, three)]

    after = summed(dict.fromkeys(SHARED, 1.0))
    means = L1() + features("vgg19", after, "l2", weights=weights)
    means = means + texture("vgg19", list(after), "none", weights=weights) + lpips("vgg", weights=weights)
    return Contender(NAME, terms, means, [one.model, two.model, three.model])


def perceptual(load, weights):
    import piq

    layers, shares = list(REAL_ESRGAN), list(REAL_ESRGAN.values())
    one = piq.ContentLoss("vgg19", layers, shares, distance="mae", mean=mean_list(weights))
    means = features("vgg19", summed(REAL_ESRGAN), weights=weights)
    return Contender(NAME, lambda views: [one(views["pred"], views["target"])], means, [one.model])


def style(load, weights):
    import piq

    mean = mean_list(weights)
    one = piq.ContentLoss("vgg19", layers=[CONTENT], weights=[1.0], mean=mean)
    two = piq.StyleLoss("vgg19", layers=STYLE, weights=[1.0] * len(STYLE), mean=mean)

    def terms(views):
        return [one(views["pred"], views["content"]), two(views["pred"], views["style"])]

    content = features("vgg19", summed({CONTENT: 1.0}), "l2", weights=weights).on(target="content")
    means = content + texture("vgg19", STYLE, "none", weights=weights).on(target="style")
    return Contender(NAME, terms, means, [one.model, two.model])


def lpips_alone(load, weights):
    import piq

    one = piq.LPIPS()
    return Contender(NAME, lambda views: [one(views["pred"], views["target"])], load.ours[load.best], [one.model])


def summed(layers):
    """The layers that piq looks at, with weights that make up for its sum over channels."""
    return {name.replace("conv", "relu"): CHANNELS[name[4]] * weight for name, weight in layers.items()}


def mean_list(weights):
    return mean_of("vgg19", weights).flatten().tolist()


BUILDERS = {"hybrid": hybrid, "perceptual": perceptual, "style": style, "lpips": lpips_alone}

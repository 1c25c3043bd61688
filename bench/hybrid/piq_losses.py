"""piq: `ContentLoss`, `StyleLoss` and `LPIPS`, each with its own network.

In torchvision's networks, whose ReLUs work in place, a layer called conv3_3 is relu3_3; distances are summed over the
channels, and Gram matrices are not divided (docs/parity.md).
"""

from torch import nn

from hybrid.contender import Contender
from hybrid.networks import get_mean
from hybrid.workloads import CONTENT_LAYER, REAL_ESRGAN_LAYERS, SHARED_LAYERS, STYLE_LAYERS
from lossmith import L1, lpips, perceptual, style

NAME = "piq"
CHANNELS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
"""The channels of VGG's layers by block."""


def build_hybrid(workload, weights):
    import piq

    mean = get_mean_list(weights)
    content_loss = piq.ContentLoss("vgg19", layers=SHARED_LAYERS, weights=[1.0, 1.0], mean=mean)
    style_loss = piq.StyleLoss("vgg19", layers=SHARED_LAYERS, weights=[1.0, 1.0], mean=mean)
    lpips_loss, l1 = piq.LPIPS(), nn.L1Loss()

    def compute_terms(inputs):
        losses = (l1, content_loss, style_loss, lpips_loss)
        return [loss(inputs["pred"], inputs["target"]) for loss in losses]

    layers = layers_summed_over_channels(dict.fromkeys(SHARED_LAYERS, 1.0))
    reference = L1() + perceptual("vgg19", layers, "l2", weights=weights)
    reference = reference + style("vgg19", list(layers), "none", weights=weights) + lpips("vgg", weights=weights)
    return Contender(NAME, compute_terms, reference, [content_loss.model, style_loss.model, lpips_loss.model])


def build_perceptual(workload, weights):
    import piq

    layers, layer_weights = list(REAL_ESRGAN_LAYERS), list(REAL_ESRGAN_LAYERS.values())
    loss = piq.ContentLoss("vgg19", layers, layer_weights, distance="mae", mean=get_mean_list(weights))
    reference = perceptual("vgg19", layers_summed_over_channels(REAL_ESRGAN_LAYERS), weights=weights)
    return Contender(NAME, lambda inputs: [loss(inputs["pred"], inputs["target"])], reference, [loss.model])


def build_style(workload, weights):
    import piq

    mean = get_mean_list(weights)
    content_loss = piq.ContentLoss("vgg19", layers=[CONTENT_LAYER], weights=[1.0], mean=mean)
    style_loss = piq.StyleLoss("vgg19", layers=STYLE_LAYERS, weights=[1.0] * len(STYLE_LAYERS), mean=mean)

    def compute_terms(inputs):
        return [content_loss(inputs["pred"], inputs["content"]), style_loss(inputs["pred"], inputs["style"])]

    layers = layers_summed_over_channels({CONTENT_LAYER: 1.0})
    content = perceptual("vgg19", layers, "l2", weights=weights).on(target="content")
    reference = content + style("vgg19", STYLE_LAYERS, "none", weights=weights).on(target="style")
    return Contender(NAME, compute_terms, reference, [content_loss.model, style_loss.model])


def build_lpips(workload, weights):
    import piq

    loss = piq.LPIPS()
    reference = workload.formulas[workload.recommended]
    return Contender(NAME, lambda inputs: [loss(inputs["pred"], inputs["target"])], reference, [loss.model])


def layers_summed_over_channels(layers):
    """Return piq's layers with weights times the number of channels, since piq sums over channels."""
    return {name.replace("conv", "relu"): CHANNELS[name[4]] * weight for name, weight in layers.items()}


def get_mean_list(weights):
    return get_mean("vgg19", weights).flatten().tolist()


BUILDERS = {"hybrid": build_hybrid, "perceptual": build_perceptual, "style": build_style, "lpips": build_lpips}

"""Perceptual and style: parity with piq on the same network."""

from collections import OrderedDict

import piq
import pytest
import torch
from torch import nn

from lossmith import L1, L2, VGG, Gram, lpips, ms_ssim_l1, perceptual, style
from lossmith.data import downsample
from lossmith.engine.layers import Conv, MaxPool
from lossmith.lenses.vgg import shared

SEVERAL = ["relu1_2", "conv3_3", "pool4"]


@pytest.fixture(scope="module")
def weights(weight_file) -> dict[str, str]:
    return {name: str(weight_file(shared(name, None))) for name in ("vgg16", "vgg19")}


@pytest.fixture(scope="module")
def modules(weights):
    """The same networks as plain modules with our layers' names, for piq."""

    def build(name: str, inplace: bool = False) -> nn.Sequential:
        from safetensors.torch import load_file

        state, parts = load_file(weights[name]), OrderedDict()
        for i, step in enumerate(shared(name, None).plan):
            if isinstance(step, Conv):
                parts[step.name] = nn.Conv2d(step.weight.shape[1], step.weight.shape[0], 3, padding=1)
                parts[step.name].load_state_dict({k: state[f"features.{i}.{k}"] for k in ("weight", "bias")})
            else:
                parts[step.name] = nn.MaxPool2d(2, 2) if isinstance(step, MaxPool) else nn.ReLU(inplace=inplace)
        return nn.Sequential(parts)

    return build


def channels(name: str, layers: list[str]) -> dict[str, float]:
    """piq sums over channels where we average: the weight of each layer that makes up for it."""
    maps = VGG(name, layers, weights="random")({"pixels": torch.rand(1, 3, 16, 16)})
    return {layer: float(features.shape[1]) for layer, features in maps.items()}


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
@pytest.mark.parametrize(("ours", "piqs"), [("l1", "mae"), ("l2", "mse")])
def test_perceptual_agrees_with_piqs_content_loss(name, ours, piqs, weights, modules, image_pair, assert_parity):
    theirs = piq.ContentLoss(modules(name), SEVERAL, [1.0] * 3, distance=piqs)
    assert_parity(
        perceptual(name, channels(name, SEVERAL), ours, weights=weights[name]), theirs, *image_pair(dtype=torch.float64)
    )


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_style_agrees_with_piqs_style_loss(name, weights, modules, image_pair, assert_parity):
    theirs = piq.StyleLoss(modules(name), SEVERAL, [1.0] * 3)
    assert_parity(style(name, SEVERAL, "none", weights=weights[name]), theirs, *image_pair(dtype=torch.float64))


def test_what_piq_calls_conv3_3_on_torchvisions_network_is_relu3_3(weights, modules, image_pair):
    theirs = piq.ContentLoss(modules("vgg16", inplace=True), ["conv3_3"])(*image_pair())
    after = perceptual("vgg16", {"relu3_3": 256}, "l2", weights=weights["vgg16"])(*image_pair())
    before = perceptual("vgg16", {"conv3_3": 256}, "l2", weights=weights["vgg16"])(*image_pair())
    torch.testing.assert_close(after, theirs, rtol=1e-5, atol=0)
    assert before > 1.5 * theirs


def test_the_norm_of_perceptual_is_the_sum_that_l2_averages(image_pair):
    pred, target = image_pair()
    mean, total = (perceptual("vgg16", "relu2_2", d, weights="random")(pred, target) for d in ("l2", "norm"))
    torch.testing.assert_close(total, mean * 128 * 16 * 16)


def test_several_networks_are_a_sum(image_pair):
    pred, target = image_pair()
    parts = [perceptual("vgg16", "relu1_2", weights="random"), perceptual("alexnet", "relu2", weights="random")]
    torch.testing.assert_close(sum(parts)(pred, target), parts[0](pred, target) + parts[1](pred, target))
    assert sum(parts).names == ("perceptual.vgg16", "perceptual.alexnet")


def test_the_mix_carries_its_papers_weights():
    assert repr(ms_ssim_l1()) == "0.84 * MSSSIM() + 0.16 * L1()"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: perceptual("vgg91"),
            'perceptual knows which layers to take of "embedded", "squeezenet", "vgg16", "vgg19", "alexnet"',
        ),
        (lambda: style("resnet18"), r"style\('resnet50', 'layer3'\). Got 'resnet18' alone"),
        (lambda: perceptual(distance="l3"), 'perceptual knows distance="l1", "l2", "norm"; got \'l3\'.'),
        (lambda: perceptual("vgg19", []), "layers of vgg19 must not be empty; name one, such as 'pool5'."),
        (lambda: perceptual("vgg19", {}), "layers of vgg19 must not be empty"),
        (lambda: perceptual("vgg19", "conv3_5"), "vgg19 has no layer 'conv3_5'"),
        (lambda: perceptual("vgg19", {"conv3_4": 0}), "weight of vgg19 layer 'conv3_4' must be positive; got 0."),
        (lambda: style("vgg19", norm="wh"), 'Gram knows the norms "chw", "hw", "none"; got \'wh\'.'),
        (lambda: lpips("squeeze"), 'lpips knows net="alex", "vgg"; got \'squeeze\'.'),
    ],
)
def test_a_bad_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_style_is_l2_of_gram(image_pair, assert_parity):
    assert_parity(
        style("vgg16", "relu2_2", weights="random"),
        L2() @ Gram() @ VGG("vgg16", "relu2_2", weights="random"),
        *image_pair(),
    )


def test_layer_weights_are_the_lambdas_of_the_sum(image_pair):
    pred, target = image_pair()
    both = perceptual("vgg16", {"relu1_2": 0.5, "conv2_1": 3}, weights="random")(pred, target)
    one, two = (L1() @ VGG("vgg16", layer, weights="random") for layer in ("relu1_2", "conv2_1"))
    torch.testing.assert_close(both, 0.5 * one(pred, target) + 3 * two(pred, target))


def test_perceptual_takes_any_network_by_its_librarys_name():
    pytest.importorskip("torchvision")
    loss = perceptual("resnet18", "layer1", "l2", weights="random")
    assert repr(loss) == 'L2() @ Torchvision("resnet18", "layer1", weights="random")'
    assert loss(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)) > 0


def test_the_default_network_is_the_one_in_the_package():
    assert repr(perceptual()) == repr(perceptual("embedded"))
    assert repr(style()) == repr(style("embedded"))


def test_a_weight_means_about_the_same_with_the_default_as_with_vgg16(assets, monkeypatch):
    data = pytest.importorskip("skimage.data")
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    shared.cache_clear()
    clean = torch.from_numpy(data.chelsea()[40:200, 100:260].copy()).permute(2, 0, 1)[None] / 255
    pulls = []
    for loss in (perceptual(), perceptual("vgg16")):
        pred = downsample(clean, 2).repeat_interleave(2, 2).repeat_interleave(2, 3).requires_grad_()
        pulls.append(torch.autograd.grad(loss(pred, clean), pred)[0].norm())
    shared.cache_clear()
    assert 0.5 < pulls[0] / pulls[1] < 2

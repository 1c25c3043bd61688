"""Perceptual and style losses: parity with piq on the same network."""

from collections import OrderedDict

import piq
import pytest
import torch
from torch import nn

from lossmith import L1, L2, VGG, Gram, lpips, perceptual, style
from lossmith.backbone import clear_backbones, get_backbone
from lossmith.data import downsample
from lossmith.engine.layers import Conv, MaxPool
from lossmith.lenses.vgg import VGGNetwork
from lossmith.losses import ms_ssim_l1

SEVERAL = ["relu1_2", "conv3_3", "pool4"]


@pytest.fixture(scope="module")
def weights(weight_file) -> dict[str, str]:
    return {name: str(weight_file(get_backbone(VGGNetwork, name, None))) for name in ("vgg16", "vgg19")}


@pytest.fixture(scope="module")
def modules(weights):
    """Return a function that builds the networks as plain modules with lossmith's layer names, for piq."""

    def build(name: str, inplace: bool = False) -> nn.Sequential:
        from safetensors.torch import load_file

        state, parts = load_file(weights[name]), OrderedDict()
        for i, step in enumerate(get_backbone(VGGNetwork, name, None).architecture):
            if isinstance(step, Conv):
                parts[step.name] = nn.Conv2d(step.weight.shape[1], step.weight.shape[0], 3, padding=1)
                parts[step.name].load_state_dict({k: state[f"features.{i}.{k}"] for k in ("weight", "bias")})
            else:
                parts[step.name] = nn.MaxPool2d(2, 2) if isinstance(step, MaxPool) else nn.ReLU(inplace=inplace)
        return nn.Sequential(parts)

    return build


def count_channels(name: str, layers: list[str]) -> dict[str, float]:
    """Return the number of channels of each layer, since piq sums over channels where lossmith averages."""
    maps = VGG(name, layers, weights="random")({"pixels": torch.rand(1, 3, 16, 16)})
    return {layer: float(features.shape[1]) for layer, features in maps.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
@pytest.mark.parametrize(("ours", "piqs"), [("l1", "mae"), ("l2", "mse")])
def test_perceptual_agrees_with_piqs_content_loss(name, ours, piqs, weights, modules, image_pair, assert_parity):
    theirs = piq.ContentLoss(modules(name), SEVERAL, [1.0] * 3, distance=piqs)
    assert_parity(
        perceptual(name, count_channels(name, SEVERAL), ours, weights=weights[name]),
        theirs,
        *image_pair(dtype=torch.float64),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_style_agrees_with_piqs_style_loss(name, weights, modules, image_pair, assert_parity):
    theirs = piq.StyleLoss(modules(name), SEVERAL, [1.0] * 3)
    assert_parity(style(name, SEVERAL, "none", weights=weights[name]), theirs, *image_pair(dtype=torch.float64))


def test_piqs_conv3_3_of_torchvisions_network_is_relu3_3(weights, modules, image_pair):
    theirs = piq.ContentLoss(modules("vgg16", inplace=True), ["conv3_3"])(*image_pair())
    after = perceptual("vgg16", {"relu3_3": 256}, "l2", weights=weights["vgg16"])(*image_pair())
    before = perceptual("vgg16", {"conv3_3": 256}, "l2", weights=weights["vgg16"])(*image_pair())
    torch.testing.assert_close(after, theirs, rtol=1e-5, atol=0)
    assert before > 1.5 * theirs


def test_the_norm_distance_is_the_sum_of_the_l2_distance(image_pair):
    pred, target = image_pair()
    mean, total = (perceptual("vgg16", "relu2_2", d, weights="random")(pred, target) for d in ("l2", "norm"))
    torch.testing.assert_close(total, mean * 128 * 16 * 16)


def test_several_networks_are_a_sum(image_pair):
    pred, target = image_pair()
    parts = [perceptual("vgg16", "relu1_2", weights="random"), perceptual("alexnet", "relu2", weights="random")]
    torch.testing.assert_close(sum(parts)(pred, target), parts[0](pred, target) + parts[1](pred, target))
    assert sum(parts).names == ("perceptual.vgg16", "perceptual.alexnet")


def test_ms_ssim_l1_has_the_papers_weights():
    assert repr(ms_ssim_l1()) == "0.84 * MSSSIM() + 0.16 * L1()"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: perceptual("vgg91"),
            "perceptual has default layers for 'embedded', 'squeezenet', 'vgg16', 'vgg19', 'alexnet'",
        ),
        (lambda: style("resnet18"), r"style\('resnet50', 'layer3'\). Got 'resnet18' without layers"),
        (lambda: perceptual(distance="l3"), "perceptual distance must be one of 'l1', 'l2', 'norm'; got 'l3'."),
        (lambda: perceptual("vgg19", []), "layers of vgg19 must not be empty; name one, such as 'pool5'."),
        (lambda: perceptual("vgg19", {}), "layers of vgg19 must not be empty"),
        (lambda: perceptual("vgg19", "conv3_5"), "vgg19 has no layer 'conv3_5'"),
        (lambda: perceptual("vgg19", {"conv3_4": 0}), "weight of vgg19 layer 'conv3_4' must be positive; got 0."),
        (lambda: style("vgg19", norm="wh"), "style norm must be one of 'chw', 'hw', 'none'; got 'wh'."),
        (lambda: lpips("squeeze"), "lpips net must be one of 'alex', 'vgg'; got 'squeeze'."),
    ],
)
def test_an_invalid_argument_raises(make, message):
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


def test_perceptual_accepts_any_network_by_its_name_in_a_library():
    pytest.importorskip("torchvision")
    loss = perceptual("resnet18", "layer1", "l2", weights="random")
    assert repr(loss) == 'L2() @ Torchvision("resnet18", "layer1", weights="random")'
    assert loss(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)) > 0


def test_the_default_network_is_part_of_the_package():
    assert repr(perceptual()) == repr(perceptual("embedded"))
    assert repr(style()) == repr(style("embedded"))


def test_the_gradient_norm_of_the_default_network_is_similar_to_vgg16s(assets, monkeypatch):
    data = pytest.importorskip("skimage.data")
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    clear_backbones()
    clean = torch.from_numpy(data.chelsea()[40:200, 100:260].copy()).permute(2, 0, 1)[None] / 255
    norms = []
    for loss in (perceptual(), perceptual("vgg16")):
        pred = downsample(clean, 2).repeat_interleave(2, 2).repeat_interleave(2, 3).requires_grad_()
        norms.append(torch.autograd.grad(loss(pred, clean), pred)[0].norm())
    clear_backbones()
    assert 0.5 < norms[0] / norms[1] < 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: perceptual(None), "perceptual net must be the name of a network, such as 'embedded', or .*; got None"),
        (
            lambda: perceptual(nn.ReLU()),
            r"perceptual on a module of your own has no default layers; name them\. Got a ReLU",
        ),
        (
            lambda: perceptual(nn.ReLU(), "relu"),
            r"ModuleFeatures needs a module with submodules, its layers; got ReLU\(\)",
        ),
        (lambda: perceptual(["vgg16"]), r"perceptual net must be the name .*; got \['vgg16'\]"),
        (lambda: style(3, "relu1_1"), "style net must be the name of a network, .*; got 3"),
        (lambda: lpips(nn.ReLU()), r"lpips net must be one of 'alex', 'vgg'; got ReLU\(\)"),
        (lambda: perceptual("vgg16", 3), "layers of vgg16 must be a name, a list of names, .*; got 3"),
        (lambda: VGG("vgg16", [3]), r"layers of vgg16 must be .*; got \[3\]"),
        (lambda: VGG("vgg16", nn.ReLU()), r"layers of vgg16 must be .*; got ReLU\(\)"),
        (lambda: perceptual("vgg16", weights=3), "vgg16 weights must be a path as text, or None; got 3"),
        (lambda: perceptual("vgg16", "relu1_1", "relu2_1"), r"go in a list: layers=\['relu1_1', 'relu2_1'\]"),
    ],
)
def test_an_argument_of_another_type_raises_a_value_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()

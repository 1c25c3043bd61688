"""VGG: every layer equals torchvision's, and the file of Oxford gives the features of Oxford."""

import pytest
import torch
from safetensors.torch import load_file

from lossmith import L1, VGG, WrongWeightsError
from lossmith.backbone import clear_backbones, get_backbone
from lossmith.engine.layers import Conv
from lossmith.lenses.sequential_network import CAFFE_MEAN, CAFFE_UNIT, MEAN, STD
from lossmith.lenses.vgg import VGGNetwork

NAMES = ["vgg16", "vgg19"]


def as_channels(values):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_equals_torchvision(name, weight_file, image_pair):
    models = pytest.importorskip("torchvision.models")
    path = weight_file(get_backbone(VGGNetwork, name, None))
    cfg = {"vgg16": "D", "vgg19": "E"}[name]
    reference = models.vgg.make_layers(models.vgg.cfgs[cfg])
    reference.load_state_dict({k.removeprefix("features."): v for k, v in load_file(path).items()})
    reference.double()
    layers = get_backbone(VGGNetwork, name, None).layers
    x = image_pair(n=1, dtype=torch.float64)[0]
    ours = VGG(name, layers, weights=str(path))({"pixels": x})
    x_reference = (x - as_channels(MEAN)) / as_channels(STD)
    for layer, module in zip(layers, reference, strict=True):
        x_reference = module(x_reference.clone())  # its ReLUs are in place
        torch.testing.assert_close(ours[layer], x_reference, rtol=1e-6, atol=1e-6, msg=layer)


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_the_names_of_the_paper(name):
    layers = get_backbone(VGGNetwork, name, None).layers
    convs = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}[name]
    for stage, count in enumerate(convs, start=1):
        assert f"conv{stage}_{count}" in layers
        assert f"conv{stage}_{count + 1}" not in layers
    assert sum(layer.startswith("conv") for layer in layers) == int(name[3:]) - 3


def test_a_convolution_is_before_its_relu(image_pair):
    maps = VGG("vgg16", ["conv3_3", "relu3_3"], weights="random")({"pixels": image_pair()[0]})
    assert (maps["conv3_3"] < 0).any()
    assert torch.equal(maps["conv3_3"].relu(), maps["relu3_3"])


def test_requesting_more_layers_changes_no_features(image_pair):
    x = image_pair()[0]
    single = VGG("vgg19", "conv3_1", weights="random")({"pixels": x})
    more = VGG("vgg19", ["conv1_1", "conv3_1", "relu4_4"], weights="random")({"pixels": x})
    torch.testing.assert_close(single["conv3_1"], more["conv3_1"])


@pytest.mark.parametrize("layer", ["relu1_1", "pool1", "conv3_3", "relu4_1", "pool5"])
def test_the_minimum_size_is_the_smallest_that_works(layer):
    side = get_backbone(VGGNetwork, "vgg16", "random").min_size([layer])
    lens = VGG("vgg16", layer, weights="random")
    assert min(lens({"pixels": torch.rand(1, 3, side, side)})[layer].shape[2:]) == 1 or side == 1
    if side > 1:
        with pytest.raises(ValueError, match=f"vgg16 needs images of at least {side} px a side for the layer"):
            lens({"pixels": torch.rand(1, 3, side - 1, 40)})


def test_random_weights_are_reproducible(image_pair):
    x = image_pair()[0]
    clear_backbones()
    first = VGG("vgg16", "relu2_2", weights="random")({"pixels": x})
    clear_backbones()
    torch.manual_seed(1)
    assert torch.equal(VGG("vgg16", "relu2_2", weights="random")({"pixels": x})["relu2_2"], first["relu2_2"])


def test_the_file_of_another_network_raises(weight_file):
    lens = VGG("vgg19", "relu1_1", weights=str(weight_file(get_backbone(VGGNetwork, "vgg16", None))))
    with pytest.raises(WrongWeightsError, match="belongs to another network"):
        lens({"pixels": torch.rand(1, 3, 8, 8)})


def test_an_unknown_network_raises():
    with pytest.raises(ValueError, match="VGG name must be one of 'vgg16', 'vgg19'; got 'vgg11'"):
        VGG("vgg11", "relu1_1")


def test_the_file_of_oxford_gives_its_features_divided_by_the_caffe_unit(assets, monkeypatch, image_pair):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    file = assets / "weights" / "vgg19_caffe_features_u8.safetensors"
    layers = ["conv1_1", "relu2_2", "conv3_4", "pool3", "conv5_4"]
    x = image_pair(n=1, dtype=torch.float64)[0]
    ours = VGG("vgg19", layers, weights=str(file))({"pixels": x})
    raw = load_file(file)
    x_reference = (255 * (x - as_channels(CAFFE_MEAN))).flip(1)  # BGR, 0..255
    for index, step in enumerate(get_backbone(VGGNetwork, "vgg19", None).architecture):
        if isinstance(step, Conv):
            kernel = raw[f"{index}.weight"] if f"{index}.weight" in raw else raw[f"features.{index}.weight"]
            prefix = "" if f"{index}.weight" in raw else "features."
            if kernel.dtype == torch.uint8:
                scale, low = raw[f"{prefix}{index}.weight.scale"].tolist()
                kernel = kernel.float() * scale + low
            bias = raw[f"{prefix}{index}.bias"]
            x_reference = torch.conv2d(x_reference, kernel.double(), bias.double(), padding=1)
        else:
            x_reference = x_reference.relu() if step.name.startswith("relu") else torch.max_pool2d(x_reference, 2)
        if step.name in layers:
            torch.testing.assert_close(CAFFE_UNIT * ours[step.name], x_reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_trained_weights_are_loaded_from_the_folder(name, assets, monkeypatch, image_pair):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    clear_backbones()
    assert (L1() @ VGG(name, "conv5_3"))(*image_pair()) > 0
    clear_backbones()

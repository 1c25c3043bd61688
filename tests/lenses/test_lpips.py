"""LPIPS: parity with the authors' package on the same network, and their published numbers."""

import csv
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lossmith import L2, VGG, lpips
from lossmith.backbone import get_backbone
from lossmith.lenses import AlexNet, Calibrated, alexnet, vgg

PUBLISHED = {"p0": 0.722, "p1": 0.138}

pytestmark = pytest.mark.usefixtures("isolated_weights")


@pytest.fixture
def build_reference(monkeypatch):
    """Return a function from a network's name and file to the authors' network."""
    package = pytest.importorskip("lpips")
    from torchvision import models

    def build(net: str, file) -> torch.nn.Module:
        features = models.AlexNet().features if net == "alex" else models.vgg.make_layers(models.vgg.cfgs["D"])
        features.load_state_dict({key.removeprefix("features."): value for key, value in load_file(file).items()})
        builder = {"alex": "alexnet", "vgg": "vgg16"}[net]
        network = SimpleNamespace(features=features)  # all that they use of torchvision's model
        monkeypatch.setattr(package.pretrained_networks.tv, builder, lambda pretrained: network)
        return package.LPIPS(net=net, pnet_rand=True, verbose=False).double()

    return build


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_parity_with_the_authors_package_on_random_weights(
    net, weight_file, build_reference, image_pair, assert_parity
):
    kind, name = (alexnet.AlexNetNetwork, "alexnet") if net == "alex" else (vgg.VGGNetwork, "vgg16")
    file = weight_file(get_backbone(kind, name, None))
    reference = build_reference(net, file)
    pred, target = image_pair(side=64, dtype=torch.float64)
    assert_parity(lpips(net, weights=str(file)), lambda x, y: reference(x, y, normalize=True).mean(), pred, target)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_parity_with_the_authors_package_on_trained_weights(net, assets, build_reference, image_pair, assert_parity):
    name = {"alex": "alexnet", "vgg": "vgg16"}[net]
    reference = build_reference(net, assets / "weights" / f"{name}_torchvision_features.safetensors")
    pred, target = image_pair(side=64, dtype=torch.float64)
    assert_parity(lpips(net), lambda x, y: reference(x, y, normalize=True).mean(), pred, target)


def load_image(path) -> torch.Tensor:
    import numpy as np
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_authors_example_has_its_published_distance(name, assets):
    folder = assets / "images" / "iqa"
    value = lpips()(load_image(folder / f"lpips_ex_{name}.png"), load_image(folder / "lpips_ex_ref.png"))
    assert value.item() == pytest.approx(PUBLISHED[name], abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["I03", "I04", "I06", "I08", "I19"])
def test_images_of_tid2013_have_their_published_distances(name, assets):
    folder = assets / "images" / "iqa"
    with (folder / "official_scores.csv").open() as file:
        expected = next(float(row[f"{name}.bmp"]) for row in csv.DictReader(file) if row["Method"] == "lpips")
    value = lpips()(load_image(folder / "dist_dir" / f"{name}.png"), load_image(folder / "ref_dir" / f"{name}.png"))
    assert value.item() == pytest.approx(expected, abs=1e-4)


def test_lpips_is_the_mean_square_in_the_space_of_the_lens(image_pair):
    pred, target = image_pair(side=64)
    lens = Calibrated("alex") @ AlexNet(["relu1", "relu2", "relu3", "relu4", "relu5"], weights="random")
    a, b = lens({"pixels": pred}), lens({"pixels": target})
    expected = sum((a[layer] - b[layer]).square().mean() for layer in a)
    torch.testing.assert_close(lpips(weights="random")(pred, target), expected)


def test_zero_features_have_zero_gradient():
    zeros = {
        layer: torch.zeros(1, c, 2, 2, requires_grad=True)
        for layer, c in zip(["relu1", "relu2", "relu3", "relu4", "relu5"], [64, 192, 384, 256, 256], strict=True)
    }
    maps = Calibrated("alex")(zeros)
    sum(map_.sum() for map_ in maps.values()).backward()
    assert all(not features.grad.any() for features in zeros.values())


def test_heads_are_frozen_and_not_in_checkpoints(image_pair):
    loss = lpips(weights="random")
    before = loss(*image_pair(side=64))
    loss.train().requires_grad_(True).half()
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert torch.equal(loss(*image_pair(side=64)), before)


def test_other_layers_raise():
    loss = L2() @ Calibrated("vgg") @ VGG("vgg16", "relu1_2", weights="random")
    with pytest.raises(ValueError, match=r'Calibrated\("vgg"\) expects the layers relu1_2, .*; got relu1_2\.'):
        loss(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))

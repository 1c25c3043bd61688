"""DISTS: parity with the authors' package on the same network, and their published numbers."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lossmith import L2, VGG, WrongWeightsError
from lossmith.lens import get_backbone
from lossmith.lenses import dists as lens
from lossmith.lenses import vgg
from lossmith.lenses.dists import DISTS_LAYERS, PooledVGG, Sensitivity, l2_pool
from lossmith.losses.dists import TextureStructure, dists

pytestmark = pytest.mark.usefixtures("isolated_weights")


@pytest.fixture
def authors(monkeypatch):
    """Their network with the weights of a file of VGG-16, in float64."""
    package = pytest.importorskip("DISTS_pytorch.DISTS_pt")
    from torchvision import models

    def build(file) -> torch.nn.Module:
        features = models.vgg.make_layers(models.vgg.cfgs["D"])
        features.load_state_dict({key.removeprefix("features."): value for key, value in load_file(file).items()})
        monkeypatch.setattr(package.models, "vgg16", lambda pretrained: SimpleNamespace(features=features))
        folder = package.__file__.removesuffix("DISTS_pt.py")  # sys.prefix, where they look, has it from pip alone
        monkeypatch.setattr(package, "sys", SimpleNamespace(prefix=folder))
        return package.DISTS().double()

    return build


def load(path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("side", [32, 45])
def test_it_agrees_with_the_authors_package_on_the_same_network(side, weight_file, authors, image_pair, assert_parity):
    file = weight_file(get_backbone(vgg.VGGNetwork, "vgg16", None))
    theirs = authors(file)
    pred, target = image_pair(side=side, dtype=torch.float64)
    assert_parity(dists(weights=str(file)), lambda x, y: theirs(x, y, require_grad=True, batch_average=True), pred, target)


def test_it_agrees_with_the_authors_package_on_the_real_network(assets, authors, image_pair, assert_parity):
    theirs = authors(assets / "weights" / "vgg16_torchvision_features.safetensors")
    pred, target = image_pair(side=64, dtype=torch.float64)
    assert_parity(dists(), lambda x, y: theirs(x, y, require_grad=True, batch_average=True), pred, target)


def test_its_gradient_comes_through_every_stage_and_the_authors_default_through_the_pixels_alone(
    weight_file, authors, image_pair
):
    file = weight_file(get_backbone(vgg.VGGNetwork, "vgg16", None))
    pred, target = image_pair(n=1, dtype=torch.float64)
    pred.requires_grad_()
    (ours,) = torch.autograd.grad(dists(weights=str(file))(pred, target), pred)
    (theirs,) = torch.autograd.grad(authors(file)(pred, target, batch_average=True), pred)
    heads = Sensitivity()({"pixels": pred, **{n: pred[:, :1].expand(-1, c, -1, -1) for n, c in STAGES.items()}})
    pixels = TextureStructure().measure(heads["pixels"], pixels_of(target, heads["pixels"]))
    (alone,) = torch.autograd.grad(pixels.sum(), pred)
    torch.testing.assert_close(theirs, alone, rtol=1e-4, atol=1e-12)
    assert ours.norm() > 5 * alone.norm()


STAGES = {name: channels for name, channels in DISTS_LAYERS.items() if name != "pixels"}


def pixels_of(picture: torch.Tensor, weighed: torch.Tensor) -> torch.Tensor:
    """The pixels of another picture with the weights of one that a lens has weighed."""
    return torch.cat([picture.flatten(2), weighed.detach().flatten(2)[..., -2:]], dim=2)[..., None, None]


def test_the_authors_example_has_its_published_distance(assets):
    folder = assets / "images" / "iqa"
    value = dists()(load(folder / "dists_r1.png"), load(folder / "dists_r0.png"))
    assert value.item() == pytest.approx(0.3347, abs=5e-5)


@pytest.mark.parametrize("name", ["I03", "I04"])
def test_pictures_of_tid2013_have_their_published_distances(name, assets):
    folder = assets / "images" / "iqa"
    with (folder / "official_scores.csv").open() as file:
        wanted = next(float(row[f"{name}.bmp"]) for row in csv.DictReader(file) if row["Method"] == "dists")
    value = dists()(load(folder / "dist_dir" / f"{name}.png"), load(folder / "ref_dir" / f"{name}.png"))
    assert value.item() == pytest.approx(wanted, abs=1e-4)


def test_an_l2_pool_of_a_constant_is_that_constant_inside():
    pooled = l2_pool(torch.full((1, 2, 8, 8), 0.5))
    torch.testing.assert_close(pooled[..., 1:, 1:], torch.full((1, 2, 3, 3), 0.5))
    torch.testing.assert_close(pooled[..., 0, 0], torch.full((1, 2), 0.5 * 0.75))  # a quarter of each side is padding


def test_features_that_are_zero_have_gradient_zero_and_no_nan():
    zeros = torch.zeros(1, 4, 8, 8, requires_grad=True)
    l2_pool(zeros).sum().backward()
    assert not zeros.grad.any()


def test_two_black_pictures_are_equal_and_pull_nowhere():
    black = torch.zeros(1, 3, 32, 32, requires_grad=True)
    value = dists(weights="random")(black, torch.zeros(1, 3, 32, 32))
    value.backward()
    assert value.item() == 0
    assert not black.grad.any()


def test_nearly_equal_pictures_are_no_negative_distance_apart(image_pair):
    _, target = image_pair(side=32)
    value = dists(weights="random")(target + 1e-6, target)
    assert 0 < value < 1e-4


def test_it_shares_the_weights_of_vgg16_and_no_pass():
    loss = dists(weights="random") + L2() @ VGG("vgg16", "relu1_2", weights="random")
    networks = {name: len(layers) for name, layers in ((p.network, p.layers) for p in loss.plan((1, 3, 32, 32)).passes)}
    assert networks == {"vgg16_l2pool": 6, "vgg16": 1}
    assert get_backbone(lens.PooledVGGNetwork, "random").vgg is get_backbone(vgg.VGGNetwork, "vgg16", "random")


def test_its_cost_is_that_of_vgg16_up_to_the_last_stage():
    backbone = PooledVGG("relu4_3", weights="random").backbone
    wanted = get_backbone(vgg.VGGNetwork, "vgg16", "random").flops(64, 64, ["relu4_3"])
    assert backbone.flops(64, 64, ["relu4_3", "pixels"]) == wanted
    assert backbone.flops(64, 64, ["pixels"]) == 0


def test_only_the_layers_that_are_asked_for_come_in_order(image_pair):
    pred, _ = image_pair()
    maps = PooledVGG(["relu2_2", "pixels"], weights="random")({"pixels": pred})
    assert {name: tuple(each.shape) for name, each in maps.items()} == {
        "pixels": (2, 3, 32, 32),
        "relu2_2": (2, 128, 16, 16),
    }


def test_it_is_frozen_and_out_of_every_checkpoint(image_pair):
    loss = dists(weights="random")
    before = loss(*image_pair())
    loss.train().requires_grad_(True).half()
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert torch.equal(loss(*image_pair()), before)


def test_a_grey_picture_is_refused():
    with pytest.raises(ValueError, match=r"wants RGB pictures .*expand\(-1, 3, -1, -1\)"):
        dists(weights="random")(torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32))


def test_other_layers_than_its_own_are_refused():
    loss = TextureStructure() @ Sensitivity() @ PooledVGG("relu1_2", weights="random")
    with pytest.raises(ValueError, match=r"Sensitivity\(\) wants the layers pixels, .*; it was given relu1_2\."):
        loss(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


def test_maps_without_weights_are_refused():
    with pytest.raises(ValueError, match=r"TextureStructure\(\) wants maps with a weight .* Write dists\(\)\."):
        TextureStructure()(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def test_a_file_without_alpha_and_beta_is_refused(tmp_path):
    save_file({"alpha": torch.ones(7), "beta": torch.ones(7)}, tmp_path / "other.safetensors")
    with pytest.raises(WrongWeightsError, match=r"other\.safetensors' does not hold DISTS's alpha and beta, 1475"):
        _ = Sensitivity(weights=str(tmp_path / "other.safetensors")).weight_hashes

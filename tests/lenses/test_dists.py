"""DISTS: parity with the authors' package on the same network, and their published numbers."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lossmith import L2, VGG, WrongWeightsError
from lossmith.backbone import get_backbone
from lossmith.lenses import dists as dists_lens
from lossmith.lenses import vgg
from lossmith.lenses.dists import DISTS_LAYERS, PooledVGG, Sensitivity, l2_pool
from lossmith.losses.dists import TextureStructure, dists

pytestmark = pytest.mark.usefixtures("isolated_weights")


@pytest.fixture
def build_reference(monkeypatch):
    """Return a function from a file of VGG-16 to the authors' network in float64."""
    package = pytest.importorskip("DISTS_pytorch.DISTS_pt")
    from torchvision import models

    def build(file) -> torch.nn.Module:
        features = models.vgg.make_layers(models.vgg.cfgs["D"])
        features.load_state_dict({key.removeprefix("features."): value for key, value in load_file(file).items()})
        monkeypatch.setattr(package.models, "vgg16", lambda pretrained: SimpleNamespace(features=features))
        folder = package.__file__.removesuffix(
            "DISTS_pt.py"
        )  # their search path, sys.prefix, works only for installs by pip
        monkeypatch.setattr(package, "sys", SimpleNamespace(prefix=folder))
        return package.DISTS().double()

    return build


def load_image(path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 45])
def test_parity_with_the_authors_package_on_random_weights(
    side, weight_file, build_reference, image_pair, assert_parity
):
    file = weight_file(get_backbone(vgg.VGGNetwork, "vgg16", None))
    reference = build_reference(file)
    pred, target = image_pair(side=side, dtype=torch.float64)
    assert_parity(
        dists(weights=str(file)), lambda x, y: reference(x, y, require_grad=True, batch_average=True), pred, target
    )


@pytest.mark.slow
def test_parity_with_the_authors_package_on_trained_weights(assets, build_reference, image_pair, assert_parity):
    reference = build_reference(assets / "weights" / "vgg16_torchvision_features.safetensors")
    pred, target = image_pair(side=64, dtype=torch.float64)
    assert_parity(dists(), lambda x, y: reference(x, y, require_grad=True, batch_average=True), pred, target)


@pytest.mark.slow
def test_the_gradient_passes_all_stages_while_the_authors_default_passes_only_the_pixels(
    weight_file, build_reference, image_pair
):
    file = weight_file(get_backbone(vgg.VGGNetwork, "vgg16", None))
    pred, target = image_pair(n=1, dtype=torch.float64)
    pred.requires_grad_()
    (ours,) = torch.autograd.grad(dists(weights=str(file))(pred, target), pred)
    (reference,) = torch.autograd.grad(build_reference(file)(pred, target, batch_average=True), pred)
    maps = Sensitivity()({"pixels": pred, **{n: pred[:, :1].expand(-1, c, -1, -1) for n, c in STAGES.items()}})
    pixels = TextureStructure().measure(maps["pixels"], append_weights(target, maps["pixels"]))
    (pixels_gradient,) = torch.autograd.grad(pixels.sum(), pred)
    torch.testing.assert_close(reference, pixels_gradient, rtol=1e-4, atol=1e-12)
    assert ours.norm() > 5 * pixels_gradient.norm()


STAGES = {name: channels for name, channels in DISTS_LAYERS.items() if name != "pixels"}


def append_weights(image: torch.Tensor, weighted: torch.Tensor) -> torch.Tensor:
    """Return an image as positions, with the channel weights appended from weighted maps."""
    return torch.cat([image.flatten(2), weighted.detach().flatten(2)[..., -2:]], dim=2)[..., None, None]


@pytest.mark.slow
def test_the_authors_example_has_its_published_distance(assets):
    folder = assets / "images" / "iqa"
    value = dists()(load_image(folder / "dists_r1.png"), load_image(folder / "dists_r0.png"))
    assert value.item() == pytest.approx(0.3347, abs=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["I03", "I04"])
def test_images_of_tid2013_have_their_published_distances(name, assets):
    folder = assets / "images" / "iqa"
    with (folder / "official_scores.csv").open() as file:
        expected = next(float(row[f"{name}.bmp"]) for row in csv.DictReader(file) if row["Method"] == "dists")
    value = dists()(load_image(folder / "dist_dir" / f"{name}.png"), load_image(folder / "ref_dir" / f"{name}.png"))
    assert value.item() == pytest.approx(expected, abs=1e-4)


def test_an_l2_pool_of_a_constant_is_that_constant_inside():
    pooled = l2_pool(torch.full((1, 2, 8, 8), 0.5))
    torch.testing.assert_close(pooled[..., 1:, 1:], torch.full((1, 2, 3, 3), 0.5))
    torch.testing.assert_close(pooled[..., 0, 0], torch.full((1, 2), 0.5 * 0.75))  # a quarter of each side is padding


def test_zero_features_have_zero_gradient():
    zeros = torch.zeros(1, 4, 8, 8, requires_grad=True)
    l2_pool(zeros).sum().backward()
    assert not zeros.grad.any()


def test_two_black_images_have_distance_and_gradient_zero():
    black = torch.zeros(1, 3, 32, 32, requires_grad=True)
    value = dists(weights="random")(black, torch.zeros(1, 3, 32, 32))
    value.backward()
    assert value.item() == 0
    assert not black.grad.any()


def test_the_distance_of_nearly_equal_images_is_not_negative(image_pair):
    _, target = image_pair(side=32)
    value = dists(weights="random")(target + 1e-6, target)
    assert 0 < value < 1e-4


def test_weights_are_shared_with_vgg16_but_no_pass():
    loss = dists(weights="random") + L2() @ VGG("vgg16", "relu1_2", weights="random")
    networks = {name: len(layers) for name, layers in ((p.network, p.layers) for p in loss.plan((1, 3, 32, 32)).passes)}
    assert networks == {"vgg16_l2pool": 6, "vgg16": 1}
    assert get_backbone(dists_lens.PooledVGGNetwork, "random").vgg is get_backbone(vgg.VGGNetwork, "vgg16", "random")


def test_flops_are_those_of_vgg16_up_to_the_last_stage():
    backbone = PooledVGG("relu4_3", weights="random").backbone
    expected = get_backbone(vgg.VGGNetwork, "vgg16", "random").flops(64, 64, ["relu4_3"])
    assert backbone.flops(64, 64, ["relu4_3", "pixels"]) == expected
    assert backbone.flops(64, 64, ["pixels"]) == 0


def test_only_requested_layers_are_returned_in_order(image_pair):
    pred, _ = image_pair()
    maps = PooledVGG(["relu2_2", "pixels"], weights="random")({"pixels": pred})
    assert {name: tuple(each.shape) for name, each in maps.items()} == {
        "pixels": (2, 3, 32, 32),
        "relu2_2": (2, 128, 16, 16),
    }


def test_weights_are_frozen_and_not_in_checkpoints(image_pair):
    loss = dists(weights="random")
    before = loss(*image_pair())
    loss.train().requires_grad_(True).half()
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert torch.equal(loss(*image_pair()), before)


def test_an_image_of_two_bands_raises():
    with pytest.raises(ValueError, match=r"expects RGB images .* or grey images .*Bands\(1, 2, 1\)"):
        dists(weights="random")(torch.rand(1, 2, 32, 32), torch.rand(1, 2, 32, 32))


def test_other_layers_raise():
    loss = TextureStructure() @ Sensitivity() @ PooledVGG("relu1_2", weights="random")
    with pytest.raises(ValueError, match=r"Sensitivity\(\) expects the layers pixels, .*; got relu1_2\."):
        loss(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


def test_maps_without_weights_raise():
    with pytest.raises(ValueError, match=r"TextureStructure\(\) needs maps with a weight .* Use dists\(\)\."):
        TextureStructure()(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def test_a_file_without_alpha_and_beta_raises(tmp_path):
    save_file({"alpha": torch.ones(7), "beta": torch.ones(7)}, tmp_path / "other.safetensors")
    with pytest.raises(WrongWeightsError, match=r"other\.safetensors' does not hold DISTS's alpha and beta, 1475"):
        _ = Sensitivity(weights=str(tmp_path / "other.safetensors")).weight_hashes

"""One region of an image under a network equals that region of the whole restored image."""

import numpy as np
import pytest
import torch

from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.data.restored_image import restore_samples
from lossmith.inference.image_network import ImageNetwork
from lossmith.inference.region import Region, RegionRestorer, enlarge_region, measure_slider
from lossmith.models import EDSR, ConditionedNetwork, TexturedEDSR, run_tiled, save_network
from lossmith.resize import upsample

SIZE = (40, 56)


def textured():
    model = TexturedEDSR(2, channels=8, blocks=1, full_size_channels=4, texture_channels=4, texture_blocks=1)
    torch.nn.init.normal_(model.texture.tail.weight, std=0.1)
    return model


def conditioned():
    model = ConditionedNetwork(EDSR(2, channels=8, blocks=1), {"lam": (0.1, 10.0)})
    for head in model.heads:
        torch.nn.init.normal_(head.weight, std=0.02)
    return model


@pytest.fixture
def image():
    samples = np.random.default_rng(0).integers(0, 256, (3, *SIZE), np.uint8)
    return StoredImage(samples, None, ImageMetadata(format="PNG"))


def load(folder, model):
    torch.manual_seed(0)
    save_network(model().eval(), folder / "model.safetensors", {})
    return ImageNetwork.load(str(folder / "model.safetensors"))


def whole(network, image, knobs):
    """Return the restored image, without regions."""
    seed = {"seed": 0} if network.model.uses_noise else {}

    def restore(x):
        return run_tiled(network.model, x, knobs=knobs, **seed)

    return restore_samples(image, restore, network.pixels, scale=2).image.samples


@pytest.mark.parametrize("model", [textured, conditioned])
@pytest.mark.parametrize("region", [Region(0, 0, 16, 16), Region(9, 20, 16, 20), Region(24, 40, 16, 16)])
def test_a_region_equals_that_of_the_whole_image(tmp_path, image, model, region):
    network = load(tmp_path, model)
    expected = whole(network, image, network.model.knobs_at(0.3))[(..., *region.scaled(2).window)]
    found = RegionRestorer(network, image, region).restore(0.3).samples
    assert np.abs(found.astype(int) - expected).max() <= 1  # a rounding tie


@pytest.mark.parametrize("model", [textured, conditioned])
def test_a_map_of_the_knob_equals_the_map_for_the_whole_image(tmp_path, image, model):
    network, region = load(tmp_path, model), Region(9, 20, 16, 20)
    positions = torch.rand(SIZE, generator=torch.Generator().manual_seed(1))
    expected = whole(network, image, network.model.knobs_at(positions[None, None]))[(..., *region.scaled(2).window)]
    found = RegionRestorer(network, image, region).restore(positions).samples
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_ends_are_computed_once_for_all_positions(tmp_path, image, monkeypatch):
    network = load(tmp_path, textured)
    passes = []
    forward_ends = TexturedEDSR.forward_ends
    monkeypatch.setattr(TexturedEDSR, "forward_ends", lambda *a, **k: passes.append(1) or forward_ends(*a, **k))
    restorer = RegionRestorer(network, image, Region(0, 0, 16, 16))
    results = [restorer.restore(t).samples for t in (0.0, 0.4, 1.0)]
    assert len(passes) == 1
    assert not np.array_equal(results[0], results[2])


def test_the_position_of_a_condition_meets_it_on_the_region(tmp_path, image):
    network, region = load(tmp_path, textured), Region(0, 0, 32, 32)
    restorer = RegionRestorer(network, image, region)
    values = torch.from_numpy(whole(network, image, network.model.knobs_at(0.0)))
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)) * 2
    truth = StoredImage((values + noise).clamp(0, 255).round().byte().numpy(), None, image.metadata)
    slider = measure_slider(restorer, truth, points=6)
    psnr = slider.metrics["psnr_y"]
    bound = (psnr[1] + psnr[2]) / 2
    found = slider.find_position(f"psnr>={bound}")
    assert 0.2 < found < 0.4
    assert restorer.measure(truth, found)["psnr_y"] == pytest.approx(bound, abs=1.0)


def test_an_enlarged_region_equals_that_of_the_enlarged_image(tmp_path, image):
    network = load(tmp_path, textured)
    region = Region(9, 20, 16, 20)
    expected = upsample(network.pixels.encode(image).values[None], 2)[0][(..., *region.scaled(2).window)]
    torch.testing.assert_close(enlarge_region(image, region, network.pixels, 2), expected)


def test_the_command_quotes_its_arguments(tmp_path):
    network = load(tmp_path, textured)
    command = network.command("my photos/", "out/", at="0.3", seed=0)
    assert command == f"lossmith restore {network.source} 'my photos/' out/ --at 0.3 --seed 0"
    assert load(tmp_path, conditioned).command("a.png", "b.png", at="0.3", seed=0).endswith("a.png b.png --at 0.3")

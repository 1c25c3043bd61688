"""The EDSR with a texture branch: its ends, its noise, tiles and files."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lossmith.models import EDSR, TexturedEDSR, load_restorer, run_tiled, save_network
from lossmith.models.position_noise import content_seed, position_noise


@pytest.fixture
def model() -> TexturedEDSR:
    torch.manual_seed(0)
    network = TexturedEDSR(4, channels=8, blocks=1, full_size_channels=4, texture_channels=4, texture_blocks=1).eval()
    for tail in (network.accurate.tail, network.texture.tail):
        nn.init.normal_(tail.weight, std=0.1)  # an untrained network is bilinear upsampling without texture
    return network


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_output_has_the_scale(scale):
    network = TexturedEDSR(scale, channels=4, blocks=1, full_size_channels=2, texture_channels=2, texture_blocks=1)
    assert network.eval()(torch.rand(1, 3, 5, 7)).shape == (1, 3, 5 * scale, 7 * scale)


def test_the_accurate_end_is_the_plain_network(model, image):
    plain = EDSR(4, channels=8, blocks=1, full_size_channels=4).eval()
    plain.load_state_dict(model.accurate.state_dict())
    assert_close(model(image, realism=0.0), plain(image), rtol=0, atol=0)


def test_the_knob_interpolates_the_ends_linearly(model, image):
    accurate, realistic = model.forward_ends(image)
    assert_close(model(image, realism=0.25), 0.75 * accurate + 0.25 * realistic)


def test_a_map_sets_each_region(model, image):
    amount = torch.zeros(2, 1, 20, 24)
    amount[..., 12:] = 1
    accurate, realistic = model.forward_ends(image)
    output = model(image, realism=amount)
    assert_close(output[..., :40], accurate[..., :40])
    assert_close(output[..., -40:], realistic[..., -40:])


def test_one_value_for_each_image(model, image):
    accurate, realistic = model.forward_ends(image)
    output = model(image, realism=torch.tensor([0.0, 1.0]))
    assert_close(output, torch.stack([accurate[0], realistic[1]]))


def test_the_same_image_gives_the_same_output_and_another_seed_another(model, image):
    assert torch.equal(model(image), model(image.clone()))
    assert not torch.equal(model(image, seed=1), model(image, seed=2))


def test_the_output_of_an_image_does_not_depend_on_its_batch(model, image):
    assert_close(model(image)[1:], model(image[1:]))


def test_tiles_agree_with_the_whole_image(model, image):
    assert_close(run_tiled(model, image, tile=8, overlap=model.receptive_radius), model(image))


def test_tiles_of_an_image_read_by_regions_agree(model, image):
    whole = model(image, seed=3)
    part = run_tiled(model, image[..., 4:, 6:], tile=8, seed=3, origin=(4, 6))
    radius = 4 * model.receptive_radius
    assert_close(part[..., radius:, radius:], whole[..., 16 + radius :, 24 + radius :])


def test_the_receptive_radius_covers_every_influence(model):
    image = torch.rand(1, 3, 31, 31).requires_grad_()
    model(image, realism=1.0, seed=0)[..., 60:64, 60:64].sum().backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert int((rows - 15).abs().max()) <= model.receptive_radius


def test_an_untrained_network_upsamples_bilinearly(image):
    network = TexturedEDSR(2, channels=4, blocks=1, texture_channels=2, texture_blocks=1).eval()
    assert_close(network(image), nn.functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False))


def test_flat_areas_have_no_pattern_that_repeats(model):
    flat = torch.full((1, 3, 40, 40), 0.5)
    nn.init.zeros_(model.texture.stages[0].mix.weight)
    nn.init.zeros_(model.texture.stages[1].mix.weight)
    accurate, realistic = model.forward_ends(flat)
    texture = (realistic - accurate)[..., 60:100, 60:100]
    nn.init.zeros_(model.accurate.tail.weight)  # its pixel shuffle may draw a pattern into what the branch sees
    accurate, realistic = model.forward_ends(flat)
    texture = (realistic - accurate)[..., 60:100, 60:100]
    assert_close(texture, texture.mean(dim=(2, 3), keepdim=True).expand_as(texture), rtol=0, atol=1e-5)


@pytest.mark.parametrize("realism", [-0.1, 1.5, torch.tensor([0.5, 2.0])])
def test_a_value_out_of_range_raises(model, image, realism):
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        model(image, realism=realism)


def test_a_scale_that_is_no_power_of_two_raises():
    with pytest.raises(ValueError, match=r"scale must be 2, 4 or 8; got 3\."):
        TexturedEDSR(3)


def test_a_file_gives_the_network_back(model, image, tmp_path):
    save_network(model, tmp_path / "model.safetensors", {})
    loaded, _ = load_restorer(tmp_path / "model.safetensors")
    assert isinstance(loaded, TexturedEDSR)
    assert torch.equal(loaded(image), model(image))


def test_position_noise_is_white():
    noise = position_noise(torch.tensor([0, 1]), (2, 128, 128))
    assert_close(noise.mean(), torch.tensor(0.0), rtol=0, atol=0.02)
    assert_close(noise.var(), torch.tensor(1.0), rtol=0.02, atol=0)
    neighbours = [noise[..., 1:] * noise[..., :-1], noise[:, :, 1:] * noise[:, :, :-1], noise[:, 1:] * noise[:, :-1]]
    for product in [*neighbours, noise[1:] * noise[:1]]:
        assert_close(product.mean(), torch.tensor(0.0), rtol=0, atol=0.02)


def test_the_content_seed_sees_every_pixel():
    image = torch.zeros(1, 3, 6, 6)
    seeds = {int(content_seed(image))}
    for channel, row, column in ((0, 0, 0), (1, 2, 3), (2, 5, 5)):
        changed = image.clone()
        changed[0, channel, row, column] = 1 / 255
        seeds.add(int(content_seed(changed)))
    assert len(seeds) == 4

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith.models import EDSR, run_tiled


def trained(scale=2, channels=6, blocks=2):
    """Return a network whose weights are all nonzero, as after training."""
    torch.manual_seed(0)
    model = EDSR(scale, channels=channels, blocks=blocks).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_images_of_any_size_are_upscaled(scale):
    model = EDSR(scale, channels=4, blocks=1)
    for height, width in ((1, 1), (5, 8)):
        assert model(torch.rand(2, 3, height, width)).shape == (2, 3, height * scale, width * scale)


def test_the_untrained_network_is_bilinear_upsampling():
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert_close(EDSR(4)(image), F.interpolate(image, scale_factor=4, mode="bilinear"))


def test_the_default_network_has_375456_weights():
    assert sum(weight.numel() for weight in EDSR(4).parameters()) == 375_456


def test_every_weight_receives_a_gradient():
    model = trained()
    model(torch.rand(1, 3, 8, 8)).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_no_pixel_depends_on_one_beyond_the_receptive_radius():
    model = trained()
    image = torch.rand(1, 3, 41, 41, dtype=torch.float64).requires_grad_()
    model.double()(image)[..., 40:42, 40:42].sum().backward()
    influence = image.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (influence - 20).abs().max().item() <= model.receptive_radius


@pytest.mark.parametrize("argument", [{"channels": 0}, {"blocks": 1.5}, {"blocks": True}])
def test_an_invalid_argument_raises_a_value_error(argument):
    with pytest.raises(ValueError, match=f"edsr {next(iter(argument))} must be an integer at least 1"):
        EDSR(4, **argument)


@pytest.mark.parametrize("size", [(37, 53), (7, 50), (1, 1), (16, 16)])
@pytest.mark.parametrize("tile", [16, 5, 300])
def test_tiles_equal_the_whole_image(size, tile):
    model, image = trained(3), torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    assert_close(run_tiled(model, image, tile=tile), model(image).detach(), atol=1e-5, rtol=1e-4)


def test_tiles_without_overlap_differ_from_the_whole_image():
    model, image = trained(), torch.rand(1, 3, 30, 30)
    assert (run_tiled(model, image, tile=10, overlap=0) - model(image)).abs().max() > 1e-3


@pytest.mark.parametrize("wrong", [{"tile": 0}, {"overlap": -1}])
def test_invalid_tiles_raise_a_value_error(wrong):
    with pytest.raises(ValueError, match="tile >= 1 and overlap >= 0"):
        run_tiled(trained(), torch.rand(1, 3, 8, 8), **wrong)


def test_tiles_are_counted_as_they_finish():
    counts = []
    run_tiled(EDSR(2, channels=4, blocks=1), torch.rand(1, 3, 20, 40), tile=16, on_tile_end=lambda *n: counts.append(n))
    assert counts == [(k, 6) for k in range(1, 7)]

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith.models import EDSR, run_tiled


def trained(scale=2, channels=6, blocks=2):
    """Weights as if it had been trained: none of them zero."""
    torch.manual_seed(0)
    model = EDSR(scale, channels=channels, blocks=blocks).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_enlarges_any_size(scale):
    model = EDSR(scale, channels=4, blocks=1)
    for height, width in ((1, 1), (5, 8)):
        assert model(torch.rand(2, 3, height, width)).shape == (2, 3, height * scale, width * scale)


def test_untrained_it_is_bilinear_enlargement():
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert_close(EDSR(4)(image), F.interpolate(image, scale_factor=4, mode="bilinear"))


def test_it_is_compact():
    assert sum(weight.numel() for weight in EDSR(4).parameters()) == 375_456


def test_every_weight_learns():
    model = trained()
    model(torch.rand(1, 3, 8, 8)).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_its_reach_is_how_far_it_sees():
    model = trained()
    image = torch.rand(1, 3, 41, 41, dtype=torch.float64).requires_grad_()
    model.double()(image)[..., 40:42, 40:42].sum().backward()
    seen = image.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (seen - 20).abs().max().item() <= model.receptive_radius


@pytest.mark.parametrize("argument", [{"channels": 0}, {"blocks": 1.5}, {"blocks": True}])
def test_a_wrong_argument_is_named(argument):
    with pytest.raises(ValueError, match=f"edsr wants {next(iter(argument))} as a whole number"):
        EDSR(4, **argument)


@pytest.mark.parametrize("size", [(37, 53), (7, 50), (1, 1), (16, 16)])
@pytest.mark.parametrize("tile", [16, 5, 300])
def test_tiles_leave_no_seam(size, tile):
    model, image = trained(3), torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    assert_close(run_tiled(model, image, tile=tile), model(image).detach(), atol=1e-5, rtol=1e-4)


def test_tiles_without_a_rim_would_show():
    model, image = trained(), torch.rand(1, 3, 30, 30)
    assert (run_tiled(model, image, tile=10, overlap=0) - model(image)).abs().max() > 1e-3


@pytest.mark.parametrize("wrong", [{"tile": 0}, {"overlap": -1}])
def test_impossible_tiles_are_refused(wrong):
    with pytest.raises(ValueError, match="tile >= 1 and overlap >= 0"):
        run_tiled(trained(), torch.rand(1, 3, 8, 8), **wrong)

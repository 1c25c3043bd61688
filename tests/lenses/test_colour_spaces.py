"""Colour spaces: skimage's numbers, neutral greys, and finite gradients outside of the gamut."""

import pytest
import torch

from lossmith import L1
from lossmith.lenses.colour import Lab, YCbCr

color = pytest.importorskip("skimage.color")


def shown(lens, image):
    return lens({"pixels": image})["pixels"]


def colours(dtype=torch.float64):
    """Noise, black, white, the primaries, and the darkest greys, where both curves are straight."""
    noise = torch.rand(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dark = torch.linspace(0, 0.1, 20, dtype=torch.float64).expand(3, 20)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3).T
    return torch.cat([noise, dark, corners], dim=1)[None, :, None].to(dtype)


def test_lab_agrees_with_skimage():
    image = colours()
    wanted = torch.from_numpy(color.rgb2lab(image.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(shown(Lab(), image), wanted, rtol=1e-5, atol=1e-3)  # it rounds CIE's two constants


def test_lab_agrees_with_skimage_in_single_precision():
    image = colours(torch.float32)
    wanted = torch.from_numpy(color.rgb2lab(image.double().permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(shown(Lab(), image), wanted.float(), rtol=1e-4, atol=2e-3)


def test_ycbcr_agrees_with_skimage_but_for_the_offset():
    image = colours()
    wanted = torch.from_numpy(color.rgb2ypbpr(image.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    wanted[:, 1:] += 0.5
    torch.testing.assert_close(shown(YCbCr(), image), wanted, rtol=0, atol=1e-5)  # its matrix has six digits


@pytest.mark.parametrize("space", [Lab, YCbCr])
def test_the_parts_make_up_the_whole(space):
    image = colours()
    parts = torch.cat([shown(space("brightness"), image), shown(space("chroma"), image)], dim=1)
    assert torch.equal(parts, shown(space(), image))


@pytest.mark.parametrize("space", [Lab, YCbCr])
def test_chroma_does_not_see_how_bright_a_grey_is(space):
    greys = torch.linspace(0, 1, 11, dtype=torch.float64).expand(1, 3, 1, 11)
    chroma = shown(space("chroma"), greys)
    assert (chroma - chroma[..., :1]).abs().max() < 0.02


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, 1e4, -1e4, 0.04045])
def test_the_gradient_is_finite_wherever_a_network_may_stray(value):
    for channel in range(3):
        image = torch.zeros(1, 3, 1, 1)
        image[:, channel] = value
        image.requires_grad_()
        shown(Lab(), image).sum().backward()
        assert image.grad.isfinite().all()
        assert image.grad.abs().max() < 2e3


def test_the_curves_join_without_a_step():
    ends = torch.tensor([0.04045, 0.04046], dtype=torch.float64).expand(1, 3, 1, 2)
    step = shown(Lab("brightness"), ends).diff().abs()
    assert step < 5e-3


@pytest.mark.parametrize("lens", [Lab(), YCbCr("chroma")], ids=repr)
def test_a_picture_without_three_channels_is_refused(lens):
    grey = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"wants RGB pictures \(N, 3, H, W\); got \(1, 1, 4, 4\)."):
        (L1() @ lens)(grey, grey)


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match=r'Lab shows "all", "brightness", "chroma"; got \'L\'.'):
        Lab("L")

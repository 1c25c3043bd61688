"""Colour spaces: skimage's numbers, neutral greys, and finite gradients outside of the gamut."""

import pytest
import torch

from lossmith import L1
from lossmith.lenses.colour import Lab, YCbCr

color = pytest.importorskip("skimage.color")


def apply(lens, image):
    return lens({"pixels": image})["pixels"]


def make_colours(dtype=torch.float64):
    """Return noise, black, white, the primaries, and the darkest greys, where both curves are linear."""
    noise = torch.rand(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dark = torch.linspace(0, 0.1, 20, dtype=torch.float64).expand(3, 20)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3).T
    return torch.cat([noise, dark, corners], dim=1)[None, :, None].to(dtype)


def test_lab_agrees_with_skimage():
    image = make_colours()
    expected = torch.from_numpy(color.rgb2lab(image.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(apply(Lab(), image), expected, rtol=1e-5, atol=1e-3)  # it rounds CIE's two constants


def test_lab_agrees_with_skimage_in_single_precision():
    image = make_colours(torch.float32)
    expected = torch.from_numpy(color.rgb2lab(image.double().permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(apply(Lab(), image), expected.float(), rtol=1e-4, atol=2e-3)


def test_ycbcr_agrees_with_skimage_up_to_the_offset():
    image = make_colours()
    expected = torch.from_numpy(color.rgb2ypbpr(image.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    expected[:, 1:] += 0.5
    torch.testing.assert_close(apply(YCbCr(), image), expected, rtol=0, atol=1e-5)  # its matrix has six digits


@pytest.mark.parametrize("space", [Lab, YCbCr])
def test_brightness_and_chroma_are_the_channels_of_all(space):
    image = make_colours()
    parts = torch.cat([apply(space("brightness"), image), apply(space("chroma"), image)], dim=1)
    assert torch.equal(parts, apply(space(), image))


@pytest.mark.parametrize("space", [Lab, YCbCr])
def test_the_chroma_of_greys_does_not_depend_on_brightness(space):
    greys = torch.linspace(0, 1, 11, dtype=torch.float64).expand(1, 3, 1, 11)
    chroma = apply(space("chroma"), greys)
    assert (chroma - chroma[..., :1]).abs().max() < 0.02


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, 1e4, -1e4, 0.04045])
def test_the_gradient_is_finite_outside_of_the_gamut(value):
    for channel in range(3):
        image = torch.zeros(1, 3, 1, 1)
        image[:, channel] = value
        image.requires_grad_()
        apply(Lab(), image).sum().backward()
        assert image.grad.isfinite().all()
        assert image.grad.abs().max() < 2e3


def test_the_curves_are_continuous():
    ends = torch.tensor([0.04045, 0.04046], dtype=torch.float64).expand(1, 3, 1, 2)
    step = apply(Lab("brightness"), ends).diff().abs()
    assert step < 5e-3


@pytest.mark.parametrize("lens", [Lab(), YCbCr("chroma")], ids=repr)
def test_an_image_without_three_channels_raises(lens):
    grey = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"expects RGB images \(N, 3, H, W\); got \(1, 1, 4, 4\)."):
        (L1() @ lens)(grey, grey)


def test_an_unknown_part_raises():
    with pytest.raises(ValueError, match=r"Lab part must be one of 'all', 'brightness', 'chroma'; got 'L'."):
        Lab("L")

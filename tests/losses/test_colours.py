"""The loss on mean colours: skimage's difference, and independence of detail."""

import pytest
import torch

from lossmith.losses.colour import colour


def test_for_flat_images_it_is_the_mean_difference_in_lab():
    color = pytest.importorskip("skimage.color")
    a, b = torch.tensor([[0.8, 0.3, 0.1], [0.7, 0.4, 0.1]], dtype=torch.float64)
    expected = abs(color.rgb2lab(a.numpy()) - color.rgb2lab(b.numpy())).mean()
    value = colour()(a.view(1, 3, 1, 1).expand(1, 3, 5, 5), b.view(1, 3, 1, 1).expand(1, 3, 5, 5))
    torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-4, atol=0)


@pytest.mark.parametrize("space", ["lab", "ycbcr", "rgb"])
def test_a_tint_has_a_larger_value_than_detail_of_the_same_amplitude(space):
    generator = torch.Generator().manual_seed(0)
    target = torch.full((1, 3, 48, 48), 0.5)
    detail = 0.1 * torch.randint(0, 2, target.shape, generator=generator).mul(2).sub(1)
    tint = torch.tensor([0.1, -0.1, 0.1]).view(1, 3, 1, 1).expand_as(target)
    loss = colour(space)
    assert loss(target + tint, target) > 5 * loss(target + detail, target)


def test_the_repr_consists_of_lenses():
    assert repr(colour("rgb", 1.5)) == "L1() @ Blur(1.5)"
    assert repr(colour("ycbcr")) == "L1() @ YCbCr() @ Blur()"


def test_an_unknown_space_raises():
    with pytest.raises(ValueError, match=r"colour space must be one of 'lab', 'ycbcr', 'rgb'; got 'hsv'."):
        colour("hsv")

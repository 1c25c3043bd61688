"""Edges: unit response to a ramp or parabola, kornia's and skimage's numbers, no edge at the border."""

import pytest
import torch

from lossmith import L1
from lossmith.lenses.edges import Central, Laplacian, Scharr, Sobel

GRADIENT_LENSES = [Sobel, Scharr, Central]


def apply(lens, image):
    return lens({"pixels": image})["pixels"]


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ramp(horizontal, vertical, side=8):
    position = torch.arange(side, dtype=torch.float64)
    return (horizontal * position + vertical * position[:, None]).view(1, 1, side, side)


@pytest.mark.parametrize("lens", GRADIENT_LENSES)
def test_the_gradient_of_a_ramp_is_its_slope(lens):
    slopes = apply(lens(), ramp(0.25, -0.5))[..., 1:-1, 1:-1]
    torch.testing.assert_close(slopes[:, 0], torch.full_like(slopes[:, 0], 0.25))
    torch.testing.assert_close(slopes[:, 1], torch.full_like(slopes[:, 1], -0.5))


@pytest.mark.parametrize("lens", GRADIENT_LENSES)
def test_the_magnitude_of_a_ramp_is_the_norm_of_its_slope(lens):
    magnitude = apply(lens("magnitude"), ramp(3.0, 4.0))[..., 1:-1, 1:-1]
    torch.testing.assert_close(magnitude, torch.full_like(magnitude, 5.0))


@pytest.mark.parametrize("neighbours", [4, 8])
def test_the_laplacian_of_a_parabola_is_one_and_of_a_ramp_zero(neighbours):
    inner = (..., slice(1, -1), slice(1, -1))
    laplacian = apply(Laplacian(neighbours), ramp(1.0, 0.0).square() / 2)[inner]
    torch.testing.assert_close(laplacian, torch.ones_like(laplacian))
    assert apply(Laplacian(neighbours), ramp(0.25, 0.5))[inner].abs().max() < 1e-12


def test_sobel_agrees_with_kornia():
    filters = pytest.importorskip("kornia.filters")
    image = noise(2, 3, 9, 12)
    expected = filters.spatial_gradient(image, mode="sobel", normalized=True)
    torch.testing.assert_close(apply(Sobel(), image), torch.cat([expected[:, :, 0], expected[:, :, 1]], dim=1))
    torch.testing.assert_close(apply(Sobel("magnitude"), image), filters.sobel(image, eps=0.0))


def test_central_differences_agree_with_kornia():
    filters = pytest.importorskip("kornia.filters")
    image = noise(2, 3, 9, 12)
    expected = filters.spatial_gradient(image, mode="diff", normalized=True)
    torch.testing.assert_close(apply(Central(), image), torch.cat([expected[:, :, 0], expected[:, :, 1]], dim=1))


@pytest.mark.parametrize(("normalized", "factor"), [(True, 3 / 16), (False, 3.0)])
def test_the_laplacian_of_eight_neighbours_is_kornias_up_to_the_documented_factor(normalized, factor):
    filters = pytest.importorskip("kornia.filters")
    image = noise(2, 3, 9, 12)
    expected = filters.laplacian(image, 3, border_type="replicate", normalized=normalized)
    torch.testing.assert_close(factor * apply(Laplacian(8), image), expected)


@pytest.mark.parametrize(("lens", "name"), [(Sobel, "sobel"), (Scharr, "scharr")])
def test_gradient_and_magnitude_are_skimages_up_to_the_documented_factors(lens, name):
    filters = pytest.importorskip("skimage.filters")
    image = noise(1, 1, 9, 12)
    pixels = image[0, 0].numpy()
    slopes = apply(lens(), image)[0]
    torch.testing.assert_close(2 * slopes[0], torch.from_numpy(getattr(filters, f"{name}_v")(pixels)))
    torch.testing.assert_close(2 * slopes[1], torch.from_numpy(getattr(filters, f"{name}_h")(pixels)))
    magnitude = torch.from_numpy(getattr(filters, name)(pixels))
    torch.testing.assert_close(apply(lens("magnitude"), image)[0, 0] * 2**0.5, magnitude)


@pytest.mark.parametrize("lens", [*GRADIENT_LENSES, Laplacian])
def test_a_constant_image_has_no_edge_at_its_border(lens):
    assert apply(lens(), torch.ones(1, 2, 6, 6)).abs().max() == 0


@pytest.mark.parametrize("lens", [*(each("magnitude") for each in GRADIENT_LENSES), Laplacian(8)], ids=repr)
def test_a_rotated_image_has_the_rotated_edges(lens):
    image = noise(1, 2, 7, 7)
    torch.testing.assert_close(apply(lens, image.rot90(1, (2, 3))), apply(lens, image).rot90(1, (2, 3)))


@pytest.mark.parametrize("lens", GRADIENT_LENSES)
def test_the_magnitude_of_a_constant_image_has_gradient_zero(lens):
    constant = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    apply(lens("magnitude"), constant).sum().backward()
    assert torch.equal(constant.grad, torch.zeros_like(constant))


def test_any_number_of_channels_is_supported():
    pred, target = noise(2, 1, 5, 6, 6)
    assert (L1() @ Sobel())(pred, target).isfinite()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sobel("direction"), "Sobel part must be one of 'slopes', 'magnitude', 'joint'; got 'direction'."),
        (lambda: Laplacian(5), "Laplacian neighbours must be one of 4, 8; got 5."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()

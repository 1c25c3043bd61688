"""Edges: unit response to a ramp or parabola, kornia's and skimage's numbers, no edge at the border."""

import pytest
import torch

from lossmith import L1
from lossmith.lenses.edges import Central, Laplacian, Scharr, Sobel

SLOPES = [Sobel, Scharr, Central]


def shown(lens, image):
    return lens({"pixels": image})["pixels"]


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ramp(across, down, side=8):
    place = torch.arange(side, dtype=torch.float64)
    return (across * place + down * place[:, None]).view(1, 1, side, side)


@pytest.mark.parametrize("lens", SLOPES)
def test_the_slopes_of_a_ramp_are_its_slopes(lens):
    slopes = shown(lens(), ramp(0.25, -0.5))[..., 1:-1, 1:-1]
    torch.testing.assert_close(slopes[:, 0], torch.full_like(slopes[:, 0], 0.25))
    torch.testing.assert_close(slopes[:, 1], torch.full_like(slopes[:, 1], -0.5))


@pytest.mark.parametrize("lens", SLOPES)
def test_the_magnitude_of_a_ramp_is_how_steep_it_is(lens):
    steep = shown(lens("magnitude"), ramp(3.0, 4.0))[..., 1:-1, 1:-1]
    torch.testing.assert_close(steep, torch.full_like(steep, 5.0))


@pytest.mark.parametrize("neighbours", [4, 8])
def test_the_curvature_of_a_parabola_is_one_and_of_a_ramp_none(neighbours):
    inner = (..., slice(1, -1), slice(1, -1))
    curved = shown(Laplacian(neighbours), ramp(1.0, 0.0).square() / 2)[inner]
    torch.testing.assert_close(curved, torch.ones_like(curved))
    assert shown(Laplacian(neighbours), ramp(0.25, 0.5))[inner].abs().max() < 1e-12


def test_sobel_agrees_with_kornia():
    filters = pytest.importorskip("kornia.filters")
    image = noise(2, 3, 9, 12)
    wanted = filters.spatial_gradient(image, mode="sobel", normalized=True)
    torch.testing.assert_close(shown(Sobel(), image), torch.cat([wanted[:, :, 0], wanted[:, :, 1]], dim=1))
    torch.testing.assert_close(shown(Sobel("magnitude"), image), filters.sobel(image, eps=0.0))


def test_central_differences_agree_with_kornia():
    filters = pytest.importorskip("kornia.filters")
    image = noise(2, 3, 9, 12)
    wanted = filters.spatial_gradient(image, mode="diff", normalized=True)
    torch.testing.assert_close(shown(Central(), image), torch.cat([wanted[:, :, 0], wanted[:, :, 1]], dim=1))


@pytest.mark.parametrize(("normalized", "factor"), [(True, 3 / 16), (False, 3.0)])
def test_the_laplacian_of_eight_neighbours_is_kornias_but_for_the_factor_that_is_said(normalized, factor):
    filters = pytest.importorskip("kornia.filters")
    image = noise(2, 3, 9, 12)
    wanted = filters.laplacian(image, 3, border_type="replicate", normalized=normalized)
    torch.testing.assert_close(factor * shown(Laplacian(8), image), wanted)


@pytest.mark.parametrize(("lens", "name"), [(Sobel, "sobel"), (Scharr, "scharr")])
def test_slopes_and_magnitude_are_skimages_but_for_the_factors_that_are_said(lens, name):
    filters = pytest.importorskip("skimage.filters")
    image = noise(1, 1, 9, 12)
    plain = image[0, 0].numpy()
    slopes = shown(lens(), image)[0]
    torch.testing.assert_close(2 * slopes[0], torch.from_numpy(getattr(filters, f"{name}_v")(plain)))
    torch.testing.assert_close(2 * slopes[1], torch.from_numpy(getattr(filters, f"{name}_h")(plain)))
    whole = torch.from_numpy(getattr(filters, name)(plain))
    torch.testing.assert_close(shown(lens("magnitude"), image)[0, 0] * 2**0.5, whole)


@pytest.mark.parametrize("lens", [*SLOPES, Laplacian])
def test_a_flat_picture_has_no_edge_at_its_border(lens):
    assert shown(lens(), torch.ones(1, 2, 6, 6)).abs().max() == 0


@pytest.mark.parametrize("lens", [*(each("magnitude") for each in SLOPES), Laplacian(8)], ids=repr)
def test_a_turned_picture_has_the_turned_edges(lens):
    image = noise(1, 2, 7, 7)
    torch.testing.assert_close(shown(lens, image.rot90(1, (2, 3))), shown(lens, image).rot90(1, (2, 3)))


@pytest.mark.parametrize("lens", SLOPES)
def test_the_magnitude_of_a_flat_picture_has_gradient_zero(lens):
    flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    shown(lens("magnitude"), flat).sum().backward()
    assert torch.equal(flat.grad, torch.zeros_like(flat))


def test_it_sees_features_of_any_number_of_channels():
    pred, target = noise(2, 1, 5, 6, 6)
    assert (L1() @ Sobel())(pred, target).isfinite()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sobel("direction"), 'Sobel shows "slopes" or "magnitude"; got \'direction\'.'),
        (lambda: Laplacian(5), "Laplacian wants 4 or 8 neighbours; got 5."),
    ],
)
def test_a_bad_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

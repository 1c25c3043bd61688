"""Total variation: the variants of other libraries, and the weights at edges."""

import piq
import pytest
import torch
import torchmetrics.functional.image as tm

from lossmith import TV
from lossmith.losses import EdgeAwareTV


def basicsr(x):
    """Compute BasicSR's WeightedTVLoss with mean reduction."""
    return (x[..., :-1, :] - x[..., 1:, :]).abs().mean() + (x[..., :-1] - x[..., 1:]).abs().mean()


def test_per_pixel_agrees_with_basicsrs_formula(image_pair, assert_parity):
    assert_parity(TV(), basicsr, image_pair()[0])


def test_per_image_agrees_with_torchmetrics(image_pair, assert_parity):
    assert_parity(TV(per="image"), lambda x: tm.total_variation(x, reduction="mean"), image_pair()[0])


def test_per_image_agrees_with_piqs_l1(image_pair, assert_parity):
    assert_parity(TV(per="image"), lambda x: piq.total_variation(x, norm_type="l1"), image_pair()[0])


def test_squared_per_image_agrees_with_piqs_l2_squared(image_pair, assert_parity):
    assert_parity(
        TV(squared=True, per="image"), lambda x: piq.total_variation(x, norm_type="l2_squared"), image_pair()[0]
    )


def test_piqs_l2_is_the_root_of_the_squared_sum_and_not_isotropic(image_pair, assert_parity):
    x = image_pair(n=1)[0]
    assert_parity(lambda v: TV(squared=True, per="image")(v).sqrt(), piq.total_variation, x)
    assert piq.total_variation(x) < 0.1 * TV("isotropic", per="image")(x)


def test_isotropic_variation_of_a_diagonal_ramp_is_root_two_times_its_slope():
    ramp = 0.01 * (torch.arange(16.0)[:, None] + torch.arange(16.0))
    torch.testing.assert_close(TV("isotropic")(ramp.expand(1, 3, 16, 16)), torch.tensor(0.01 * 2**0.5))


def test_isotropic_variation_is_invariant_to_transposition(image_pair):
    x, _ = image_pair()
    torch.testing.assert_close(TV("isotropic")(x), TV("isotropic")(x.transpose(2, 3)))


def test_a_slope_has_the_same_value_at_any_resolution():
    small, large = (torch.arange(float(side)).mul(0.01).expand(1, 3, side, side) for side in (8, 64))
    torch.testing.assert_close(TV()(large), TV()(small))


def test_a_flat_image_has_gradient_zero_under_the_root():
    flat = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    TV("isotropic")(flat).backward()
    assert not flat.grad.any()


def test_total_variation_reads_only_pred():
    assert TV().input_names == {"pred"}


def test_an_edge_of_the_target_lowers_the_weight_of_the_same_edge():
    edge = torch.cat([torch.zeros(1, 3, 8, 4), torch.ones(1, 3, 8, 4)], dim=3)
    flat = torch.full_like(edge, 0.5)
    assert EdgeAwareTV()(edge, edge) < 1e-4 * EdgeAwareTV()(edge, flat)


def test_with_k_zero_it_is_total_variation(image_pair, assert_parity):
    assert_parity(EdgeAwareTV(k=0), lambda x, y: TV()(x), *image_pair())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TV("diagonal"), "TV kind must be one of 'anisotropic', 'isotropic'; got 'diagonal'."),
        (lambda: TV(per="patch"), "TV per must be one of 'pixel', 'image'; got 'patch'."),
        (lambda: TV(squared="no"), "TV squared must be True or False; got 'no'."),
        (lambda: EdgeAwareTV(k=-1), "EdgeAwareTV k must be at least 0; got -1."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_smoothness_of_a_depth_beside_an_rgb_image_is_that_of_kornia(channels):
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(2, channels, 9, 12, generator=generator, dtype=torch.float64)
    image = torch.rand(2, 3, 9, 12, generator=generator, dtype=torch.float64)
    if channels == 1:
        edges = [(image.diff(dim=dim)).abs().mean(dim=1, keepdim=True) for dim in (2, 3)]
        expected = sum((depth.diff(dim=d).abs() * (-edge).exp()).mean() for d, edge in zip((2, 3), edges, strict=True))
        torch.testing.assert_close(EdgeAwareTV(k=1.0)(depth, image), expected)
        torch.testing.assert_close(EdgeAwareTV(k=1.0)(depth.expand(-1, 3, -1, -1), image), expected)
    assert EdgeAwareTV()(depth, image).isfinite()


def test_a_depth_of_another_size_than_its_image_raises():
    with pytest.raises(ValueError, match="the shapes must be equal"):
        EdgeAwareTV()(torch.rand(1, 1, 9, 12), torch.rand(1, 3, 9, 11))
    with pytest.raises(ValueError, match="the shapes must be equal"):
        EdgeAwareTV()(torch.rand(1, 1, 9, 12), torch.rand(2, 3, 9, 12))

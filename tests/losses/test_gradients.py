"""Losses on image gradients: an independent Sobel, SPSR's own map, and invariance to brightness."""

import pytest
import torch
import torch.nn.functional as F

from lossmith import L1
from lossmith.lenses.edges import Laplacian, Scharr
from lossmith.losses.gradients import gradient, spsr_gradient


def test_it_agrees_with_kornia(image_pair, assert_parity):
    filters = pytest.importorskip("kornia.filters")
    assert_parity(gradient(), lambda x, y: F.l1_loss(*map(filters.spatial_gradient, (x, y))), *image_pair(n=1))


def test_spsr_agrees_with_its_own_map_inside_the_image(image_pair):
    def theirs(image):
        kernel = torch.zeros(3, 3, dtype=image.dtype)
        kernel[0, 1], kernel[2, 1] = -1, 1
        both = torch.stack([kernel, kernel.T])[:, None]
        return F.conv2d(image.flatten(0, 1)[:, None], both).square().sum(dim=1).add(1e-6).sqrt()

    pred, target = (F.pad(x, [2] * 4) for x in image_pair(n=1, dtype=torch.float64))  # flat at the border
    x, y = (theirs(F.pad(image, [1] * 4)) for image in (pred, target))
    torch.testing.assert_close(spsr_gradient()(pred, target), 1e-2 * F.mse_loss(x, y), rtol=1e-3, atol=0)


@pytest.mark.parametrize("operator", ["sobel", "scharr", "central", "laplacian"])
def test_it_is_invariant_to_a_shift_of_brightness(operator, image_pair):
    pred = image_pair(dtype=torch.float64)[0]
    assert gradient(operator)(pred + 0.2, pred) < 1e-12


def test_each_operator_has_its_lens():
    assert repr(gradient("scharr", "magnitude")) == repr(L1() @ Scharr("magnitude"))
    assert repr(gradient("laplacian")) == repr(L1() @ Laplacian())


def test_a_part_of_the_laplacian_raises():
    with pytest.raises(ValueError, match=r'gradient\("laplacian"\) is a scalar and has no part; got \'magnitude\'.'):
        gradient("laplacian", "magnitude")


def test_an_unknown_operator_raises():
    with pytest.raises(
        ValueError, match=r"gradient operator must be one of 'sobel', 'scharr', 'central', 'laplacian'; got 'prewitt'."
    ):
        gradient("prewitt")

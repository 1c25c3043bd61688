"""Pixel distances: parity with torch, and relations between them."""

import pytest
import torch
import torch.nn.functional as F

from lossmith import L1, L2, Charbonnier, Huber
from lossmith.losses import Lp, SquaredNorm


def test_l1_agrees_with_torch(image_pair, assert_parity):
    assert_parity(L1(), F.l1_loss, *image_pair())


def test_l2_agrees_with_torch(image_pair, assert_parity):
    assert_parity(L2(), F.mse_loss, *image_pair())


@pytest.mark.parametrize("delta", [0.05, 0.1, 1.0])
def test_huber_agrees_with_torch(delta, image_pair, assert_parity):
    assert_parity(Huber(delta), lambda x, y: F.huber_loss(x, y, delta=delta), *image_pair())


def test_huber_divided_by_delta_is_torchs_smooth_l1(image_pair, assert_parity):
    assert_parity(10 * Huber(0.1), lambda x, y: F.smooth_l1_loss(x, y, beta=0.1), *image_pair())


def test_charbonnier_is_basicsrs_with_the_square_root_of_its_eps(image_pair, assert_parity):
    assert_parity(Charbonnier(1e-6), lambda x, y: torch.sqrt((x - y) ** 2 + 1e-12).mean(), *image_pair())


@pytest.mark.parametrize(("p", "same"), [(1, L1()), (2, L2())])
def test_lp_is_l1_and_l2(p, same, image_pair, assert_parity):
    assert_parity(Lp(p), same, *image_pair())


def test_the_squared_norm_is_the_mean_times_the_count(image_pair, assert_parity):
    pred, target = image_pair()
    assert_parity(SquaredNorm(), L2() * pred[0].numel(), pred, target)


def test_charbonnier_of_equal_images_has_gradient_zero(image_pair):
    x, _ = image_pair()
    pred = x.clone().requires_grad_()
    Charbonnier(1e-6)(pred, x).backward()
    assert not pred.grad.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lp(0.5), "Lp p must be at least 1; got 0.5."),
        (lambda: Lp(10**400), "Lp p must be a finite number"),
        (lambda: Lp("2"), "Lp p must be a finite number.*; got '2'."),
        (lambda: Charbonnier(0), "Charbonnier eps must be greater than 1e-18; got 0."),
        (lambda: Charbonnier(1e-30), "Charbonnier eps must be greater than 1e-18; got 1e-30."),
        (lambda: Huber(-1), "Huber delta must be positive; got -1."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        make()

"""Shares of the gradient in formulas."""

import pytest
import torch

from lossmith import L1, L2, ExpressionError, GradientShare, Knob, OnFrom, Weight, parse
from lossmith.formula.weight import shares_to_weights


@pytest.mark.parametrize(
    "text", ["30%*L1 + 70%*L2", "L1*30% + 70 % * L2", "30.0% * L1 + (70%)*L2", "30%*L1\t+ 70%\t*L2"]
)
def test_a_percent_sign_is_parsed_as_a_share(text):
    loss = parse(text)
    assert loss.weights == (Weight(1.0, (GradientShare(30.0),)), Weight(1.0, (GradientShare(70.0),)))
    assert parse(repr(loss)).weights == loss.weights


def test_a_share_multiplies_like_any_weight():
    loss = parse("-30% * 0.5 * lam * OnFrom(3) * L1 + L2")
    assert loss.weights[0] == Weight(-0.5, (GradientShare(30.0), Knob("lam"), OnFrom(3)))
    assert loss.weights[0].share == -15


def test_a_percent_sign_in_quotes_is_text():
    with pytest.raises(ExpressionError, match=r"50% of\.pth"):
        parse("perceptual('vgg16', weights='50% of.pth') + 3 * L")


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("L1 + 130% * L2", "GradientShare percent must be greater than 0 and at most 100; got 130.0", 5),
        ("0% * L1", "GradientShare percent must be greater than 0", 0),
        ("L1 + 20% * 30% * L2", "A weight can have one share of the gradient", 11),
        ("SSIM(30%)", "A share of the gradient multiplies a loss, as in 30% [*] L1", 5),
        ("30% + L1", "a weight [+] a loss is not defined", 6),
        ("30%", "The formula is not a loss but the weight GradientShare", 0),
        ("30% * (L1 + L2)", "A gradient share applies to one term", 7),
        ("L1 + 20% * L3x", "Unknown name 'L3x'", 11),
        ("éé + 20% * L3x", "Unknown name 'L3x'", 11),
        ("30 % 7 * L1", "This is not part of a formula", 0),
    ],
)
def test_a_misplaced_share_raises_with_a_caret(text, message, column):
    with pytest.raises(ExpressionError, match=message) as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    assert lines[-2].strip() == text
    assert lines[-1].index("^") - 4 == column


def test_a_long_formula_is_parsed():
    assert len(parse(" + ".join(["1% * L1"] * 100)).terms) == 100


def test_evaluating_a_loss_with_shares_raises():
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match="A gradient share of 30% has no value before the terms are measured"):
        parse("L1 + 30% * L2")(x, x)


def test_a_share_of_a_sum_raises():
    with pytest.raises(ValueError, match="A gradient share applies to one term; give each term of the sum its own"):
        GradientShare(30) * (L1() + L2())


def test_shares_and_numbers_divide_the_gradient():
    weights = shares_to_weights(parse("L1 + 3*L2 + 20%*TV + 40%*SSIM").weights)
    total = sum(weight.scale for weight in weights)
    assert [weight.scale / total for weight in weights] == pytest.approx([0.1, 0.3, 0.2, 0.4])
    assert weights[0].scale == 1

"""Weights: numbers, schedules, knobs, and their products."""

import math

import numpy as np
import pytest
import torch

from lossmith import L1, L2, TV, Knob, OffAfter, OnFrom, Piecewise, Ramp, Weight, parse


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Ramp(1.0, 3.0, steps=10), {0: 1.0, 5: 2.0, 10: 3.0, 99: 3.0}),
        (Ramp(0, 1, steps=10, since=100), {0: 0.0, 100: 0.0, 105: 0.5, 110: 1.0}),
        (Ramp(0.0, 1.0, steps=4, shape="cosine"), {0: 0.0, 1: (1 - math.sqrt(0.5)) / 2, 2: 0.5, 4: 1.0}),
        (Piecewise({10: 0.5, 20: 0.1}), {0: 1.0, 9: 1.0, 10: 0.5, 19: 0.5, 20: 0.1, 99: 0.1}),
        (OnFrom(10), {0: 0.0, 9: 0.0, 10: 1.0}),
        (OffAfter(10), {0: 1.0, 10: 1.0, 11: 0.0}),
    ],
)
def test_a_schedule_has_the_documented_values(schedule, expected):
    assert {step: (1.0 * schedule).value_at(step) for step in expected} == pytest.approx(expected)


def test_factors_multiply_in_any_order():
    weight = OnFrom(10) * 2 * Knob("lam") * 0.5 * Ramp(0, 1, steps=20)
    assert weight.value_at(20, {"lam": 3.0}) == 3.0
    assert weight.value_at(5, {"lam": 3.0}) == 0.0
    assert weight.knobs == ("lam",)


@pytest.mark.parametrize("weight", [Knob("lam"), 2 * Knob("lam"), OnFrom(3)])
def test_a_weight_can_be_negated_and_divided(weight):
    assert (-weight).value_at(3, {"lam": 4.0}) == -(weight * 1).value_at(3, {"lam": 4.0})
    assert (weight / 4).value_at(3, {"lam": 4.0}) == (weight * 1).value_at(3, {"lam": 4.0}) / 4


def test_division_by_0_or_by_a_knob_raises():
    for other in (0, Knob("mu")):
        with pytest.raises(TypeError):
            Knob("lam") / other


def test_a_schedule_uses_the_step_of_the_call(image_pair):
    x, y = image_pair()
    loss = L1() + OnFrom(100) * L2()
    torch.testing.assert_close(loss(x, y, step=99), L1()(x, y))
    torch.testing.assert_close(loss(x, y, step=100), L1()(x, y) + L2()(x, y))


def test_a_knob_can_be_a_number(image_pair):
    x, y = image_pair()
    torch.testing.assert_close((L1() + Knob("lam") * L2())(x, y, lam=0.5), L1()(x, y) + 0.5 * L2()(x, y))


def test_a_knob_can_be_one_value_per_image(image_pair):
    x, y = image_pair(n=3)
    lam = torch.tensor([0.0, 1.0, 10.0])
    expected = (lam * L1().evaluate({"pred": x, "target": y})["L1"]).mean()
    torch.testing.assert_close((Knob("lam") * L1())(x, y, lam=lam), expected)


def test_a_knob_can_be_a_scalar_tensor_with_a_gradient(image_pair):
    x, y = image_pair()
    lam = torch.tensor(2.0, requires_grad=True)
    (Knob("lam") * L1())(x, y, lam=lam).backward()
    torch.testing.assert_close(lam.grad, L1()(x, y))


def test_several_knobs_are_set_by_name(image_pair):
    x, y = image_pair()
    loss = Knob("a") * L1() + Knob("b") * Knob("a") * L2()
    assert loss.knobs == ("a", "b")
    torch.testing.assert_close(loss(x, y, a=2, b=3), 2 * L1()(x, y) + 6 * L2()(x, y))


def test_a_float64_knob_works_in_a_float32_loss(image_pair):
    x, y = image_pair()
    assert (L1() + Knob("a") * L2())(x, y, a=torch.ones(2, dtype=torch.float64)).isfinite()


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 2), (2, 1, 1, 1), (1,)])
def test_a_knob_of_a_wrong_shape_raises(shape, image_pair):
    with pytest.raises(
        ValueError, match=r"The weight of 'L1' must be a number or one value per image, \(2,\); a knob has shape"
    ):
        (Knob("lam") * L1())(*image_pair(), lam=torch.ones(shape))


@pytest.mark.parametrize("value", ["1", [1.0, 2.0], None, math.nan, math.inf, True])
def test_a_knob_that_is_no_finite_number_raises(value, image_pair):
    with pytest.raises(ValueError, match="The knob 'lam' must be a finite number; got"):
        (Knob("lam") * L1())(*image_pair(), lam=value)


def test_a_missing_knob_raises(image_pair):
    with pytest.raises(ValueError, match="The knob 'lam' has no value; call the loss with"):
        (Knob("lam") * L1())(*image_pair())


def test_an_unknown_knob_raises(image_pair):
    with pytest.raises(
        ValueError, match="'mu' is neither a knob nor an input of this loss; the inputs are pred, target"
    ):
        L1()(*image_pair(), mu=1.0)


@pytest.mark.parametrize(
    "name",
    ["", "Lam", "1a", "a b", "_lam", "__class__", "lambda", "pred", "target", "step", "self", "nan", "inf", 3, None],
)
def test_a_name_that_a_call_could_not_set_raises(name):
    with pytest.raises(ValueError, match="A knob's name must"):
        Knob(name)


def test_a_knob_with_the_name_of_an_input_raises():
    with pytest.raises(ValueError, match="'filled' is both an input and a knob of this loss; rename the knob"):
        Knob("filled") * L1().on(pred="filled")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_non_finite_weight_raises(value):
    for make in (
        lambda: value * L1(),
        lambda: Weight(value),
        lambda: L1().reweighted([value]),
        lambda: Ramp(0, value, 1),
    ):
        with pytest.raises(ValueError, match="must be a finite number"):
            make()


def test_a_non_finite_product_of_weights_raises():
    with pytest.raises(ValueError, match="A weight must be a finite number; got inf"):
        1e200 * (1e200 * L1())


@pytest.mark.parametrize("value", ["1", None, True, [1]])
def test_a_weight_that_is_no_number_raises(value):
    with pytest.raises((TypeError, ValueError)):
        L1() * value


def test_a_tensor_as_weight_raises_and_the_message_names_the_knob():
    for make in (lambda: torch.tensor(0.1) * L1(), lambda: L1() * torch.tensor(0.1)):
        with pytest.raises(ValueError, match="Use a Knob and pass the tensor at the call"):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: OnFrom(-1),
        lambda: OnFrom("soon"),
        lambda: OnFrom(1.5),
        lambda: OffAfter(True),
        lambda: Ramp(0, 1, steps=0),
        lambda: Ramp(0, 1, steps=10.5),
        lambda: Ramp(0, 1, steps=10, since=-1),
        lambda: Piecewise({-1: 1.0}),
        lambda: Piecewise({0.5: 1.0}),
    ],
)
def test_a_step_that_is_no_integer_in_range_raises(make):
    with pytest.raises(ValueError, match="must be an integer at least"):
        make()


@pytest.mark.parametrize("values", [{}, [], None, 3])
def test_piecewise_values_of_a_wrong_type_raise(values):
    with pytest.raises(ValueError, match="Piecewise values must map steps to values"):
        Piecewise(values)


def test_an_unknown_shape_raises():
    with pytest.raises(ValueError, match="Ramp shape must be one of 'linear', 'cosine'; got 'cubic'"):
        Ramp(0, 1, steps=10, shape="cubic")


@pytest.mark.parametrize(
    "factor",
    [
        Knob("lam"),
        Ramp(np.float64(0), np.float32(1), steps=np.int64(10), since=5, shape="cosine"),
        Piecewise({np.int64(0): np.float64(1), 10: 2}),
        OnFrom(np.int64(3)),
        OffAfter(3),
        np.float64(0.1) * Knob("lam"),
        0.1 * Knob("lam") * OnFrom(3) * Knob("mu"),
        -Knob("lam"),
    ],
    ids=repr,
)
def test_a_weight_parses_back(factor):
    loss = factor * TV()
    assert "np." not in repr(loss)
    assert parse(repr(loss)).weights == loss.weights
    assert repr(parse(repr(loss))) == repr(loss)


def test_numpy_numbers_are_weights():
    for value in np.linspace(0.1, 1, 3):
        assert repr(value * L1()) == repr(float(value) * L1())


def test_a_weight_is_0_while_its_schedule_is_0_whatever_its_knobs():
    weight = 0.1 * Knob("lam") * OnFrom(10)
    assert weight.is_zero_at(9) and not weight.is_zero_at(10)
    assert weight.value_at(9) == 0.0  # whatever the knob
    with pytest.raises(ValueError, match="'lam' has no value"):
        weight.value_at(10)

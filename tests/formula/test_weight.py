"""Weights: numbers, schedules and knobs, and their products."""

import math

import numpy as np
import pytest
import torch

from lossmith import L1, L2, TV, Knob, OffAfter, OnFrom, Piecewise, Ramp, Weight, parse


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Ramp(1.0, 3.0, steps=10), {0: 1.0, 5: 2.0, 10: 3.0, 99: 3.0}),
        (Ramp(0, 1, steps=10, since=100), {0: 0.0, 100: 0.0, 105: 0.5, 110: 1.0}),
        (Ramp(0.0, 1.0, steps=4, shape="cosine"), {0: 0.0, 1: (1 - math.sqrt(0.5)) / 2, 2: 0.5, 4: 1.0}),
        (Piecewise({10: 0.5, 20: 0.1}), {0: 1.0, 9: 1.0, 10: 0.5, 19: 0.5, 20: 0.1, 99: 0.1}),
        (OnFrom(10), {0: 0.0, 9: 0.0, 10: 1.0}),
        (OffAfter(10), {0: 1.0, 10: 1.0, 11: 0.0}),
    ],
)
def test_a_schedule_has_these_values(schedule, wanted):
    assert {step: (1.0 * schedule).at(step) for step in wanted} == pytest.approx(wanted)


def test_factors_multiply_in_any_order():
    weight = OnFrom(10) * 2 * Knob("lam") * 0.5 * Ramp(0, 1, steps=20)
    assert weight.at(20, {"lam": 3.0}) == 3.0
    assert weight.at(5, {"lam": 3.0}) == 0.0
    assert weight.knobs == ("lam",)


@pytest.mark.parametrize("weight", [Knob("lam"), 2 * Knob("lam"), OnFrom(3)])
def test_a_weight_can_be_negated_and_divided(weight):
    assert (-weight).at(3, {"lam": 4.0}) == -(weight * 1).at(3, {"lam": 4.0})
    assert (weight / 4).at(3, {"lam": 4.0}) == (weight * 1).at(3, {"lam": 4.0}) / 4


def test_a_weight_cannot_be_divided_by_nothing_or_by_a_knob():
    for other in (0, Knob("mu")):
        with pytest.raises(TypeError):
            Knob("lam") / other


def test_a_schedule_acts_at_the_step_of_the_call(pictures):
    x, y = pictures()
    loss = L1() + OnFrom(100) * L2()
    torch.testing.assert_close(loss(x, y, step=99), L1()(x, y))
    torch.testing.assert_close(loss(x, y, step=100), L1()(x, y) + L2()(x, y))


def test_a_knob_is_a_number(pictures):
    x, y = pictures()
    torch.testing.assert_close((L1() + Knob("lam") * L2())(x, y, lam=0.5), L1()(x, y) + 0.5 * L2()(x, y))


def test_a_knob_is_one_value_an_image(pictures):
    x, y = pictures(n=3)
    lam = torch.tensor([0.0, 1.0, 10.0])
    wanted = (lam * L1().evaluate({"pred": x, "target": y})["L1"]).mean()
    torch.testing.assert_close((Knob("lam") * L1())(x, y, lam=lam), wanted)


def test_a_knob_is_a_scalar_tensor_and_gets_its_gradient(pictures):
    x, y = pictures()
    lam = torch.tensor(2.0, requires_grad=True)
    (Knob("lam") * L1())(x, y, lam=lam).backward()
    torch.testing.assert_close(lam.grad, L1()(x, y))


def test_several_knobs_are_set_by_their_names(pictures):
    x, y = pictures()
    loss = Knob("a") * L1() + Knob("b") * Knob("a") * L2()
    assert loss.knobs == ("a", "b")
    torch.testing.assert_close(loss(x, y, a=2, b=3), 2 * L1()(x, y) + 6 * L2()(x, y))


def test_a_float64_knob_does_not_trip_a_float32_sum(pictures):
    x, y = pictures()
    assert (L1() + Knob("a") * L2())(x, y, a=torch.ones(2, dtype=torch.float64)).isfinite()


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 2), (2, 1, 1, 1), (1,)])
def test_a_knob_of_another_shape_is_refused(shape, pictures):
    with pytest.raises(
        ValueError, match=r"The weight of 'L1' wants a number or one value an image, \(2,\); a knob gave"
    ):
        (Knob("lam") * L1())(*pictures(), lam=torch.ones(shape))


@pytest.mark.parametrize("value", ["1", [1.0, 2.0], None, math.nan, math.inf, True])
def test_a_knob_of_another_kind_is_refused(value, pictures):
    with pytest.raises(ValueError, match="The knob 'lam' wants a finite number; got"):
        (Knob("lam") * L1())(*pictures(), lam=value)


def test_a_missing_knob_is_named(pictures):
    with pytest.raises(ValueError, match="The knob 'lam' has no value; call the loss with"):
        (Knob("lam") * L1())(*pictures())


def test_a_knob_that_the_loss_does_not_have_is_named(pictures):
    with pytest.raises(ValueError, match="'mu' is neither a knob nor a view of this loss; it reads pred, target"):
        L1()(*pictures(), mu=1.0)


@pytest.mark.parametrize(
    "name",
    ["", "Lam", "1a", "a b", "_lam", "__class__", "lambda", "pred", "target", "step", "self", "nan", "inf", 3, None],
)
def test_a_name_that_no_call_could_set_is_refused(name):
    with pytest.raises(ValueError, match="Knob wants"):
        Knob(name)


def test_a_knob_cannot_have_the_name_of_a_view_that_is_read():
    with pytest.raises(ValueError, match="'filled' is a view that this loss reads; the knob wants another name"):
        Knob("filled") * L1().on(pred="filled")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_weight_is_finite(value):
    for make in (
        lambda: value * L1(),
        lambda: Weight(value),
        lambda: L1().reweighted([value]),
        lambda: Ramp(0, value, 1),
    ):
        with pytest.raises(ValueError, match="wants a finite number"):
            make()


def test_a_product_of_weights_is_finite():
    with pytest.raises(ValueError, match="A weight wants a finite number; got inf"):
        1e200 * (1e200 * L1())


@pytest.mark.parametrize("value", ["1", None, True, [1]])
def test_what_is_no_number_is_no_weight(value):
    with pytest.raises((TypeError, ValueError)):
        L1() * value


def test_a_tensor_is_no_weight_and_the_message_says_what_is():
    for make in (lambda: torch.tensor(0.1) * L1(), lambda: L1() * torch.tensor(0.1)):
        with pytest.raises(ValueError, match="for a tensor use Knob and give it at the call"):
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
def test_a_step_is_a_whole_number(make):
    with pytest.raises(ValueError, match="wants whole steps of at least"):
        make()


@pytest.mark.parametrize("values", [{}, [], None, 3])
def test_piecewise_wants_steps(values):
    with pytest.raises(ValueError, match="Piecewise wants a value for each of some steps"):
        Piecewise(values)


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="Ramp knows the shapes linear, cosine; got 'cubic'"):
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
def test_a_weight_reads_back(factor):
    loss = factor * TV()
    assert "np." not in repr(loss)
    assert parse(repr(loss)).weights == loss.weights
    assert repr(parse(repr(loss))) == repr(loss)


def test_numpys_numbers_are_weights():
    for value in np.linspace(0.1, 1, 3):
        assert repr(value * L1()) == repr(float(value) * L1())


def test_a_weight_rests_while_its_schedule_stands_at_nought_wherever_its_knobs_are():
    weight = 0.1 * Knob("lam") * OnFrom(10)
    assert weight.rests(9) and not weight.rests(10)
    assert weight.at(9) == 0.0  # which no knob can change
    with pytest.raises(ValueError, match="'lam' has no value"):
        weight.at(10)

"""Checks of arguments."""

import math
from typing import Literal

import numpy as np
import pytest

from lossmith._checks import check_bool, check_choice, check_integer, check_number


def test_values_in_range_are_returned_as_python_numbers():
    assert type(check_number("x", np.float32(0.5), low=0)) is float
    assert type(check_integer("x", np.int64(3), low=3)) is int
    assert check_choice("x", "b", Literal["a", "b"]) == "b"
    assert check_bool("x", False) is False


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_number("x", "1"), "x must be a finite number; got '1'."),
        (lambda: check_number("x", True), "x must be a finite number; got True."),
        (lambda: check_number("x", math.nan, low=1), "x must be a finite number at least 1; got nan."),
        (lambda: check_number("x", "1", low=0, open_low=True), "x must be a positive finite number; got '1'."),
        (lambda: check_number("x", 10**400), "x must be a finite number; got 1000"),
        (lambda: check_number("x", 0, low=0, open_low=True), "x must be positive; got 0."),
        (lambda: check_number("x", 2, low=0, high=1), "x must be at least 0 and at most 1; got 2."),
        (lambda: check_number("x", 2, high=1), "x must be at most 1; got 2."),
        (lambda: check_integer("x", 1.0), "x must be an integer; got 1.0."),
        (lambda: check_integer("x", False, low=0), "x must be an integer at least 0; got False."),
        (lambda: check_integer("x", 9, low=1, high=5), "x must be an integer at least 1 and at most 5; got 9."),
        (lambda: check_bool("x", 1), "x must be True or False; got 1."),
        (
            lambda: check_choice("x", "lineal", ["linear", "cosine"]),
            "x must be one of 'linear', 'cosine'; got 'lineal'.",
        ),
    ],
)
def test_a_wrong_value_raises_with_the_name_the_range_and_the_value(check, message):
    with pytest.raises(ValueError) as caught:
        check()
    assert str(caught.value).startswith(message)


def test_a_similar_choice_is_suggested():
    with pytest.raises(ValueError, match=r"Did you mean 'linear'\?$"):
        check_choice("x", "lineal", ["linear", "cosine"])

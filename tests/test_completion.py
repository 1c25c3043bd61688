"""Completion of unfinished formulas."""

import random

import pytest

from lossmith.parser import ExpressionError, complete, parse
from lossmith.parser.vocabulary import BUILTINS


def texts(formula, position=None):
    return [each.text for each in complete(formula, position)]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("L1 + 0.1*percep", ["perceptual"]),
        ("charb", ["Charbonnier"]),
        ("mse", ["L2", "DenoisingMSE"]),
        ("L1 @ Gr", ["Gram"]),
        ("TV('iso", ["isotropic", "anisotropic"]),
        ("TV(kind=", ['"anisotropic"', '"isotropic"']),
        ("SSIM(sigma=1.5, ", ["window=", "k1=", "k2="]),
        ("perceptual('vgg19', ['conv1_1', 'relu5", ["relu5_1", "relu5_2", "relu5_3", "relu5_4"]),
        ("L1 @ AlexNet('conv", ["conv1", "conv2", "conv3", "conv4", "conv5"]),
        ("perceptual(net='sq", ["squeezenet"]),
        ("lpips(weights='", ["random"]),
        ("0.1", []),
        ("nothing(", []),
    ],
)
def test_the_texts_that_fit_are_offered(formula, expected):
    assert texts(formula) == expected


def test_only_lenses_follow_an_at_sign():
    assert {each.kind for each in complete("L1 @ ", limit=99)} == {"lens"}


def test_common_names_come_first():
    assert texts("")[:4] == ["L1", "L2", "SSIM", "TV"]


def test_a_completion_replaces_the_word_under_the_cursor():
    completion = complete("L1 + perc * TV", 8)[0]
    assert completion.apply("L1 + perc * TV") == "L1 + perceptual * TV"


def test_every_name_is_completed_from_its_beginning_with_its_signature():
    for name in BUILTINS:
        found = {each.text: each for each in complete(name[:-1], limit=99)}
        assert found[name].signature.startswith(f"{name}(")
        assert found[name].summary


def test_any_text_has_completions_within_the_text():
    dice = random.Random(0)
    pieces = ["L1", "@", "VGG(", "'vgg19'", ",", "(", ")", "[", "'", '"', "é", "\n", "=", "x", " ", "🙂", "weights="]
    for _ in range(300):
        formula = "".join(dice.choices(pieces, k=dice.randint(0, 12)))
        position = dice.randint(0, len(formula))
        for each in complete(formula, position):
            assert 0 <= each.start <= position <= each.end <= len(formula)


@pytest.mark.parametrize(
    ("formula", "position", "column"),
    [("L1 + LL1", 5, 5), ("(L1 +\n TTV)", 7, 1), (f"{'L1 + ' * 60}TTV", 300, 197), ("é(", 1, 1)],
)
def test_an_error_states_its_position_in_the_formula_and_in_the_line_that_is_shown(formula, position, column):
    with pytest.raises(ExpressionError) as raised:
        parse(formula)
    error = raised.value
    assert (error.position, error.column) == (position, column)
    assert str(error) == f"{error.reason}\n    {error.shown}\n    {' ' * column}^"

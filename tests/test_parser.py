"""Text to loss and back: round trips, and errors with a caret at the position."""

import random

import numpy as np
import pytest

from lossmith import (
    L1,
    TV,
    VGG,
    ExpressionError,
    Knob,
    OffAfter,
    OnFrom,
    Piecewise,
    Ramp,
    losses,
    parse,
    perceptual,
    style,
)
from lossmith.parser.vocabulary import BUILTINS, OTHER_NAMES


def draw_formula(dice: random.Random) -> str:
    """Return a formula of the grammar as a user may write it."""

    def number() -> str:
        return dice.choice(["0.1", "2", "1e-3", "10/3", "3.5e2", "(1 + 2)"])

    def weight() -> str:
        schedules = ["OnFrom(100)", "OffAfter(5)", "Ramp(0, 1, steps=10)", 'Ramp(1, 0.5, 100, shape="cosine", since=7)']
        schedules += ["Piecewise({0: 1.0, 100: 0.5})", "lam", "mu", "-lam", "lam/2", 'Knob("nu")']
        return "*".join(dice.sample([number(), number(), *schedules], dice.randint(1, 3)))

    def layers() -> str:
        return dice.choice(['"relu1_2"', "['conv1_1', 'relu3_1']", '{"conv2_2": 0.1, "relu1_1": 3}'])

    def lens() -> str:
        network = f'VGG("{dice.choice(["vgg16", "vgg19"])}", {layers()}, weights="random")'
        return dice.choice([network, f"Gram @ {network}", f'Gram("hw") @ {network}', "SqueezeNet('fire3')", "Gram()"])

    def distance() -> str:
        plain = ["L1", "L2()", "Lp(3)", "Charbonnier(eps=0.01)", "Huber", "TV('isotropic', squared=True)", "SSIM(7)"]
        recipes = ["perceptual", "style('vgg19')", "lpips", "ms_ssim_l1", "gatys()", "johnson", "real_esrgan(width=2)"]
        found = dice.choice([*plain, *recipes, f"L1 @ {lens()}", f"(L2 + 0.5*L1) @ {lens()}"])
        return (
            f'({found}).on(target="truth")' if "target" in parse(found).input_names and dice.random() < 0.3 else found
        )

    terms = [
        dice.choice(["{d}", "{w} * {d}", "{d} / 4"]).format(d=distance(), w=weight()) for _ in range(dice.randint(1, 4))
    ]
    return " + ".join(terms) if dice.random() < 0.8 else " - ".join(terms)


@pytest.mark.parametrize("seed", range(200))
def test_the_repr_of_a_parsed_formula_parses_to_the_same_loss(seed):
    loss = parse(draw_formula(random.Random(seed)))
    again = parse(repr(loss))
    assert repr(again) == repr(loss)
    assert again.weights == loss.weights
    assert again.names == loss.names
    assert again.input_names == loss.input_names
    assert again.networks == loss.networks


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("L1", L1()),
        ("L1 + 0.1*perceptual", L1() + 0.1 * perceptual()),
        ("  L1\n", L1()),
        ("L1 # a comment", L1()),
        ("lam * L1 + TV", Knob("lam") * L1() + TV()),
        ("lam*L1 - TV/4", Knob("lam") * L1() - TV() / 4),
        ("Knob('lam') * L1", Knob("lam") * L1()),
        ("λ * L1", Knob("λ") * L1()),
        ("OnFrom(100) * style('vgg19', 'relu2_1')", OnFrom(100) * style("vgg19", "relu2_1")),
        ("L1 @ VGG('vgg19', 'conv5_4')", L1() @ VGG("vgg19", "conv5_4")),
        ("L1.on(pred='filled')", L1().on(pred="filled")),
        ("2 * (L1 + TV)", 2 * (L1() + TV())),
    ],
)
def test_text_and_python_give_the_same_loss(text, written):
    assert repr(parse(text)) == repr(written)


def test_every_loss_and_recipe_is_a_known_name():
    for name in losses.__all__:
        if name not in ("Lp", "External"):  # Lp needs a power, External a Python callable
            assert parse(name).terms


@pytest.mark.parametrize("path", ["C:\\new\\table.pth", 'a "quoted" name', "it's", "tab\there", "ümlaut/日本", "a\nb"])
def test_any_path_parses_back(path):
    loss = perceptual("vgg19", "relu1_1", weights=path)
    (network,) = parse(repr(loss)).networks.values()
    assert network.weights == path
    assert "\n" not in repr(loss)


def test_numpy_numbers_parse_back():
    loss = L1() + np.float64(0.1) * losses.Charbonnier(np.float64(0.01)) + losses.Lp(np.int64(3))
    assert repr(loss) == "L1() + 0.1 * Charbonnier(eps=0.01) + Lp(3)"
    assert repr(parse(repr(loss))) == repr(loss)


def test_schedules_parse_back():
    loss = Ramp(0, 1, 100) * Piecewise({0: 1.0, 10: 0.5}) * OnFrom(3) * OffAfter(9) * L1()
    assert parse(repr(loss)).weights == loss.weights


CARETS = [
    ("L1 + perceptuel", "Unknown name 'perceptuel'; did you mean 'perceptual'?", 5),
    ("L1 + 0.1*stile", "Unknown name 'stile'; did you mean 'style'?", 9),
    ("l1 + TV", "Unknown name 'l1'; did you mean 'L1'?", 0),
    ("L1 + tv", "Unknown name 'tv'; did you mean 'TV'?", 5),
    ("L1 + Percptual()", "Unknown name 'Percptual'; did you mean 'perceptual'?", 5),
    ("MSE", "Unknown name 'MSE'; did you mean 'L2'?", 0),
    ("L1 + 0.1*GAN", "Unknown name 'GAN'; did you mean 'Adversarial'?", 9),
    ("L1 + gan", "Unknown name 'gan'; did you mean 'Adversarial'?", 5),
    ("mae", "Unknown name 'mae'; did you mean 'L1'?", 0),
    ("Perceptual", "Unknown name 'Perceptual'; did you mean 'perceptual'?", 0),
    ("l1", "Unknown name 'l1'; did you mean 'L1'?", 0),
    ("L1Loss() + TV", "Unknown name 'L1Loss'; did you mean 'L1'?", 0),
    ("SSIMLoss", "Unknown name 'SSIMLoss'; did you mean 'SSIM'?", 0),
    ("MS_SSIM", "Unknown name 'MS_SSIM'; did you mean 'MSSSIM'?", 0),
    ("VGGLoss", "Unknown name 'VGGLoss'; did you mean 'perceptual'?", 0),
    ("perceptual('vgg16', 'conv3_3', 'conv4_3')", "Several layers go in a list: layers=['conv3_3', 'conv4_3']", 0),
    ("style('vgg16', 'relu1_1', 'relu2_1')", "Several layers go in a list: layers=['relu1_1', 'relu2_1']", 0),
    ("perceptual('vgg16', 'conv3_3', 'conv4_3', 'l1')", "as in perceptual('vgg16', ['conv3_3', 'conv4_3'])", 0),
    ("L1 @ VGG('vgg16', 'relu1_1', 'relu2_1')", "go in a list, as in VGG('vgg16', ['relu1_1', 'relu2_1'])", 5),
    ("Foo * L1", "Unknown name 'Foo'; the names are", 0),
    ("L1 + perceptual(nett='vgg19')", "got an unexpected keyword argument 'nett'", 5),
    ("L1 + perceptual('vgg91')", "Got 'vgg91' without layers", 5),
    ("L1 + style('vgg19', 'relu9_1')", "vgg19 has no layer 'relu9_1'", 5),
    ("L1 + perceptual(vgg19)", "write 'vgg19' in quotes if it is text", 16),
    ("L1 + Lp", "Wrong arguments of Lp(p): missing a required argument: 'p'", 5),
    ("L1 + Lp(0.5)", "Lp p must be at least 1; got 0.5", 5),
    ("L1 + Lp('2')", "Lp p must be a finite number at least 1; got '2'", 5),
    ("L1(3)", "Wrong arguments of L1(): too many positional arguments", 0),
    ("L1 + TV(squared=L1)", "write 'L1' in quotes if it is text", 16),
    ("L1 + TV(squared=L1())", "An argument is a number or text; L1() is neither", 16),
    ("L1 + lam", "'lam' is a knob, which multiplies a loss: lam * L1", 5),
    ("L1 + 3", "a loss + a number is not defined", 5),
    ("L1 * TV", "a loss * a loss is not defined", 5),
    ("Gram @ L1", "a lens @ a loss is not defined", 7),
    ("-Gram", "a lens has no sign", 1),
    ("L1 + 'TV'", "'TV' is not a loss, lens or weight", 5),
    ("True * L1", "True is not a loss, lens or weight", 0),
    ("1/0 * L1", "division by zero", 2),
    ("0.1 * VGG('vgg19', 'conv1_1')", "a number * a lens is not defined", 6),
    ("VGG('vgg19', 'conv1_1')", "is a lens without a distance; write L1 @ VGG", 0),
    ("lam", 'The formula is not a loss but the weight Knob("lam"); add a loss such as L1.', 0),
    ("3", "The formula is not a loss but the weight 3; add a loss such as L1.", 0),
    ("L1 + (TV", "'(' was never closed", 5),
    ("L1 + 0.1 perceptual", "The formula cannot be parsed: invalid syntax", 9),
    ("L1 ++ $", "The formula cannot be parsed: invalid syntax", 6),
    ("éé * L1 + Foo", "Unknown name 'Foo'", 10),
    ("(L1 +\n  Foo)", "Unknown name 'Foo'", 2),
    ("L1.on(prod='x')", "L1() reads mask, pred, target; it has no input 'prod' to rename", 0),
    ("TV(per='image', per='pixel')", "'per' is given twice", 20),
    ("1e400 * L1", "A weight must be a finite number; got inf", 8),
    ("nan * L1", "'nan' is reserved", 0),
    ("step * L1", "'step' is reserved", 0),
    ("OnFrom('soon') * L1", "OnFrom step must be an integer at least 0; got 'soon'", 0),
]


def test_other_names_of_losses_lead_to_known_names():
    for known, others in OTHER_NAMES.items():
        assert known in BUILTINS and not {name.lower() for name in BUILTINS} & set(others)
        for other in others:
            with pytest.raises(ExpressionError, match=f"did you mean '{known}'"):
                parse(f"{other.upper()}()")


def test_names_that_are_no_losses_elsewhere_are_knobs():
    assert parse("edge * L1 + lam * content * TV").knobs == ("edge", "lam", "content")


@pytest.mark.parametrize(("text", "message", "column"), CARETS, ids=[text for text, *_ in CARETS])
def test_an_error_has_a_reason_and_a_position(text, message, column):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    reason, shown, caret = str(caught.value).split("\n")
    assert message in reason
    assert shown.strip() in text
    assert caret == " " * (4 + column) + "^"


@pytest.mark.parametrize("text", ["", "  ", "\n\t\n"])
def test_an_empty_formula_raises(text):
    with pytest.raises(ExpressionError, match="The formula is empty; write one such as"):
        parse(text)


def test_a_long_formula_is_shown_around_the_position():
    text = " + ".join(["L1"] * 200) + " + Foo + " + " + ".join(["L1"] * 200)
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    reason, shown, caret = str(caught.value).split("\n")
    assert "Unknown name 'Foo'" in reason
    assert len(shown) < 250
    assert shown[caret.index("^") :].startswith("Foo")

"""A loss as Python code, as a command, and as options of BasicSR."""

import shlex

import pytest
import torch

from lossmith import L1, TV, parse
from lossmith.importer import read_recipe, to_basicsr
from lossmith.parser import format_command, format_python

FORMULAS = [
    "L1 + 0.1*TV",
    "lam*L1 @ Gram @ VGG('vgg19', 'conv1_1', weights='random') + Ramp(0, 1, 10)*SSIM",
    "30%*L1 + esrgan()",
    "L1.on(pred='filled')",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_python_code_builds_the_same_loss(formula):
    scope: dict = {}
    exec(format_python(parse(formula)), scope)
    assert repr(scope["loss"]) == repr(parse(formula))


def test_python_code_names_the_arguments_of_the_call():
    assert "# loss(pred, target, lam=1.0, step=step)," in format_python(parse("lam*L1 + OnFrom(10)*TV"))


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_command_keeps_the_formula_as_one_word(formula):
    words = shlex.split(format_command(parse(formula), images="my photos; rm -rf /"))
    assert words[words.index("--loss") + 1] == repr(parse(formula))
    assert words[words.index("--images") + 1] == "my photos; rm -rf /"


@pytest.mark.parametrize(
    "formula",
    [
        "0.5*L1 + 2*L2 + 0.1*Charbonnier(0.01) + 3*TV",
        "L1 + 0.1*perceptual('vgg19', ['conv1_2', 'relu3_1']) + 5*L1 @ Gram @ VGG('vgg19', ['conv1_2', 'relu3_1'])",
        "L2 @ VGG('vgg16', {'conv2_2': 0.5, 'conv3_3': 2.0}) + style('vgg16', 'conv3_3')",
        "L1 + 0.1*Adversarial(lr=0.0002, width=32)",
        "L1 + 0.1*Adversarial('unet', 'lsgan') ",
        "L1 + 0.1*Adversarial('unet', 'hinge', betas=[0.5, 0.9])",
        "L1 + 0.1*Adversarial('unet', 'wasserstein', penalty='gp')",
        "esrgan()",
        "real_esrgan()",
    ],
)
def test_options_of_basicsr_are_read_back_as_the_same_loss(formula, tmp_path):
    config = to_basicsr(parse(formula))
    assert not config.left_out
    (tmp_path / "options.yml").write_text(config.text)
    again = read_recipe(tmp_path / "options.yml").loss
    assert sorted(map(repr, again.terms)) == sorted(map(repr, parse(formula).terms))


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("L1 + SSIM", "BasicSR has no class for SSIM()"),
        ("L1 + lpips", "BasicSR has no class for L2() @ Calibrated("),
        ("L1 + lam*TV", 'its weight is Knob("lam"), and BasicSR has numbers only'),
        ("L1 + 30%*TV", "its weight is a share of the gradient; calibrate the loss first"),
        ("L1 + TV.on(pred='x')", "it reads other inputs than the prediction and the target"),
        ("L1 + TV('isotropic')", "WeightedTVLoss is the mean of absolute differences"),
        ("L1 + Adversarial(spectral_norm=False)", "spectral_norm of its discriminator has no option in BasicSR"),
        ("L1 + Adversarial(penalty='r1')", "the models of BasicSR have no penalty 'r1'"),
        ("L1 + -0.1*perceptual('vgg19')", "PerceptualLoss leaves out a negative weight"),
        ("L1 + Adversarial + Adversarial", "the models of BasicSR train one discriminator"),
    ],
)
def test_a_term_without_a_class_in_basicsr_is_named_with_the_reason(formula, reason):
    config = to_basicsr(parse(formula))
    ((name, given),) = config.left_out.items()
    assert given.startswith(reason)
    assert f"# {name} is not expressible: {given}." in config.text
    assert "pixel_opt" in config.options["train"]


def test_a_loss_without_any_class_in_basicsr_has_no_options():
    config = to_basicsr(parse("SSIM"))
    assert config.options == {}
    assert config.text == "# SSIM is not expressible: BasicSR has no class for SSIM().\n"


def test_a_section_that_no_model_of_basicsr_reads_is_noted():
    config = to_basicsr(L1() + TV())
    assert config.notes == ["tv_opt: no model of BasicSR reads it; add its class to yours."]


def test_the_network_of_basicsr_gives_the_value_of_the_loss(tmp_path):
    loss = parse("0.3*L2 + 0.1*Charbonnier(0.02)")
    (tmp_path / "options.yml").write_text(to_basicsr(loss).text)
    pred, target = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    options = to_basicsr(loss).options["train"]
    squares = (pred - target).square()
    expected = options["pixel_opt"]["loss_weight"] * squares.mean()
    expected += options["pixel2_opt"]["loss_weight"] * (squares + options["pixel2_opt"]["eps"]).sqrt().mean()
    torch.testing.assert_close(loss(pred, target), expected, rtol=1e-6, atol=1e-7)

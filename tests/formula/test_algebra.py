"""The algebra: every operator returns a flat sum of weight * distance @ lens."""

import copy
import re

import numpy as np
import pytest
import torch

from lossmith import (
    L1,
    L2,
    SSIM,
    TV,
    VGG,
    Distance,
    Gram,
    Hybrid,
    Knob,
    OnFrom,
    Weight,
    lpips,
    parse,
    perceptual,
    style,
)
from lossmith.losses import gatys

RELU = VGG("vgg16", "relu1_1", weights="random")


def test_a_sum_is_flat():
    loss = (L1() + (L2() + TV())) + (SSIM() + L1()) * 2
    assert [type(term.distance) for term in loss.terms] == [L1, L2, TV, SSIM, L1]
    assert [weight.scale for weight in loss.weights] == [1, 1, 1, 2, 2]


def test_the_builtin_sum_of_losses_is_a_loss():
    assert repr(sum([L1(), 2 * L2()])) == "L1() + 2.0 * L2()"


def test_a_distance_is_a_sum_of_one_term():
    (term,) = L1().terms
    assert term.weight == Weight()
    assert L1().names == ("L1",)
    assert isinstance(L1() + 0, Hybrid)


def test_weights_multiply():
    assert repr(2 * (3 * L1() + L2()) / 4) == "1.5 * L1() + 0.5 * L2()"
    assert repr(Knob("a") * (0.5 * L1())) == '0.5 * Knob("a") * L1()'
    assert repr(-(L1() - 2 * L2())) == "-1.0 * L1() + 2.0 * L2()"


def test_a_lens_distributes_over_a_sum():
    assert repr((L1() + 2 * L2()) @ RELU) == f"L1() @ {RELU!r} + 2.0 * L2() @ {RELU!r}"


def test_lenses_compose_from_right_to_left():
    loss = 0.1 * L1() @ Gram() @ RELU
    assert repr(loss) == f"0.1 * L1() @ Gram() @ {RELU!r}"
    assert repr(0.1 * (L1() @ (Gram() @ RELU))) == repr(loss)


def test_the_value_is_the_weighted_mean_of_its_terms(image_pair):
    pred, target = image_pair(n=3)
    loss = 0.3 * L1() + 2 * L2() @ RELU - 0.1 * TV()
    values = loss.evaluate({"pred": pred, "target": target})
    expected = sum(w.scale * v.mean() for w, v in zip(loss.weights, values.values(), strict=True))
    assert loss(pred, target).shape == ()
    torch.testing.assert_close(loss(pred, target), expected)


@pytest.mark.parametrize("weights", [[2.0, 3.0], {"L1": 2.0, "TV": 3.0}, (np.float64(2), Weight(3.0))])
def test_reweighting_keeps_the_terms(weights):
    loss = (0.5 * L1() + Knob("lam") * TV()).reweighted(weights)
    assert repr(loss) == "2.0 * L1() + 3.0 * TV()"


def test_reweighting_by_name_keeps_the_other_weights():
    assert repr((0.5 * L1() + TV()).reweighted({"TV": OnFrom(3) * 1})) == "0.5 * L1() + OnFrom(3) * TV()"


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"L3": 1.0}, "Unknown term 'L3'; the terms are L1, TV"), ([1.0], "A loss of 2 terms needs 2 weights; got 1")],
)
def test_unknown_names_and_wrong_numbers_of_weights_raise(weights, message):
    with pytest.raises(ValueError, match=message):
        (L1() + TV()).reweighted(weights)


def test_on_replaces_pred_and_target_by_other_inputs(image_pair):
    x, y = image_pair()
    loss = L1().on(pred="filled", target="truth") + TV()
    assert loss.input_names == {"pred", "filled", "truth"}
    torch.testing.assert_close(loss(x, filled=x, truth=y), L1()(x, y) + TV()(x))


def test_inputs_can_be_swapped(image_pair):
    x, y = image_pair()
    loss = L1().on(pred="target", target="pred")
    y.requires_grad_()
    loss(x.requires_grad_(), y).backward()
    assert x.grad is None
    assert y.grad.any()
    assert repr(parse(repr(loss))) == repr(loss)


def test_on_with_the_original_names_restores_the_loss():
    assert repr(L1().on(pred="filled").on(pred="pred")) == "L1()"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TV().on(target="x"), r"TV\(\) reads mask, pred; it has no input 'target' to rename"),
        (lambda: L1().on(pred=3), r"on\(pred=...\) must be the name of an input; got 3"),
        (lambda: L1().on(pred="a b"), r"on\(pred=...\) must be the name of an input; got 'a b'"),
    ],
)
def test_on_with_a_wrong_name_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_term_names_are_short_and_unique():
    loss = L1() + L1() @ RELU + style("vgg16", "relu1_1", weights="random") + lpips("vgg", weights="random")
    assert loss.names == ("L1", "perceptual", "style", "lpips")
    assert (loss + loss).names == (
        *("L1#1", "perceptual.vgg16#1", "style.vgg16#1", "lpips.vgg16#1"),
        *("L1#2", "perceptual.vgg16#2", "style.vgg16#2", "lpips.vgg16#2"),
    )
    assert (L1() + L1().on(pred="filled")).names == ("L1", "L1.filled")


def test_each_paper_is_cited_once():
    text = (gatys() + gatys() + SSIM()).citation()
    assert [line.partition("{")[2].rstrip(",") for line in text.splitlines() if line.startswith("@")] == [
        "simonyan2015",
        "johnson2016",
        "gatys2016",
        "wang2004",
    ]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("L1 @ VGG('vgg19', 'relu3_1')", ["simonyan2015", "johnson2016"]),
        ("Charbonnier @ AlexNet('relu2')", ["charbonnier1994", "krizhevsky2014", "johnson2016"]),
        ("L2 @ CLIP(weights='random')", ["radford2021"]),
        ("PatchNCE @ VGG('vgg16', 'relu3_1')", ["park2020", "simonyan2015"]),
        ("lpips('vgg')", ["simonyan2015", "zhang2018"]),
    ],
)
def test_only_pointwise_distances_of_features_cite_johnson(text, keys):
    if "CLIP" in text:
        pytest.importorskip("transformers")
    assert re.findall(r"^@\w+{(\w+)", parse(text).citation(), re.MULTILINE) == keys


def test_every_citation_key_has_a_bibtex_entry():
    from lossmith import citations, lenses, losses

    for module in (losses, lenses):
        for name in module.__all__:
            for key in getattr(getattr(module, name), "citation_keys", ()):
                assert citations.format_bibtex([key]).startswith("@")


@pytest.mark.parametrize("other", [1, 0.5, "L1", None, Knob("lam"), Gram(), torch.ones(())])
def test_adding_anything_but_a_loss_raises(other):
    with pytest.raises(TypeError):
        L1() + other


@pytest.mark.parametrize("other", [L2(), 3, "VGG"])
def test_composing_with_anything_but_a_lens_raises(other):
    with pytest.raises(TypeError):
        L1() @ other


def test_a_lens_cannot_come_before_a_distance():
    with pytest.raises(TypeError):
        RELU @ L1()


def test_division_by_zero_raises():
    with pytest.raises(TypeError):
        L1() / 0


def test_a_copy_is_independent_and_equal(image_pair):
    loss = 0.1 * perceptual("vgg16", "relu1_1", weights="random") + SSIM() + Knob("lam") * TV()
    again = copy.deepcopy(loss)
    assert repr(again) == repr(loss)
    assert again.terms[1].distance is not loss.terms[1].distance
    assert torch.equal(again(*image_pair(), lam=2.0), loss(*image_pair(), lam=2.0))


class Welsch(Distance):
    """The example of CONTRIBUTING.md."""

    def measure(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -torch.expm1(-((pred - target) / 0.5).square() / 2).flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        return "Welsch()"


def test_a_new_loss_needs_one_method(image_pair):
    pred, target = image_pair()
    loss = L1() + 0.1 * Welsch() @ RELU
    assert loss.names == ("L1", "perceptual")
    assert loss(pred.requires_grad_(), target).isfinite()


class Masked(Distance):
    """Read a third input of another shape."""

    def measure(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ((pred - target).abs() * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)

    def __repr__(self) -> str:
        return "Masked()"


def test_the_parameters_of_measure_are_the_inputs(image_pair):
    pred, target = image_pair()
    loss = L2() + Masked()
    assert loss.input_names == {"pred", "target", "mask"}
    assert loss(pred, target, mask=torch.ones(2, 1, 32, 32)).isfinite()


@pytest.mark.parametrize(
    ("shape", "other"),
    [((2, 3, 32, 32), (2, 3, 16, 16)), ((2, 3, 32, 32), (1, 1, 32, 32)), ((2, 3, 32, 32), (1, 3, 32, 32))],
)
@pytest.mark.parametrize("loss", [L1(), SSIM(), L1() @ RELU], ids=repr)
def test_images_of_different_shapes_raise(loss, shape, other):
    with pytest.raises(ValueError) as caught:
        loss(torch.rand(shape), torch.rand(other))
    assert f"compares 'pred' {shape} and 'target' {other}; the shapes must be equal" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: L1()(x), "The term 'L1' reads the input 'target'; the inputs are pred"),
        (lambda x: L1()(), "The term 'L1' reads the input 'pred'; the inputs are none"),
        (lambda x: L1().on(pred="filled")(x, x), "The term 'L1' reads the input 'filled'; the inputs are pred, target"),
        (lambda x: L1()(x, x, x), "all other inputs by name; got 3 positional tensors"),
        (lambda x: L1()(x, x, pred=x), "The input 'pred' is given twice, by position and by name"),
        (lambda x: L1()(x, None), "The input 'target' must be a PyTorch tensor; got a NoneType"),
        (lambda x: L1()(x.numpy(), x), "The input 'pred' must be a PyTorch tensor; got a ndarray"),
        (lambda x: L1()(x, target=3), "The input 'target' must be a PyTorch tensor; got a int"),
        (lambda x: L1()((255 * x).byte(), x), r"The input 'pred' must be floating point in \[0, 1\]; got torch.uint8"),
        (
            lambda x: L1()(x, (65535 * x).int()),
            r"The input 'target' must be floating point in \[0, 1\]; got torch.int32",
        ),
        (lambda x: (L1() @ RELU)(x[:, :2], x[:, :2]), r"vgg16 expects RGB images \(N, 3, H, W\)"),
    ],
)
def test_bad_inputs_raise_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(torch.rand(2, 3, 16, 16))
    assert "\n" not in str(caught.value)


def test_a_nan_pixel_affects_only_its_own_image():
    x = torch.rand(2, 3, 16, 16)
    x[1, 0, 0, 0] = torch.nan
    values = (L1() + SSIM()).evaluate({"pred": x, "target": torch.rand(2, 3, 16, 16)})
    assert all(value.isfinite().tolist() == [True, False] for value in values.values())


@pytest.mark.slow
def test_a_hybrid_compiles_without_graph_breaks(image_pair):
    loss = L1() + 0.1 * SSIM() + Knob("lam") * TV() + 0.1 * L2() @ Gram()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*image_pair(), lam=2.0), loss(*image_pair(), lam=2.0))


def test_a_single_image_raises():
    image = torch.rand(3, 8, 8)
    with pytest.raises(
        ValueError, match=r"'pred' is a single image, \(3, 8, 8\); make a batch of it with pred\[None\]"
    ):
        L1()(image, image)

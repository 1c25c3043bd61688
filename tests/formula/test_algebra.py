"""The algebra: every operator leaves the flat sum of weight * distance @ lens."""

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
    gatys,
    lpips,
    parse,
    perceptual,
    style,
)

RELU = VGG("vgg16", "relu1_1", weights="random")


def test_a_sum_is_flat():
    loss = (L1() + (L2() + TV())) + (SSIM() + L1()) * 2
    assert [type(term.distance) for term in loss.terms] == [L1, L2, TV, SSIM, L1]
    assert [weight.scale for weight in loss.weights] == [1, 1, 1, 2, 2]


def test_sum_of_a_list_is_a_sum():
    assert repr(sum([L1(), 2 * L2()])) == "L1() + 2.0 * L2()"


def test_a_plain_loss_is_a_sum_of_itself():
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


def test_the_house_formula_means_what_it_says():
    loss = 0.1 * L1() @ Gram() @ RELU
    assert repr(loss) == f"0.1 * L1() @ Gram() @ {RELU!r}"
    assert repr(0.1 * (L1() @ (Gram() @ RELU))) == repr(loss)


def test_the_value_is_the_weighted_mean_of_its_terms(pictures):
    pred, target = pictures(n=3)
    loss = 0.3 * L1() + 2 * L2() @ RELU - 0.1 * TV()
    values = loss.evaluate({"pred": pred, "target": target})
    wanted = sum(w.scale * v.mean() for w, v in zip(loss.weights, values.values(), strict=True))
    assert loss(pred, target).shape == ()
    torch.testing.assert_close(loss(pred, target), wanted)


@pytest.mark.parametrize("weights", [[2.0, 3.0], {"L1": 2.0, "TV": 3.0}, (np.float64(2), Weight(3.0))])
def test_reweighting_keeps_the_terms(weights):
    loss = (0.5 * L1() + Knob("lam") * TV()).reweighted(weights)
    assert repr(loss) == "2.0 * L1() + 3.0 * TV()"


def test_reweighting_some_leaves_the_others():
    assert repr((0.5 * L1() + TV()).reweighted({"TV": OnFrom(3) * 1})) == "0.5 * L1() + OnFrom(3) * TV()"


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"L3": 1.0}, "No term is called 'L3'; there are L1, TV"), ([1.0], "2 terms want 2 weights; got 1")],
)
def test_reweighting_something_else_is_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        (L1() + TV()).reweighted(weights)


def test_on_puts_other_views_in_the_place_of_pred_and_target(pictures):
    x, y = pictures()
    loss = L1().on(pred="filled", target="truth") + TV()
    assert loss.reads == {"pred", "filled", "truth"}
    torch.testing.assert_close(loss(x, filled=x, truth=y), L1()(x, y) + TV()(x))


def test_views_may_be_swapped(pictures):
    x, y = pictures()
    loss = L1().on(pred="target", target="pred")
    y.requires_grad_()
    loss(x.requires_grad_(), y).backward()
    assert x.grad is None
    assert y.grad.any()
    assert repr(parse(repr(loss))) == repr(loss)


def test_on_back_to_the_same_views_is_the_same_loss():
    assert repr(L1().on(pred="filled").on(pred="pred")) == "L1()"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TV().on(target="x"), r"TV\(\) reads pred; it has no 'target' to put elsewhere"),
        (lambda: L1().on(pred=3), r"on\(pred=...\) wants the name of a view; got 3"),
        (lambda: L1().on(pred="a b"), r"on\(pred=...\) wants the name of a view; got 'a b'"),
    ],
)
def test_a_wrong_view_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_names_are_short_and_all_different():
    loss = L1() + L1() @ RELU + style("vgg16", "relu1_1", weights="random") + lpips("vgg", weights="random")
    assert loss.names == ("L1", "perceptual", "style", "lpips")
    assert (loss + loss).names == (
        *("L1#1", "perceptual.vgg16#1", "style.vgg16#1", "lpips.vgg16#1"),
        *("L1#2", "perceptual.vgg16#2", "style.vgg16#2", "lpips.vgg16#2"),
    )
    assert (L1() + L1().on(pred="filled")).names == ("L1", "L1.filled")


def test_citations_name_each_source_once():
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
def test_only_features_compared_place_by_place_are_johnsons(text, keys):
    if "CLIP" in text:
        pytest.importorskip("transformers")
    assert re.findall(r"^@\w+{(\w+)", parse(text).citation(), re.MULTILINE) == keys


def test_every_source_is_known():
    from lossmith import citations, lenses, losses

    for room in (losses, lenses):
        for name in room.__all__:
            for key in getattr(getattr(room, name), "papers", ()):
                assert citations.bibtex([key]).startswith("@")


@pytest.mark.parametrize("other", [1, 0.5, "L1", None, Knob("lam"), Gram(), torch.ones(())])
def test_a_loss_plus_something_else_is_refused(other):
    with pytest.raises(TypeError):
        L1() + other


@pytest.mark.parametrize("other", [L2(), 3, "VGG"])
def test_a_loss_at_something_else_is_refused(other):
    with pytest.raises(TypeError):
        L1() @ other


def test_a_lens_has_no_distance_after_it():
    with pytest.raises(TypeError):
        RELU @ L1()


def test_division_by_zero_is_refused():
    with pytest.raises(TypeError):
        L1() / 0


def test_a_copy_is_independent_and_equal(pictures):
    loss = 0.1 * perceptual("vgg16", "relu1_1", weights="random") + SSIM() + Knob("lam") * TV()
    again = copy.deepcopy(loss)
    assert repr(again) == repr(loss)
    assert again.terms[1].loss is not loss.terms[1].loss
    assert torch.equal(again(*pictures(), lam=2.0), loss(*pictures(), lam=2.0))


class Welsch(Distance):
    """The example of CONTRIBUTING.md: one method is a loss."""

    def measure(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -torch.expm1(-((pred - target) / 0.5).square() / 2).flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        return "Welsch()"


def test_a_new_loss_is_one_method(pictures):
    pred, target = pictures()
    loss = L1() + 0.1 * Welsch() @ RELU
    assert loss.names == ("L1", "perceptual")
    assert loss(pred.requires_grad_(), target).isfinite()


class Masked(Distance):
    """Reads a third view, of another shape."""

    def measure(self, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ((pred - target).abs() * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)

    def __repr__(self) -> str:
        return "Masked()"


def test_the_parameters_of_measure_are_the_views_that_it_reads(pictures):
    pred, target = pictures()
    loss = L2() + Masked()
    assert loss.reads == {"pred", "target", "mask"}
    assert loss(pred, target, mask=torch.ones(2, 1, 32, 32)).isfinite()


@pytest.mark.parametrize(
    ("shape", "other"),
    [((2, 3, 32, 32), (2, 3, 16, 16)), ((2, 3, 32, 32), (1, 1, 32, 32)), ((2, 3, 32, 32), (1, 3, 32, 32))],
)
@pytest.mark.parametrize("loss", [L1(), SSIM(), L1() @ RELU], ids=repr)
def test_pictures_of_different_shapes_are_refused(loss, shape, other):
    with pytest.raises(ValueError) as caught:
        loss(torch.rand(shape), torch.rand(other))
    wrong_channels = other[1] == 1 and loss.networks
    wanted = "wants RGB pictures" if wrong_channels else f"compares 'pred' {shape} with 'target' {other}; it wants them"
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: L1()(x), "The term 'L1' reads the view 'target'; the views are pred"),
        (lambda x: L1()(), "The term 'L1' reads the view 'pred'; the views are none"),
        (lambda x: L1().on(pred="filled")(x, x), "The term 'L1' reads the view 'filled'; the views are pred, target"),
        (lambda x: L1()(x, x, x), "takes pred and target by place, all other views by name; got 3 tensors"),
        (lambda x: L1()(x, x, pred=x), "The view 'pred' is given twice, by place and by name"),
        (lambda x: L1()(x, None), "The view 'target' is a NoneType; a loss wants tensors"),
        (lambda x: L1()(x.numpy(), x), "The view 'pred' is a ndarray; a loss wants tensors"),
        (lambda x: L1()(x, target=3), "The view 'target' is a int; a loss wants tensors"),
        (lambda x: L1()((255 * x).byte(), x), r"The view 'pred' is torch.uint8; a loss wants floats in \[0, 1\]"),
        (lambda x: L1()(x, (65535 * x).int()), r"The view 'target' is torch.int32; a loss wants floats in \[0, 1\]"),
        (lambda x: (L1() @ RELU)(x[:, :1], x[:, :1]), r"vgg16 wants RGB pictures \(N, 3, H, W\)"),
    ],
)
def test_bad_views_get_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(torch.rand(2, 3, 16, 16))
    assert "\n" not in str(caught.value)


def test_a_nan_pixel_shows_and_stays_with_its_image():
    x = torch.rand(2, 3, 16, 16)
    x[1, 0, 0, 0] = torch.nan
    values = (L1() + SSIM()).evaluate({"pred": x, "target": torch.rand(2, 3, 16, 16)})
    assert all(value.isfinite().tolist() == [True, False] for value in values.values())


def test_a_hybrid_compiles_without_a_break(pictures):
    loss = L1() + 0.1 * SSIM() + Knob("lam") * TV() + 0.1 * L2() @ Gram()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*pictures(), lam=2.0), loss(*pictures(), lam=2.0))


def test_one_picture_without_a_batch_is_refused():
    picture = torch.rand(3, 8, 8)
    with pytest.raises(ValueError, match=r"'pred' is one picture, \(3, 8, 8\); make it a batch with pred\[None\]"):
        L1()(picture, picture)

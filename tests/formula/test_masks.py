"""A mask is carried to every layer; each image is measured by its own."""

import pytest
import torch
import torch.nn.functional as F

from lossmith import L1, parse, pinned, tiled

SIDE = 32
FORMULAS = [
    "L1",
    "L2",
    "Lp(3)",
    "Charbonnier",
    "Huber",
    "SquaredNorm",
    "perceptual('vgg16', ['conv1_2', 'conv3_1'])",
    "perceptual('vgg16', 'relu2_2', 'l2')",
    "style('vgg16', ['relu1_2', 'relu2_2'])",
    "style('vgg16', 'relu2_2', 'hw')",
    "style('vgg16', 'relu2_2', 'none')",
    "lpips('vgg')",
    "L1 @ Gram",
    "L1 @ Sobel",
]
every = pytest.mark.parametrize("text", FORMULAS)


@pytest.fixture
def loss(text, untrained):
    return untrained(parse(text)).on(mask="mask")


def views_of(n=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    views = {name: torch.rand(n, 3, SIDE, SIDE, generator=g, dtype=dtype) for name in ("pred", "target")}
    views["pred"].requires_grad_()
    return views


def half(n=2):
    mask = torch.zeros(n, 1, SIDE, SIDE, dtype=torch.float64)
    mask[0, :, :, : SIDE // 2] = 1
    mask[1:, :, SIDE // 4 :] = 1
    return mask


def value_and_gradient(loss, views):
    (value,) = loss.evaluate(views).values()
    return value.detach(), torch.autograd.grad(value.sum(), views["pred"])[0]


@every
def test_a_full_mask_changes_nothing(loss, text, untrained):
    views = views_of()
    plain = untrained(parse(text))
    wanted = value_and_gradient(plain, views)
    found = value_and_gradient(loss, views | {"mask": torch.ones(2, 1, SIDE, SIDE)})
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-15)


@every
def test_an_empty_mask_gives_nothing(loss, text):
    mask = half()
    mask[1] = 0
    value, gradient = value_and_gradient(loss, views_of() | {"mask": mask})
    assert value[0] > 0 and value[1] == 0
    assert gradient[0].abs().sum() > 0 and gradient[1].eq(0).all()


@every
def test_each_image_is_measured_by_its_own_mask(loss, text):
    views = views_of() | {"mask": half()}
    together, _ = value_and_gradient(loss, views)
    for i in range(2):
        one = {name: view[i : i + 1].detach().requires_grad_(name == "pred") for name, view in views.items()}
        alone, _ = value_and_gradient(loss, one)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=0)


@every
def test_a_mask_may_hold_truth_values(loss, text):
    views = views_of()
    wanted = value_and_gradient(loss, views | {"mask": half()})
    torch.testing.assert_close(value_and_gradient(loss, views | {"mask": half().bool()}), wanted)


@every
def test_watching_heeds_the_mask(loss, text):
    views = views_of() | {"mask": half()}
    (wanted,), ((found,), (norm,)) = loss.evaluate(views).values(), (x.values() for x in loss.watch(views))
    torch.testing.assert_close(found, wanted)
    assert norm > 0


@pytest.mark.parametrize("text", ["L1", "L2", "Charbonnier", "Huber", "Lp(3)"])
def test_pixels_under_a_mask_are_those_of_the_part_cut_out(text):
    views, loss = views_of(1), parse(text)
    found = loss.on(mask="mask").evaluate(views | {"mask": half(1)})
    part = {name: view[..., : SIDE // 2] for name, view in views.items()}
    torch.testing.assert_close(list(found.values()), list(loss.evaluate(part).values()))


def test_what_the_mask_hides_may_be_anything():
    views = views_of(1)
    views["pred"].data[..., SIDE // 2 :] = torch.nan
    value, gradient = value_and_gradient(L1().on(mask="mask"), views | {"mask": half(1)})
    assert value.isfinite().all() and gradient.isfinite().all()


def test_a_gram_matrix_under_a_mask_is_that_of_the_part_cut_out():
    views = views_of(1)
    (found,) = parse("L2 @ Gram").on(mask="mask").evaluate(views | {"mask": half(1)}).values()
    (wanted,) = parse("L2 @ Gram").evaluate({n: v[..., : SIDE // 2] for n, v in views.items()}).values()
    torch.testing.assert_close(found, wanted)


def test_a_layer_counts_by_the_area_that_the_mask_covers(untrained):
    loss = untrained(parse("L1 @ VGG('vgg16', 'pool1')"))
    views = views_of(1)
    mask = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    mask[..., :9] = 1  # one column of the pooled map is covered by half
    (found,) = loss.on(mask="mask").evaluate(views | {"mask": mask}).values()
    lens = loss.terms[0].lens
    x, y = (lens({"pixels": views[name].detach()})["pool1"] for name in ("pred", "target"))
    weights = F.avg_pool2d(mask, 2)
    wanted = ((x - y).abs() * weights).sum() / (weights.sum() * x.shape[1])
    torch.testing.assert_close(found.detach(), wanted[None])


def test_the_text_says_the_mask_and_is_read_back():
    loss = parse("L1 + perceptual('vgg16', 'relu1_1')").on(mask="hole")
    assert repr(loss) == 'L1().on(mask="hole") + (L1() @ VGG("vgg16", "relu1_1")).on(mask="hole")'
    assert repr(parse(repr(loss))) == repr(loss)
    assert loss.reads == {"pred", "target", "hole"}


def test_a_mask_is_optional():
    assert L1().reads == {"pred", "target"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L1 + TV", r"The term 'TV', TV\(\), takes no mask"),
        ("fft_l1", "looks through Fourier"),
    ],
)
def test_what_takes_no_mask_says_so(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text).on(mask="mask")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 3, SIDE, SIDE), r"A mask is \(N, 1, H, W\)"),
        (torch.ones(SIDE, SIDE), r"A mask is \(N, 1, H, W\)"),
        (torch.ones(1, 1, SIDE, SIDE), r"A mask is \(N, 1, H, W\)"),
        (torch.ones(2, 1, 8, 8), "give one as large"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        L1().on(mask="mask")(**views_of(), mask=mask)


def test_masks_in_tiles_are_refused():
    with pytest.raises(ValueError, match="it reads 'mask' beside its pictures"):
        tiled(parse("perceptual('vgg16', 'relu1_1')").on(mask="mask"))


def test_a_masked_loss_can_be_planned_and_pinned(untrained):
    loss = untrained(parse("style('vgg16', 'relu1_1') + perceptual('vgg16', 'relu1_1')")).on(mask="mask")
    assert loss.plan((1, 3, SIDE, SIDE)).kept > 0
    views = views_of() | {"mask": half()}
    fixed = pinned(loss, target=views["target"])
    torch.testing.assert_close(fixed(views["pred"], mask=views["mask"]), loss(**views))

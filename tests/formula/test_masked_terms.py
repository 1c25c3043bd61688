"""Masks: resized to every layer; each image has its own."""

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
def loss(text, with_random_weights):
    return with_random_weights(parse(text)).on(mask="mask")


def random_inputs(n=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    inputs = {name: torch.rand(n, 3, SIDE, SIDE, generator=g, dtype=dtype) for name in ("pred", "target")}
    inputs["pred"].requires_grad_()
    return inputs


def half_mask(n=2):
    mask = torch.zeros(n, 1, SIDE, SIDE, dtype=torch.float64)
    mask[0, :, :, : SIDE // 2] = 1
    mask[1:, :, SIDE // 4 :] = 1
    return mask


def value_and_gradient(loss, inputs):
    (value,) = loss.evaluate(inputs).values()
    return value.detach(), torch.autograd.grad(value.sum(), inputs["pred"])[0]


@pytest.mark.slow
@every
def test_a_full_mask_changes_nothing(loss, text, with_random_weights):
    inputs = random_inputs()
    plain = with_random_weights(parse(text))
    expected = value_and_gradient(plain, inputs)
    found = value_and_gradient(loss, inputs | {"mask": torch.ones(2, 1, SIDE, SIDE)})
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


@every
def test_an_empty_mask_gives_value_and_gradient_0(loss, text):
    mask = half_mask()
    mask[1] = 0
    value, gradient = value_and_gradient(loss, random_inputs() | {"mask": mask})
    assert value[0] > 0 and value[1] == 0
    assert gradient[0].abs().sum() > 0 and gradient[1].eq(0).all()


@pytest.mark.slow
@every
def test_each_image_is_measured_by_its_own_mask(loss, text):
    inputs = random_inputs() | {"mask": half_mask()}
    together, _ = value_and_gradient(loss, inputs)
    for i in range(2):
        one = {name: tensor[i : i + 1].detach().requires_grad_(name == "pred") for name, tensor in inputs.items()}
        alone, _ = value_and_gradient(loss, one)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=0)


@pytest.mark.slow
@every
def test_a_mask_can_be_boolean(loss, text):
    inputs = random_inputs()
    expected = value_and_gradient(loss, inputs | {"mask": half_mask()})
    torch.testing.assert_close(value_and_gradient(loss, inputs | {"mask": half_mask().bool()}), expected)


@pytest.mark.slow
@every
def test_values_with_gradient_norms_use_the_mask(loss, text):
    inputs = random_inputs() | {"mask": half_mask()}
    (expected,) = loss.evaluate(inputs).values()
    (found,), (norm,) = (found.values() for found in loss.evaluate_with_gradient_norms(inputs))
    torch.testing.assert_close(found, expected)
    assert norm > 0


@pytest.mark.parametrize("text", ["L1", "L2", "Charbonnier", "Huber", "Lp(3)"])
def test_a_masked_pixel_loss_equals_the_loss_of_the_cropped_part(text):
    inputs, loss = random_inputs(1), parse(text)
    found = loss.on(mask="mask").evaluate(inputs | {"mask": half_mask(1)})
    part = {name: tensor[..., : SIDE // 2] for name, tensor in inputs.items()}
    torch.testing.assert_close(list(found.values()), list(loss.evaluate(part).values()))


def test_masked_pixels_can_be_nan():
    inputs = random_inputs(1)
    inputs["pred"].data[..., SIDE // 2 :] = torch.nan
    value, gradient = value_and_gradient(L1().on(mask="mask"), inputs | {"mask": half_mask(1)})
    assert value.isfinite().all() and gradient.isfinite().all()


def test_a_masked_gram_matrix_equals_that_of_the_cropped_part():
    inputs = random_inputs(1)
    (found,) = parse("L2 @ Gram").on(mask="mask").evaluate(inputs | {"mask": half_mask(1)}).values()
    (expected,) = parse("L2 @ Gram").evaluate({n: v[..., : SIDE // 2] for n, v in inputs.items()}).values()
    torch.testing.assert_close(found, expected)


def test_features_are_weighted_by_the_area_that_the_mask_covers(with_random_weights):
    loss = with_random_weights(parse("L1 @ VGG('vgg16', 'pool1')"))
    inputs = random_inputs(1)
    mask = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    mask[..., :9] = 1  # one column of the pooled map is covered by half_mask
    (found,) = loss.on(mask="mask").evaluate(inputs | {"mask": mask}).values()
    lens = loss.terms[0].lens
    x, y = (lens({"pixels": inputs[name].detach()})["pool1"] for name in ("pred", "target"))
    weights = F.avg_pool2d(mask, 2)
    expected = ((x - y).abs() * weights).sum() / (weights.sum() * x.shape[1])
    torch.testing.assert_close(found.detach(), expected[None])


def test_the_text_contains_the_mask_and_parses_back():
    loss = parse("L1 + perceptual('vgg16', 'relu1_1')").on(mask="hole")
    assert repr(loss) == 'L1().on(mask="hole") + (L1() @ VGG("vgg16", "relu1_1")).on(mask="hole")'
    assert repr(parse(repr(loss))) == repr(loss)
    assert loss.input_names == {"pred", "target", "hole"}


def test_a_mask_is_optional():
    assert L1().input_names == {"pred", "target"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L1 + FocalFrequency", r"The term 'FocalFrequency', FocalFrequency\(\), takes no mask"),
        ("fft_l1", "has the lens Fourier"),
    ],
)
def test_a_term_that_takes_no_mask_raises(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text).on(mask="mask")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 3, SIDE, SIDE), r"A mask must be \(N, 1, H, W\)"),
        (torch.ones(SIDE, SIDE), r"A mask must be \(N, 1, H, W\)"),
        (torch.ones(1, 1, SIDE, SIDE), r"A mask must be \(N, 1, H, W\)"),
        (torch.ones(2, 1, 8, 8), "at least as large"),
    ],
)
def test_a_mask_of_a_wrong_shape_raises(mask, message):
    with pytest.raises(ValueError, match=message):
        L1().on(mask="mask")(**random_inputs(), mask=mask)


def test_a_masked_term_in_tiles_raises():
    with pytest.raises(ValueError, match="the term reads 'mask' besides images"):
        tiled(parse("perceptual('vgg16', 'relu1_1')").on(mask="mask"))


def test_a_masked_loss_can_be_planned_and_pinned(with_random_weights):
    loss = with_random_weights(parse("style('vgg16', 'relu1_1') + perceptual('vgg16', 'relu1_1')")).on(mask="mask")
    assert loss.plan((1, 3, SIDE, SIDE)).saved_bytes > 0
    inputs = random_inputs() | {"mask": half_mask()}
    fixed = pinned(loss, target=inputs["target"])
    torch.testing.assert_close(fixed(inputs["pred"], mask=inputs["mask"]), loss(**inputs))

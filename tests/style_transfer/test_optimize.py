import pytest
import torch

from lossmith import calibrate, parse
from lossmith.style_transfer import StyleTransferConfig, build_style_formula, stylize
from lossmith.style_transfer.colour import compute_colour_statistics, match_colours, replace_luma
from lossmith.style_transfer.image_sizes import pyramid_sides
from lossmith.style_transfer.loss import (
    blend_images,
    check_style_loss,
    normalize_style_weights,
    resolve_style_strength,
    split_style_terms,
)
from lossmith.style_transfer.optimize import GRID_OFFSETS, pad_with_offset

GRAM = 'L2.on(target="content") + 10 * (L2 @ Gram).on(target="style")'


@pytest.fixture
def images():
    """A content image and two style images."""
    generator = torch.Generator().manual_seed(0)
    content = torch.rand(1, 3, 40, 48, generator=generator)
    return content, [torch.rand(1, 3, 36, 36, generator=generator) * scale for scale in (0.5, 1.0)]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_optimization_lowers_the_loss_and_keeps_the_range(images, optimizer):
    content, styles = images
    config = StyleTransferConfig(side=48, steps=12, strength=2.0, optimizer=optimizer)
    result = stylize(content, styles, parse(GRAM), config=config)
    assert result.image.shape == content.shape and not result.stopped
    assert result.stages[-1].last_loss < result.stages[0].first_loss
    assert result.image.min() >= 0 and result.image.max() <= 1


def test_the_result_is_a_function_of_the_seed(images):
    content, styles = images
    configs = [StyleTransferConfig(side=48, steps=4, init="noise", seed=seed) for seed in (0, 0, 1)]
    first, again, other = (stylize(content, styles, parse(GRAM), config=config).image for config in configs)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


def test_strength_0_with_the_content_as_initial_image_returns_the_content(images):
    content, styles = images
    result = stylize(content, styles, parse(GRAM), config=StyleTransferConfig(side=48, steps=5, strength=0.0))
    torch.testing.assert_close(result.image, content)


def test_ctrl_c_returns_the_current_image_in_the_requested_size():
    content, steps = torch.rand(1, 3, 200, 300, generator=torch.Generator().manual_seed(0)), []

    def interrupt(step):
        steps.append(step)
        if len(steps) == 3:
            raise KeyboardInterrupt

    config = StyleTransferConfig(side=300, steps=20)
    result = stylize(content, [content[..., :64, :64]], parse(GRAM), config=config, on_step=interrupt)
    assert result.stopped and result.image.shape == content.shape and len(steps) == 3
    assert [stage.side for stage in result.stages] == [150]


def test_the_gradient_of_weighted_styles_is_that_of_their_mean_gram_matrix(images):
    _, (one, other) = images
    pred = torch.rand(1, 3, 36, 36, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss = split_style_terms(parse('(L2 @ Gram).on(target="style")'), [0.7, 0.3])
    (found,) = torch.autograd.grad(loss(pred=pred, style0=one, style1=other), pred)
    gram = [torch.einsum("nchw,ndhw->ncd", p, p) / p[0].numel() for p in (pred, one, other)]
    (expected,) = torch.autograd.grad((gram[0] - 0.7 * gram[1] - 0.3 * gram[2]).square().mean(), pred)
    torch.testing.assert_close(found, expected)


def test_shares_are_measured_and_strength_multiplies_the_style_terms_only(images):
    content, styles = images
    loss = split_style_terms(parse('20% * L2.on(target="content") + 80% * (L2 @ Gram).on(target="style")'), [1.0])
    inputs = {"pred": blend_images(content, styles[:1], [1.0]), "content": content, "style0": styles[0]}
    one, three = resolve_style_strength(loss, 1.0, inputs), resolve_style_strength(loss, 3.0, inputs)
    assert [term.share for term in calibrate(one, inputs).terms] == pytest.approx([0.2, 0.8], rel=1e-3)
    assert three.weights[0] == one.weights[0]
    assert three.weights[1].scale == pytest.approx(3 * one.weights[1].scale)


def test_the_four_grid_offsets_differ_for_every_pooling_size():
    for pool in (2, 4, 8):
        assert len({(y % pool, x % pool) for y, x in GRID_OFFSETS}) == 4
    ramp = torch.arange(40.0).expand(1, 3, 40, 40)
    shapes = {pad_with_offset({"pred": ramp}, offset)["pred"].shape for offset in GRID_OFFSETS}
    assert shapes == {(1, 3, 64, 64)}


def test_the_sides_of_the_pyramid_double_and_respect_the_smallest_side():
    assert pyramid_sides(1024, 1.0, 32) == [128, 256, 512, 1024]
    assert pyramid_sides(1024, 0.1, 32) == [512, 1024]
    assert pyramid_sides(100, 1.0, 32) == [100]


def test_the_result_with_tiles_is_that_without(images):
    content, styles = images
    loss = parse("L2.on(target='content') + 100 * style('vgg16', 'relu1_2', weights='random').on(target='style')")
    whole, tiled = (
        stylize(content, styles, loss, config=StyleTransferConfig(side=48, steps=3, tile=tile)).image
        for tile in (0, 32)
    )
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-3)


def test_matched_colours_have_mean_and_covariance_of_the_target():
    generator = torch.Generator().manual_seed(2)
    image = 0.4 + 0.1 * torch.rand(1, 3, 32, 32, generator=generator)
    other = 0.5 + 0.2 * torch.rand(1, 3, 32, 32, generator=generator) * torch.tensor([1.0, 0.5, 0.8]).view(3, 1, 1)
    target = compute_colour_statistics([other], [1.0])
    found = compute_colour_statistics([match_colours(image, target)], [1.0])
    torch.testing.assert_close(found.mean, target.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.covariance, target.covariance, atol=2e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_the_matched_colours_of_a_constant_image_are_finite(value):
    constant = torch.full((1, 3, 8, 8), value)
    other = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert match_colours(constant, compute_colour_statistics([other], [1.0])).isfinite().all()
    assert match_colours(other, compute_colour_statistics([constant], [1.0])).isfinite().all()


def test_replacing_the_luma_keeps_the_differences_of_channels():
    content = torch.full((1, 3, 4, 4), 0.4) + torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1)
    found = replace_luma(content, torch.full((1, 3, 4, 4), 0.6))
    torch.testing.assert_close(found - content, (found - content)[:, :1].expand_as(found))
    grey = replace_luma(torch.full((1, 3, 4, 4), 0.2), torch.full((1, 3, 4, 4), 0.7))
    torch.testing.assert_close(grey, torch.full((1, 3, 4, 4), 0.7))


@pytest.mark.parametrize("net", ["embedded", "vgg19"])
def test_the_shares_of_the_default_formula_sum_to_100(net):
    loss = parse(build_style_formula(net, ["relu1_1", "relu2_1"]))
    assert sum(weight.share for weight in loss.weights) == pytest.approx(100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L1", "the formula reads 'target'"),
        ('lam * L1.on(target="style")', "has the knob 'lam'"),
        ('Adversarial.on(target="style")', "has a discriminator"),
        ('L1.on(pred="content", target="style")', "must read the input 'pred'"),
    ],
)
def test_a_formula_that_does_not_suit_raises(text, message):
    with pytest.raises(ValueError, match=message):
        check_style_loss(parse(text))


def test_style_weights_are_normalized():
    assert normalize_style_weights([2, 6], 2) == [0.25, 0.75]


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "one weight for each style image, 2; got 1"), ([1.0, 0.0], r"must be positive; got 1\.0, 0")],
)
def test_style_weights_that_do_not_suit_raise(weights, message):
    with pytest.raises(ValueError, match=message):
        normalize_style_weights(weights, 2)


def test_an_image_that_is_too_small_for_the_networks_raises(images):
    with pytest.raises(ValueError, match="style image must have at least 32 px a side for this loss; got 8x40 px"):
        stylize(images[0], [torch.rand(1, 3, 40, 8)], parse(GRAM))


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"side": 4}, {"strength": -1.0}, {"optimizer": "sgd"}, {"init": "x"}]
)
def test_a_setting_out_of_range_raises(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StyleTransferConfig(**settings)

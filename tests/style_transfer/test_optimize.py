import pytest
import torch

from lossmith import calibrate, parse
from lossmith.style_transfer.colour import compute_colour_statistics, replace_luma, match_colours
from lossmith.style_transfer.loss import (
    blend_images,
    check_style_loss,
    build_style_formula,
    split_style_terms,
    resolve_style_strength,
)
from lossmith.style_transfer.optimize import (
    GRID_OFFSETS,
    StyleTransferConfig,
    stylize,
    normalize_style_weights,
    pad_with_offset,
    pyramid_sides,
)

GRAM = 'L2.on(target="content") + 10 * (L2 @ Gram).on(target="style")'


@pytest.fixture
def pictures():
    chance = torch.Generator().manual_seed(0)
    content = torch.rand(1, 3, 40, 48, generator=chance)
    return content, [torch.rand(1, 3, 36, 36, generator=chance) * scale for scale in (0.5, 1.0)]


def test_painting_lowers_its_loss_and_stays_in_range(pictures):
    content, styles = pictures
    for optimizer in ("adam", "lbfgs"):
        made = stylize(content, styles, parse(GRAM), brush=StyleTransferConfig(side=48, steps=12, strength=2.0, optimizer=optimizer))
        assert made.picture.shape == content.shape and not made.stopped
        assert made.stages[-1].last < made.stages[0].first
        assert made.picture.min() >= 0 and made.picture.max() <= 1


def test_a_painting_is_a_function_of_its_seed(pictures):
    content, styles = pictures
    made = [stylize(content, styles, parse(GRAM), brush=StyleTransferConfig(side=48, steps=4, init="noise", seed=s)) for s in (0, 0, 1)]
    torch.testing.assert_close(made[0].picture, made[1].picture, rtol=0, atol=0)
    assert not torch.equal(made[0].picture, made[2].picture)


def test_strength_0_with_the_content_as_beginning_gives_the_content(pictures):
    content, styles = pictures
    made = stylize(content, styles, parse(GRAM), brush=StyleTransferConfig(side=48, steps=5, strength=0.0))
    torch.testing.assert_close(made.picture, content)


def test_ctrl_c_keeps_what_there_is_in_the_size_that_was_asked_for():
    content, seen = torch.rand(1, 3, 200, 300, generator=torch.Generator().manual_seed(0)), []

    def interrupt(now):
        seen.append(now)
        if len(seen) == 3:
            raise KeyboardInterrupt

    made = stylize(content, [content[..., :64, :64]], parse(GRAM), brush=StyleTransferConfig(side=300, steps=20), watch=interrupt)
    assert made.stopped and made.picture.shape == content.shape and len(seen) == 3
    assert [stage.side for stage in made.stages] == [150]


def test_styles_mixed_by_weight_pull_as_the_mean_of_their_gram_matrices(pictures):
    _, (one, other) = pictures
    pred = torch.rand(1, 3, 36, 36, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss = split_style_terms(parse('(L2 @ Gram).on(target="style")'), [0.7, 0.3])
    (found,) = torch.autograd.grad(loss(pred=pred, style0=one, style1=other), pred)
    gram = [torch.einsum("nchw,ndhw->ncd", p, p) / p[0].numel() for p in (pred, one, other)]
    (expected,) = torch.autograd.grad((gram[0] - 0.7 * gram[1] - 0.3 * gram[2]).square().mean(), pred)
    torch.testing.assert_close(found, expected)


def test_shares_are_measured_and_strength_multiplies_the_style_alone(pictures):
    content, styles = pictures
    loss = split_style_terms(parse('20% * L2.on(target="content") + 80% * (L2 @ Gram).on(target="style")'), [1.0])
    views = {"pred": blend_images(content, styles[:1], [1.0]), "content": content, "style0": styles[0]}
    one, three = resolve_style_strength(loss, 1.0, views), resolve_style_strength(loss, 3.0, views)
    assert [row.share for row in calibrate(one, views).rows] == pytest.approx([0.2, 0.8], rel=1e-3)
    assert three.weights[0] == one.weights[0]
    assert three.weights[1].scale == pytest.approx(3 * one.weights[1].scale)


def test_the_four_places_of_the_grids_are_all_different_at_every_pool():
    for pool in (2, 4, 8):
        assert len({(y % pool, x % pool) for y, x in GRID_OFFSETS}) == 4
    ramp = torch.arange(40.0).expand(1, 3, 40, 40)
    shapes = {pad_with_offset({"pred": ramp}, place)["pred"].shape for place in GRID_OFFSETS}
    assert shapes == {(1, 3, 64, 64)}


def test_sizes_double_and_stop_where_the_networks_see_nothing():
    assert pyramid_sides(1024, 1.0, 32) == [128, 256, 512, 1024]
    assert pyramid_sides(1024, 0.1, 32) == [512, 1024]
    assert pyramid_sides(100, 1.0, 32) == [100]


def test_tiles_paint_the_same_picture(pictures):
    content, styles = pictures
    loss = parse("L2.on(target='content') + 100 * style('vgg16', 'relu1_2', weights='random').on(target='style')")
    whole, tiled = (stylize(content, styles, loss, brush=StyleTransferConfig(side=48, steps=3, tile=tile)).picture for tile in (0, 32))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-3)


def test_recolouring_gives_the_mean_and_covariance_of_the_other_colours():
    chance = torch.Generator().manual_seed(2)
    picture = 0.4 + 0.1 * torch.rand(1, 3, 32, 32, generator=chance)
    other = 0.5 + 0.2 * torch.rand(1, 3, 32, 32, generator=chance) * torch.tensor([1.0, 0.5, 0.8]).view(3, 1, 1)
    mean, spread = compute_colour_statistics([match_colours(picture, compute_colour_statistics([other], [1.0]))], [1.0])
    torch.testing.assert_close(mean, compute_colour_statistics([other], [1.0])[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(spread, compute_colour_statistics([other], [1.0])[1], atol=2e-4, rtol=0)


@pytest.mark.parametrize("picture", [torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)])
def test_a_plain_picture_is_recoloured_to_finite_numbers(picture):
    other = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert match_colours(picture, compute_colour_statistics([other], [1.0])).isfinite().all()
    assert match_colours(other, compute_colour_statistics([picture], [1.0])).isfinite().all()


def test_preserved_colours_keep_their_differences_of_channels():
    content = torch.full((1, 3, 4, 4), 0.4) + torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1)
    found = replace_luma(content, torch.full((1, 3, 4, 4), 0.6))
    torch.testing.assert_close(found - content, (found - content)[:, :1].expand_as(found))
    grey = replace_luma(torch.full((1, 3, 4, 4), 0.2), torch.full((1, 3, 4, 4), 0.7))
    torch.testing.assert_close(grey, torch.full((1, 3, 4, 4), 0.7))


def test_the_usual_formula_asks_for_all_of_the_gradient():
    for net in ("embedded", "vgg19"):
        loss = parse(build_style_formula(net, ["relu1_1", "relu2_1"]))
        assert sum(weight.share for weight in loss.weights) == pytest.approx(100)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("L1", "the formula reads 'target'"),
        ('lam * L1.on(target="style")', "leaves 'lam' open"),
        ('Adversarial.on(target="style")', "has a critic"),
    ],
)
def test_a_formula_that_cannot_paint_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        check_style_loss(parse(text))


def test_weights_that_do_not_fit_the_styles_are_refused():
    assert normalize_style_weights([2, 6], 2) == [0.25, 0.75]
    for weights, words in (
        ([1.0], "2 styles want as many weights; got 1"),
        ([1.0, 0.0], "positive numbers; got 1.0, 0"),
    ):
        with pytest.raises(ValueError, match=words):
            normalize_style_weights(weights, 2)


def test_a_picture_smaller_than_the_networks_allow_is_refused(pictures):
    with pytest.raises(ValueError, match="wants a style of at least 32 px a side; there are 8x40 px"):
        stylize(pictures[0], [torch.rand(1, 3, 40, 8)], parse(GRAM))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"side": 4}, {"strength": -1.0}, {"optimizer": "sgd"}, {"init": "x"}])
def test_a_brush_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StyleTransferConfig(**wrong)

"""A picture in tiles has the value and the gradient of the whole."""

import pytest
import torch

from lossmith import L1, SSIM, TV, Hybrid, Knob, parse, tiled
from lossmith.formula.tiling import cut
from lossmith.lens import Geometry
from lossmith.lenses.network import Sequential

FORMULAS = [
    "perceptual('vgg16', ['conv1_2', 'conv3_3'])",
    "L2 @ VGG('vgg19', {'relu2_2': 0.3, 'pool2': 2})",
    "Charbonnier @ VGG('vgg16', 'relu1_1') + Huber @ VGG('vgg16', 'relu2_1') + Lp(1.5) @ VGG('vgg16', 'relu1_2')",
    "SquaredNorm @ VGG('vgg16', 'conv2_1')",
    "style('vgg16', ['relu1_2', 'relu2_2'])",
    "style('vgg16', 'relu2_2', 'none') + style('vgg16', 'relu2_2', 'hw')",
    "lpips('vgg')",
    "perceptual('squeezenet', ['conv1', 'fire3'])",
    "perceptual('alexnet', ['conv1', 'conv2'])",
    "L1 + 0.1 * TV + 2 * SSIM + perceptual('vgg16', 'conv3_1') + 3 * style('vgg19', 'relu2_1')",
    "L1 @ Gram @ VGG('vgg16', 'relu1_1')",
]
SIZES = [(96, 64), (73, 101)]


def views_of(loss, height, width, n=1):
    g = torch.Generator().manual_seed(0)
    views = {v: torch.rand(n, 3, height, width, generator=g, dtype=torch.float64) for v in sorted(loss.reads)}
    views["pred"].requires_grad_()
    return views


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", FORMULAS)
def test_tiles_give_value_and_gradient_of_the_whole(text, size, untrained):
    loss = untrained(parse(text))
    views = views_of(loss, *size)
    wanted, found = loss(**views), tiled(loss, 24)(**views)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(3 * value, views["pred"])[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8 * float(gradients[1].abs().max()))


def test_deep_layers_and_batches_and_knobs_go_in_tiles(untrained):
    loss = untrained(Knob("lam") * parse("lpips('vgg')") + parse("0.5 * style('vgg16', 'relu4_1')"))
    views = views_of(loss, 144, 112, n=2)
    lam = torch.tensor([0.2, 3.0], dtype=torch.float64)
    wanted, found = loss(**views, lam=lam), tiled(loss, 64)(**views, lam=lam)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(value, views["pred"])[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8 * float(gradients[1].abs().max()))


def test_the_style_may_have_a_size_of_its_own(untrained):
    loss = untrained(parse("gatys"))
    views = views_of(loss, 64, 48)
    views["style"] = torch.rand(1, 3, 40, 88, dtype=torch.float64)
    torch.testing.assert_close(tiled(loss, 32)(**views), loss(**views), rtol=1e-10, atol=0)


def test_no_tile_is_larger_than_asked_and_its_margin(untrained, monkeypatch):
    loss = untrained(parse("perceptual('vgg16', 'conv2_2') + style('vgg16', 'relu2_1')"))
    views = views_of(loss, 96, 96)
    seen = []
    run = Sequential.__call__
    monkeypatch.setattr(
        Sequential, "__call__", lambda s, image, layers: seen.append(image.shape) or run(s, image, layers)
    )
    tiled(loss, 16)(**views).backward()
    margin = next(iter(loss.networks.values())).geometry(96, 96, ["conv2_2"]).margin
    assert max(max(shape[2:]) for shape in seen) == 16 + 2 * margin
    assert len(seen) == 36 * 4  # two views, two rounds


def test_without_a_gradient_a_sum_over_places_takes_one_round(untrained, monkeypatch):
    loss = untrained(parse("style('vgg16', 'relu1_1')"))
    views = views_of(loss, 32, 32)
    seen = []
    run = Sequential.__call__
    monkeypatch.setattr(Sequential, "__call__", lambda s, image, layers: seen.append(1) or run(s, image, layers))
    with torch.no_grad():
        torch.testing.assert_close(tiled(loss, 16)(**views), loss(**views))
    assert len(seen) == 4 * 2 + 2


@pytest.mark.parametrize(("height", "width", "side"), [(64, 64, 16), (37, 50, 16), (16, 200, 48), (5, 5, 16)])
def test_every_feature_is_in_one_tile(height, width, side):
    strides = {"fine": 1, "coarse": 4}
    geometry = Geometry(12, strides, {n: (height // s, width // s) for n, s in strides.items()})
    for layer, stride in strides.items():
        covered = torch.zeros(geometry.sizes[layer])
        share = 0.0
        for tile in cut(height, width, side, geometry):
            _, rows, columns = tile.window
            _, own_rows, own_columns = tile.core[layer]
            down, right = rows.start // stride, columns.start // stride
            covered[
                down + own_rows.start : down + own_rows.stop, right + own_columns.start : right + own_columns.stop
            ] += 1
            share += tile.share[layer]
        assert covered.eq(1).all()
        assert share == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "SSIM @ VGG('vgg16', 'relu1_1')",
            r"The term 'perceptual' cannot be computed in tiles: SSIM\(\) is no mean over places",
        ),
        ("L1 @ VGG('vgg16', 'relu1_1') @ Gram", "stands between the picture and vgg16"),
    ],
)
def test_what_does_not_add_up_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        tiled(parse(text))


def test_a_side_of_nothing_is_refused():
    with pytest.raises(ValueError, match="Tiles want a side of at least 1 px; got 0"):
        tiled(L1(), 0)


def test_views_of_different_sizes_are_refused(untrained):
    loss = untrained(parse("perceptual('vgg16', 'relu1_1')"))
    with pytest.raises(ValueError, match="Terms in tiles want views of one size"):
        tiled(loss)(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 16))


def test_pixel_terms_need_no_tiles():
    loss = Hybrid((L1() + SSIM() + TV()).terms)
    views = views_of(loss, 32, 32)
    torch.testing.assert_close(tiled(loss)(**views), loss(**views))


def test_a_gradient_in_tiles_is_taken_once():
    views = views_of(L1(), 16, 16)
    value = tiled(L1())(**views)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be taken once"):
        value.backward()

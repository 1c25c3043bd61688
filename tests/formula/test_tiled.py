"""Losses in tiles have the value and the gradient of the whole image."""

import pytest
import torch

from lossmith import L1, SSIM, TV, Hybrid, Knob, parse, tiled
from lossmith.backbone import FeatureGeometry
from lossmith.formula.tiling import split_into_tiles
from lossmith.lenses.sequential_network import SequentialNetwork

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


def random_inputs(loss, height, width, n=1):
    g = torch.Generator().manual_seed(0)
    inputs = {v: torch.rand(n, 3, height, width, generator=g, dtype=torch.float64) for v in sorted(loss.input_names)}
    inputs["pred"].requires_grad_()
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", FORMULAS)
def test_value_and_gradient_equal_those_of_the_whole_image(text, size, with_random_weights):
    loss = with_random_weights(parse(text))
    inputs = random_inputs(loss, *size)
    expected, found = loss(**inputs), tiled(loss, 24)(**inputs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(3 * value, inputs["pred"])[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8 * float(gradients[1].abs().max()))


@pytest.mark.slow
def test_deep_layers_batches_and_knobs_work_in_tiles(with_random_weights):
    loss = with_random_weights(Knob("lam") * parse("lpips('vgg')") + parse("0.5 * style('vgg16', 'relu4_1')"))
    inputs = random_inputs(loss, 144, 112, n=2)
    lam = torch.tensor([0.2, 3.0], dtype=torch.float64)
    expected, found = loss(**inputs, lam=lam), tiled(loss, 64)(**inputs, lam=lam)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(value, inputs["pred"])[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8 * float(gradients[1].abs().max()))


@pytest.mark.slow
def test_the_style_image_can_have_another_size(with_random_weights):
    loss = with_random_weights(parse("gatys"))
    inputs = random_inputs(loss, 64, 48)
    inputs["style"] = torch.rand(1, 3, 40, 88, dtype=torch.float64)
    torch.testing.assert_close(tiled(loss, 32)(**inputs), loss(**inputs), rtol=1e-10, atol=0)


@pytest.mark.slow
def test_no_tile_is_larger_than_its_side_and_margins(with_random_weights, monkeypatch):
    loss = with_random_weights(parse("perceptual('vgg16', 'conv2_2') + style('vgg16', 'relu2_1')"))
    inputs = random_inputs(loss, 96, 96)
    seen = []
    run = SequentialNetwork.__call__
    monkeypatch.setattr(
        SequentialNetwork, "__call__", lambda s, image, layers: seen.append(image.shape) or run(s, image, layers)
    )
    tiled(loss, 16)(**inputs).backward()
    margin = next(iter(loss.networks.values())).geometry(96, 96, ["conv2_2"]).margin
    assert max(max(shape[2:]) for shape in seen) == 16 + 2 * margin
    assert len(seen) == 36 * 4  # two inputs, two rounds


def test_a_gram_matrix_without_gradient_takes_one_round(with_random_weights, monkeypatch):
    loss = with_random_weights(parse("style('vgg16', 'relu1_1')"))
    inputs = random_inputs(loss, 32, 32)
    seen = []
    run = SequentialNetwork.__call__
    monkeypatch.setattr(SequentialNetwork, "__call__", lambda s, image, layers: seen.append(1) or run(s, image, layers))
    with torch.no_grad():
        torch.testing.assert_close(tiled(loss, 16)(**inputs), loss(**inputs))
    assert len(seen) == 4 * 2 + 2


@pytest.mark.parametrize(("height", "width", "side"), [(64, 64, 16), (37, 50, 16), (16, 200, 48), (5, 5, 16)])
def test_every_feature_is_in_exactly_one_tile(height, width, side):
    strides = {"fine": 1, "coarse": 4}
    geometry = FeatureGeometry(12, strides, {n: (height // s, width // s) for n, s in strides.items()})
    for layer, stride in strides.items():
        covered = torch.zeros(geometry.sizes[layer])
        share = 0.0
        for tile in split_into_tiles(height, width, side, geometry):
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
    ("text", "message"),
    [
        (
            "SSIM @ VGG('vgg16', 'relu1_1')",
            r"The term 'perceptual' cannot be computed in tiles: SSIM\(\) is not a mean or sum over positions",
        ),
        ("L1 @ VGG('vgg16', 'relu1_1') @ Gram", r"the lens Gram\(\) comes before vgg16"),
    ],
)
def test_terms_that_are_not_sums_over_tiles_raise(text, message):
    with pytest.raises(ValueError, match=message):
        tiled(parse(text))


def test_a_side_of_0_raises():
    with pytest.raises(ValueError, match="The side of a tile must be an integer at least 1; got 0"):
        tiled(L1(), 0)


def test_inputs_of_different_sizes_raise(with_random_weights):
    loss = with_random_weights(parse("perceptual('vgg16', 'relu1_1')"))
    with pytest.raises(ValueError, match="Inputs of terms in tiles must have equal height and width"):
        tiled(loss)(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 16))


def test_pixel_terms_are_computed_on_the_whole_image():
    loss = Hybrid((L1() + SSIM() + TV()).terms)
    inputs = random_inputs(loss, 32, 32)
    torch.testing.assert_close(tiled(loss)(**inputs), loss(**inputs))


def test_a_second_backward_pass_raises():
    inputs = random_inputs(L1(), 16, 16)
    value = tiled(L1())(**inputs)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be taken only once"):
        value.backward()

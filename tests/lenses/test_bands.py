"""The selection of bands, and grey images through networks for RGB."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, check, parse, pinned, tiled
from lossmith.engine.frozen import as_grey, count_flops, prepare_steps, run_frozen
from lossmith.lenses import VGG, AlexNet, Bands, Embedded, ModuleFeatures, PooledVGG, SqueezeNet, Torchvision, vgg

PERCEPTUAL = "perceptual('vgg16', ['relu1_2', 'relu2_2'], weights='random')"
STYLE = "style('vgg16', 'relu1_2', weights='random')"


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_bands_are_counted_from_one():
    image = torch.arange(4.0).view(1, 4, 1, 1)
    assert Bands(3, 2, 1)({"pixels": image})["pixels"].flatten().tolist() == [2, 1, 0]
    assert Bands(4, 4)({"pixels": image})["pixels"].flatten().tolist() == [3, 3]


@pytest.mark.parametrize("text", ["Bands(3, 2, 1)", 'Bands("mean")', 'Bands("each")'])
def test_the_text_of_a_formula_with_bands_is_read_back(text):
    for formula in (f"perceptual('vgg16', 'relu1_1') @ {text}", f"L1 + 0.5 * SSIM @ {text} + style @ {text}"):
        loss = parse(formula)
        assert repr(parse(repr(loss))) == repr(loss) and text in repr(loss)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bands(), 'Bands needs the numbers of bands, such as Bands(3, 2, 1), or "mean" or "each"; got none.'),
        (lambda: Bands(0, 1, 2), "A band (they are counted from 1) must be an integer at least 1; got 0."),
        (lambda: Bands("red"), "Bands must be one of 'mean', 'each'; got 'red'."),
        (
            lambda: (L1() @ Bands(8, 4, 2))(torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8)),
            "Bands(8, 4, 2) needs images of at least 8 bands; got 4 bands.",
        ),
        (
            lambda: parse("InfoNCE @ Bands('each')"),
            "InfoNCE() compares the images of a batch with each other and cannot read each band as an image",
        ),
        (lambda: tiled(parse(f"{PERCEPTUAL} @ Bands('each')")), 'the lens Bands("each") comes before vgg16'),
    ],
)
def test_wrong_bands_raise_one_clear_line(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["L1", "L2", "SSIM(7)", PERCEPTUAL, STYLE, "TV", "L1 @ Sobel"])
@pytest.mark.parametrize("masked", [False, True])
def test_each_band_counts_as_a_repeated_grey_image(text, masked):
    loss, reference = parse(text) @ Bands("each"), parse(text)
    inputs = {"pred": noise(2, 4, 20, 18).requires_grad_(), "target": noise(2, 4, 20, 18, seed=1)}
    if masked:
        loss, reference = loss.on(mask="mask"), reference.on(mask="mask")
        inputs["mask"] = (noise(2, 1, 20, 18, seed=2) > 0.3).double()
    (value,) = loss.evaluate(inputs).values()

    def of_band(band):
        images = {
            n: each if n == "mask" else each[:, band : band + 1].expand(-1, 3, -1, -1) for n, each in inputs.items()
        }
        return next(iter(reference.evaluate(images).values()))

    expected = torch.stack([of_band(band) for band in range(4)]).mean(dim=0)
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(each.sum(), inputs["pred"])[0] for each in (value, expected)]
    torch.testing.assert_close(*gradients)


def test_gradient_norms_of_each_band_are_those_of_as_many_images():
    images = {"pred": noise(2, 4, 16, 16).requires_grad_(), "target": noise(2, 4, 16, 16, seed=1)}
    rows = {name: each.flatten(0, 1)[:, None].detach() for name, each in images.items()}
    rows["pred"].requires_grad_()
    for text in (PERCEPTUAL, "L2"):
        loss = parse(text)
        _, norms = (loss @ Bands("each")).evaluate_with_gradient_norms(images)
        _, expected = loss.evaluate_with_gradient_norms(rows)
        torch.testing.assert_close(list(norms.values()), list(expected.values()))


@pytest.mark.parametrize("text", ["Bands(3, 2, 1)", 'Bands("mean")', 'Bands("each")'])
def test_a_pinned_target_is_seen_through_the_same_bands(text):
    loss = parse(f"({PERCEPTUAL} + {STYLE}) @ {text}")
    pred, target = noise(3, 4, 16, 16), noise(1, 4, 16, 16, seed=1)
    torch.testing.assert_close(pinned(loss, target=target)(pred), loss(pred, target.expand(3, -1, -1, -1)))


@pytest.mark.parametrize(("channels", "lens"), [(1, ""), (5, "@ Bands(3, 2, 1)"), (5, "@ Bands('mean')")])
def test_tiles_give_the_value_and_gradient_of_the_whole_image(channels, lens):
    loss = parse(f"L1 + {PERCEPTUAL} {lens} + {STYLE} {lens}")
    pred, target = noise(1, channels, 70, 52).requires_grad_(), noise(1, channels, 70, 52, seed=1)
    values = [each(pred, target) for each in (loss, tiled(loss, 32))]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, pred)[0] for value in values))


NETWORKS = {
    "vgg16": lambda: VGG("vgg16", ["conv1_1", "relu2_2", "conv3_3"], weights="random"),
    "alexnet": lambda: AlexNet(["conv1", "relu2"], weights="random"),
    "squeezenet": lambda: SqueezeNet(["conv1", "fire4"], weights="random"),
    "embedded": lambda: Embedded(["conv1_1", "relu5_2"], weights="random"),
    "dists": lambda: PooledVGG(["pixels", "relu1_2", "relu3_3"], weights="random"),
    "resnet18": lambda: Torchvision("resnet18", ["conv1", "layer1"], weights="random"),
    "inception_v3": lambda: Torchvision("inception_v3", "Conv2d_1a_3x3", weights="random"),
}


@pytest.mark.parametrize("size", [(40, 41), (47, 43)])
@pytest.mark.parametrize(
    "name", [n if n != "inception_v3" else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS]
)
def test_a_grey_image_gives_the_features_and_gradient_of_the_repeated_one(name, size):
    lens, grey = NETWORKS[name](), noise(2, 1, *size)
    found = []
    for repeats in (1, 3):
        image = grey.clone().requires_grad_()
        maps = lens({"pixels": image.expand(-1, repeats, -1, -1)})
        (gradient,) = torch.autograd.grad(sum(each.sin().sum() for each in maps.values()), image)
        found.append((maps, gradient))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


def squared_error(lens, repeats, dtype):
    """Return the L2 distance of two grey images through a network, and its gradient."""
    pred, target = (noise(2, 1, 48, 48, seed=seed, dtype=torch.float32).to(dtype) for seed in (0, 1))
    inputs = {"pred": pred.requires_grad_().expand(-1, repeats, -1, -1), "target": target.expand(-1, repeats, -1, -1)}
    (value,) = (parse("L2") @ lens).evaluate(inputs).values()
    return value.detach(), torch.autograd.grad(value.sum(), pred)[0]


FIRST_CONVOLUTIONS = {
    "vgg16": lambda: VGG("vgg16", "conv1_1", weights="random"),
    "alexnet": lambda: AlexNet("conv1", weights="random"),
    "squeezenet": lambda: SqueezeNet("conv1", weights="random"),
    "embedded": lambda: Embedded("conv1_1", weights="random"),
    "resnet18": lambda: Torchvision("resnet18", "conv1", weights="random"),
}


@pytest.mark.parametrize("name", FIRST_CONVOLUTIONS)
def test_in_float32_the_summed_kernel_agrees_with_the_repeated_image_to_one_millionth(name):
    lens = FIRST_CONVOLUTIONS[name]()
    (value, gradient), (expected, repeated) = (squared_error(lens, repeats, torch.float32) for repeats in (1, 3))
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    assert (gradient - repeated).norm() < 1e-6 * repeated.norm()


@pytest.mark.parametrize("name", ["vgg16", "alexnet", "embedded"])
def test_in_float32_a_grey_image_is_as_exact_as_the_repeated_one(name):
    # the layers behind the first convolution are the same and amplify the rounding of both, in "embedded" to 4e-6
    lens = NETWORKS[name]()
    value, gradient = squared_error(lens, 1, torch.float32)
    expected, repeated = squared_error(lens, 3, torch.float32)
    exact = squared_error(lens, 3, torch.float64)[1]
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    assert (gradient - exact).norm() < 1.5 * (repeated - exact).norm() + 1e-7 * exact.norm()


def test_a_grey_image_under_autocast_agrees_as_two_precisions_do():
    lens, grey = NETWORKS["vgg16"](), noise(1, 1, 32, 32, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        maps, repeated = lens({"pixels": grey}), lens({"pixels": grey.expand(-1, 3, -1, -1)})
    for layer, features in maps.items():
        assert (features - repeated[layer]).norm() < 0.01 * repeated[layer].norm()


def test_the_first_convolution_of_a_grey_image_costs_a_third():
    for channels, factor in ((3, 1.0), (1, 1 / 3)):
        plan = parse("L1 @ VGG('vgg16', 'conv1_1', weights='random')").plan((2, channels, 32, 32))
        first = 2 * 2 * 32 * 32 * 64 * 27
        assert plan.forward_flops == pytest.approx(2 * first * factor)
        assert plan.backward_flops == pytest.approx(first * factor)


@pytest.mark.parametrize("text", [PERCEPTUAL, f"{PERCEPTUAL} @ Bands('each')", f"{PERCEPTUAL} @ Bands(3, 2, 1)"])
def test_predicted_operations_of_bands_equal_the_counted_ones(text):
    channels = 5 if "Bands" in text else 1
    loss, pred, target = parse(text), noise(2, channels, 24, 24), noise(2, channels, 24, 24, seed=1)
    loss(pred, target)
    with FlopCounterMode(display=False) as counter:
        value = loss(pred.requires_grad_(), target)
    assert counter.get_total_flops() == pytest.approx(loss.plan(pred.shape).forward_flops, rel=1e-4)  # the border
    with FlopCounterMode(display=False) as counter:
        value.backward()
    assert counter.get_total_flops() == loss.plan(pred.shape).backward_flops


def test_the_default_plan_has_as_many_bands_as_a_lens_needs():
    assert parse("L1 @ Bands(8, 4, 2)").plan().shape == (1, 8, 256, 256)


def test_a_grey_network_shares_all_weights_but_the_first():
    mean, steps = torch.zeros(1, 3, 1, 1), prepare_steps(_with_weights(), dtype=torch.float32)
    _, grey = as_grey(mean, steps)
    assert grey[0].weight.shape[1] == 1 and all(a is b for a, b in zip(grey[1:], steps[1:], strict=True))
    assert (
        count_flops(grey[:1], (1, 1, 8, 8), {"conv1_1"})[0] * 3 == count_flops(steps[:1], (1, 3, 8, 8), {"conv1_1"})[0]
    )
    assert run_frozen(grey, torch.rand(1, 1, 8, 8), {"relu1_1"})["relu1_1"].shape == (1, 64, 8, 8)


def _with_weights():
    return vgg.VGG("vgg16", "relu1_1", weights="random").backbone.load_steps()[1]


class Skip(torch.nn.Module):
    """A module that uses the image twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Conv2d(3, 2, 1)

    def forward(self, image):
        return self.out(image + self.conv(image))


def test_a_module_that_uses_the_image_twice_gets_the_repeated_one():
    lens = ModuleFeatures(Skip(), "out", mean=(0.1, 0.2, 0.6), std=(0.2, 0.3, 0.4), image_size=16)
    assert lens.backbone.grey_convolution is None
    grey = noise(1, 1, 16, 16, dtype=torch.float32)
    maps, repeated = lens({"pixels": grey}), lens({"pixels": grey.expand(-1, 3, -1, -1)})
    torch.testing.assert_close(maps, repeated)


def test_a_transform_of_a_grey_image_takes_the_same_border():
    lens = VGG("vgg16", "conv1_1", weights="random")
    grey = noise(1, 1, 9, 9)

    def total(image):
        return lens({"pixels": image})["conv1_1"].sin().sum()

    repeated = torch.func.grad(lambda image: total(image.expand(-1, 3, -1, -1)))(grey)
    torch.testing.assert_close(torch.func.grad(total)(grey), repeated)


def test_the_doctor_makes_images_with_the_bands_that_a_lens_needs():
    assert not check(parse("L1 + L1 @ Bands(6, 1)")).errors

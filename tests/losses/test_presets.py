"""The presets, term by term compared with their papers and their authors' code, on untrained networks."""

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith import VGG, Adversarial, Hybrid
from lossmith.losses import VQCommitment, aot_gan, esrgan, gatys, johnson, pconv, real_esrgan, srgan, vqgan

UNIT = 57.63
"""The ratio of Caffe's features to torchvision's: 255 times the mean of torchvision's standard deviations."""


def features(image: Tensor, name: str, layers: list[str]) -> dict[str, Tensor]:
    return VGG(name, layers, weights="random")({"pixels": image})


def gram(f: Tensor) -> Tensor:
    """Return Gram matrices as in BasicSR, AOT-GAN and PConv."""
    n, c, h, w = f.shape
    flat = f.view(n, c, h * w)
    return flat.bmm(flat.transpose(1, 2)) / (c * h * w)


def compute_logits(loss: Hybrid, *images: Tensor) -> list[Tensor]:
    (network,) = (term.distance.discriminator for term in loss.terms if isinstance(term.distance, Adversarial))
    return [network(image) for image in images]


def vanilla_gan(logits: Tensor, real: bool) -> Tensor:
    """Compute BasicSR's vanilla GANLoss."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def assert_terms_agree(loss: Hybrid, expected: list[Tensor], **inputs: Tensor) -> None:
    """Assert that the weighted value of each term is the expected one."""
    values = loss.evaluate(inputs)
    weighted = [weight.value_at() * value.mean() for weight, value in zip(loss.weights, values.values(), strict=True)]
    assert len(weighted) == len(expected)
    for name, ours, theirs in zip(values, weighted, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture
def pair(image_pair):
    return image_pair(dtype=torch.float64)


@pytest.fixture
def hole(pair):
    """Return the mask of a hole, and the inputs of an inpainting loss."""
    pred, target = pair
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.float64)
    mask[0, :, 5:20, 8:30], mask[1, :, 0:9, 12:20] = 1, 1
    filled, kept = mask * pred + (1 - mask) * target, (1 - mask) * pred + mask * target
    return mask, {"pred": pred, "target": target, "filled": filled, "kept": kept}


def test_the_style_image_may_have_another_size(with_random_weights, image_pair):
    pred, content = image_pair(side=16)
    loss = with_random_weights(johnson())
    assert loss(pred, content=content, style=image_pair(side=24)[1]).isfinite()


def test_gatys_is_the_papers_formula_on_caffes_features(with_random_weights, pair, image_pair):
    (x, content), art = (image[:1] for image in pair), image_pair(seed=1, dtype=torch.float64)[1][:1]
    names = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    f, p, a = (
        {n: UNIT * m[0].flatten(1) for n, m in features(v, "vgg19", [*names, "relu4_2"]).items()}
        for v in (x, content, art)
    )
    alpha, beta = 1.0, 1e3
    texture = torch.zeros((), dtype=torch.float64)
    for n in names:
        channels, positions = f[n].shape
        texture += (f[n] @ f[n].T - a[n] @ a[n].T).square().sum() / (4 * channels**2 * positions**2) / 5
    expected = [alpha * (f["relu4_2"] - p["relu4_2"]).square().sum() / 2, beta * texture]
    assert_terms_agree(with_random_weights(gatys()), expected, pred=x, content=content, style=art)


def test_johnson_is_the_authors_code_on_caffes_features(with_random_weights, pair, image_pair):
    (x, content), art = (image[:1] for image in pair), image_pair(seed=1, dtype=torch.float64)[1][:1]
    names = ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    f, p, a = ({n: UNIT * m for n, m in features(v, "vgg16", names).items()} for v in (x, content, art))
    corner = 255 * x[..., :-1, :-1]
    differences = (corner - 255 * x[..., 1:, :-1]).square() + (corner - 255 * x[..., :-1, 1:]).square()
    expected = [
        F.mse_loss(f["relu3_3"], p["relu3_3"]),
        5 * sum(F.mse_loss(gram(f[n]), gram(a[n])) for n in names),
        1e-6 * differences.sum() / 2,
    ]
    assert_terms_agree(with_random_weights(johnson()), expected, pred=x, content=content, style=art)


def test_srgan_is_the_papers_formula_on_caffes_features(with_random_weights, pair):
    loss = with_random_weights(srgan(width=4))
    x, y = (UNIT * features(v, "vgg19", ["relu5_4"])["relu5_4"] / 12.75 for v in pair)
    (logits,) = compute_logits(loss, pair[0])
    expected = [F.mse_loss(x, y), -1e-3 * torch.log(torch.sigmoid(logits)).mean()]
    assert_terms_agree(loss, expected, pred=pair[0], target=pair[1])


def test_srgan_mse_is_on_images_in_minus_one_to_one(pair):
    loss = srgan("mse", width=4)
    x, y = (2 * v - 1 for v in pair)
    (logits,) = compute_logits(loss, pair[0])
    assert_terms_agree(loss, [F.mse_loss(x, y), 1e-3 * vanilla_gan(logits, True)], pred=pair[0], target=pair[1])


def test_esrgan_is_basicsrs_model(with_random_weights, pair):
    loss = with_random_weights(esrgan(width=4))
    x, y = (features(v, "vgg19", ["conv5_4"])["conv5_4"] for v in pair)
    fake, real = compute_logits(loss, *pair)
    adversarial = (vanilla_gan(real - fake.mean(), False) + vanilla_gan(fake - real.mean(), True)) / 2
    assert_terms_agree(
        loss, [1e-2 * F.l1_loss(*pair), F.l1_loss(x, y), 5e-3 * adversarial], pred=pair[0], target=pair[1]
    )


@pytest.mark.parametrize(
    ("preset", "alone"), [(esrgan, {"L1"}), (real_esrgan, {"L1"}), (vqgan, {"L1", "lpips", "VQCommitment"})]
)
def test_a_warmup_leaves_out_the_discriminator_and_then_equals_the_preset(preset, alone):
    loss, whole = preset(width=4, warmup=10), preset(width=4)
    assert set(loss.active_terms(9)) == alone and loss.active_terms(10) == loss.names == whole.names
    assert [weight.value_at(10) for weight in loss.weights] == [weight.value_at(10) for weight in whole.weights]


def test_real_esrgan_is_the_authors_configuration(with_random_weights, pair):
    loss = with_random_weights(real_esrgan(width=4))
    weights = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
    x, y = (features(v, "vgg19", list(weights)) for v in pair)
    (fake,) = compute_logits(loss, pair[0])
    content = sum(w * F.l1_loss(x[n], y[n]) for n, w in weights.items())
    assert_terms_agree(loss, [F.l1_loss(*pair), content, 0.1 * vanilla_gan(fake, True)], pred=pair[0], target=pair[1])


def test_pconv_is_the_papers_formula(with_random_weights, hole):
    mask, inputs = hole
    pred, target, filled = inputs["pred"], inputs["target"], inputs["filled"]
    layers = ["pool1", "pool2", "pool3"]
    x, y, z = (features(v, "vgg16", layers) for v in (pred, target, filled))
    total = sum_variation(filled) + sum_variation(filled, along=3)
    expected = [
        ((1 - mask) * (pred - target)).abs().sum() / pred.numel(),
        6 * (mask * (pred - target)).abs().sum() / pred.numel(),
        *(0.05 * sum(F.l1_loss(f[n], y[n]) for n in layers) for f in (x, z)),
        *(120 * sum((gram(f[n]) - gram(y[n])).abs().mean() for n in layers) for f in (x, z)),
        0.1 * total / 31 * 32 / pred.numel(),
    ]
    assert_terms_agree(with_random_weights(pconv()), expected, **inputs)


def sum_variation(image: Tensor, region: Tensor | float = 1.0, along: int = 2) -> Tensor:
    """Return the sum of absolute differences along an axis, where both pixels are in a region."""
    first, second = image.narrow(along, 0, 31), image.narrow(along, 1, 31)
    inside = region.narrow(along, 0, 31) * region.narrow(along, 1, 31) if isinstance(region, Tensor) else region
    return ((second - first).abs() * inside).sum()


def test_the_variation_of_pconv_has_the_gradient_of_that_in_the_dilated_hole(hole):
    mask, inputs = hole
    region = F.conv2d(mask, mask.new_ones(1, 1, 3, 3), padding=1).clamp_max(1)

    def compute_gradient(vary) -> Tensor:
        pred = inputs["pred"].clone().requires_grad_()
        filled = mask * pred + (1 - mask) * inputs["target"]
        return torch.autograd.grad(vary(filled), pred)[0]

    theirs = compute_gradient(lambda v: (sum_variation(v, region) + sum_variation(v, region, 3)) / v.numel())
    ours = compute_gradient(lambda v: pconv().terms[-1].distance(v))
    torch.testing.assert_close(ours * 31 / 32, theirs)


def test_aot_gan_is_the_authors_code(with_random_weights, hole):
    mask, inputs = hole
    loss = with_random_weights(aot_gan(width=4))
    content, texture = [f"relu{i}_1" for i in range(1, 6)], ["relu2_2", "relu3_4", "relu4_4", "relu5_2"]
    x, y = (features(inputs[v], "vgg19", content + texture) for v in ("pred", "target"))
    (logits,) = compute_logits(loss, inputs["filled"])
    fractions = F.adaptive_avg_pool2d(mask, logits.shape[2:])  # the authors upscale the logits to the size of the mask
    squares = ((logits - 1).square() * fractions / fractions.mean(dim=(1, 2, 3), keepdim=True)).mean()
    expected = [
        F.l1_loss(2 * inputs["pred"] - 1, 2 * inputs["target"] - 1),
        250 * sum(F.l1_loss(gram(x[n]), gram(y[n])) for n in texture),
        0.1 * sum(F.l1_loss(x[n], y[n]) for n in content),
        0.01 * squares,
    ]
    assert_terms_agree(loss, expected, pred=inputs["pred"], target=inputs["target"], filled=inputs["filled"], mask=mask)


def test_vqgan_is_the_authors_code_with_an_adaptive_weight_of_one(with_random_weights, pair):
    loss = with_random_weights(vqgan(width=4))
    generator = torch.Generator().manual_seed(2)
    z, e = (torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    x, y = (2 * v - 1 for v in pair)
    (logits,) = compute_logits(loss, pair[0])
    quantised = (z.detach() - e).square().mean() + 0.25 * (z - e.detach()).square().mean()
    expected = [F.l1_loss(x, y), published_lpips(*pair), 0.8 * -logits.mean(), quantised]
    assert_terms_agree(loss, expected, pred=pair[0], target=pair[1], latents=z, codes=e)


def published_lpips(x: Tensor, y: Tensor) -> Tensor:
    """Compute LPIPS with the heads of its package on an untrained VGG-16."""
    package = pytest.importorskip("lpips")
    heads = torch.load(Path(package.__file__).parent / "weights/v0.1/vgg.pth", "cpu", weights_only=True)
    layers = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]
    total = torch.zeros((), dtype=x.dtype)
    maps = [features(v, "vgg16", layers) for v in (x, y)]
    for i, layer in enumerate(layers):
        a, b = (f[layer] / f[layer].norm(dim=1, keepdim=True) for f in maps)
        total += (heads[f"lin{i}.model.1.weight"] * (a - b).square()).sum(dim=1).mean()
    return total


def test_the_authors_quantiser_of_vqgan_has_beta_on_the_other_summand():
    generator = torch.Generator().manual_seed(0)
    z, e = (torch.randn(2, 4, 3, 3, generator=generator).requires_grad_() for _ in range(2))
    legacy = (e.detach() - z).square().mean() + 0.25 * (e - z.detach()).square().mean()
    ours = (0.25 * VQCommitment(4.0))(latents=z, codes=e)
    torch.testing.assert_close(ours, legacy)
    for theirs, own in zip(torch.autograd.grad(legacy, (z, e)), torch.autograd.grad(ours, (z, e)), strict=True):
        torch.testing.assert_close(own, theirs)


PRESETS = [gatys, johnson, srgan, esrgan, real_esrgan, pconv, aot_gan, vqgan]
GROWING = {"gatys": {"perceptual"}, "johnson": {"TV"}}


def make_inputs(loss, image_pair, **size):
    """Return an image for each input, and a mask of the left half for "mask"."""
    inputs = {name: image_pair(seed=i, **size)[0] for i, name in enumerate(sorted(loss.input_names))}
    if "mask" in inputs:
        columns = torch.arange(inputs["mask"].shape[-1]) < inputs["mask"].shape[-1] // 2
        inputs["mask"] = columns.to(inputs["mask"]).expand_as(inputs["mask"][:, :1])
    return inputs


def build(preset) -> Hybrid:
    return preset(width=4) if "width" in inspect.signature(preset).parameters else preset()


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_terms_grow_with_the_resolution_only_where_the_docstring_says_so(preset, with_random_weights, image_pair):
    loss = with_random_weights(build(preset))
    inputs = make_inputs(loss, image_pair, n=1, side=64)
    values = [loss.evaluate({n: v.tile(1, 1, tiles, tiles) for n, v in inputs.items()}) for tiles in (1, 2)]
    for name, small in values[0].items():
        ratio = (values[1][name] / small).item()
        assert (ratio > 2.5) == (name in GROWING.get(preset.__name__, ())), (name, ratio)
    assert "grow" in inspect.getdoc(preset)


@pytest.mark.parametrize("preset", [srgan, real_esrgan, pconv, aot_gan, vqgan])
def test_the_batch_size_changes_no_value(preset, with_random_weights, image_pair):
    loss = with_random_weights(build(preset))
    inputs = make_inputs(loss, image_pair)
    joint, alone = loss.evaluate(inputs), [loss.evaluate({n: v[i : i + 1] for n, v in inputs.items()}) for i in (0, 1)]
    for name, values in joint.items():
        torch.testing.assert_close(values, torch.cat([alone[i][name] for i in (0, 1)]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("preset", [srgan, esrgan, real_esrgan, aot_gan, vqgan])
def test_the_discriminator_is_trained_beside_the_network(preset, with_random_weights, image_pair):
    loss = with_random_weights(build(preset))
    inputs = make_inputs(loss, image_pair)
    before = loss.evaluate(inputs)["Adversarial"]
    metrics = {name.split(".")[1] for name in loss.step_discriminators(inputs)}
    assert metrics == {"loss", "real_accuracy", "fake_accuracy", "logit_std"}
    assert not torch.equal(loss.evaluate(inputs)["Adversarial"], before)


def test_an_unknown_content_raises():
    with pytest.raises(ValueError, match=r"srgan content must be one of 'vgg54', 'mse'; got 'vgg22'\."):
        srgan("vgg22")

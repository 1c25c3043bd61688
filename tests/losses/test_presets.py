"""The presets, term by term beside what their papers and their authors' code compute, on untrained networks."""

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith import (
    VGG,
    Adversarial,
    Hybrid,
    VQCommitment,
    aot_gan,
    esrgan,
    gatys,
    johnson,
    pconv,
    real_esrgan,
    srgan,
    vqgan,
)

UNIT = 57.63
"""By what Caffe's features exceed torchvision's: 255 times the mean of torchvision's deviations."""


def features(image: Tensor, name: str, layers: list[str]) -> dict[str, Tensor]:
    return VGG(name, layers, weights="random")({"pixels": image})


def gram(f: Tensor) -> Tensor:
    """As BasicSR, AOT-GAN and PConv have it."""
    n, c, h, w = f.shape
    flat = f.view(n, c, h * w)
    return flat.bmm(flat.transpose(1, 2)) / (c * h * w)


def verdicts(loss: Hybrid, *images: Tensor) -> list[Tensor]:
    (critic,) = (term.distance.learner.critic for term in loss.terms if isinstance(term.distance, Adversarial))
    return [critic(image) for image in images]


def certain(logits: Tensor, real: bool) -> Tensor:
    """BasicSR's vanilla GANLoss."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def agrees(loss: Hybrid, wanted: list[Tensor], **views: Tensor) -> None:
    """Asserts that each term, weighted, is what it should be."""
    values = loss.evaluate(views)
    found = [weight.value_at() * value.mean() for weight, value in zip(loss.weights, values.values(), strict=True)]
    assert len(found) == len(wanted)
    for name, ours, theirs in zip(values, found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture
def pair(image_pair):
    return image_pair(dtype=torch.float64)


@pytest.fixture
def hole(pair):
    """A prediction, the truth, a mask of a hole, and what inpainting makes of them."""
    pred, target = pair
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.float64)
    mask[0, :, 5:20, 8:30], mask[1, :, 0:9, 12:20] = 1, 1
    filled, kept = mask * pred + (1 - mask) * target, (1 - mask) * pred + mask * target
    return mask, {"pred": pred, "target": target, "filled": filled, "kept": kept}


def test_a_style_picture_may_have_another_size(with_random_weights, image_pair):
    pred, content = image_pair(side=16)
    loss = with_random_weights(johnson())
    assert loss(pred, content=content, style=image_pair(side=24)[1]).isfinite()


def test_gatys_is_his_formula_on_caffes_features(with_random_weights, pair, image_pair):
    (x, content), art = (picture[:1] for picture in pair), image_pair(seed=1, dtype=torch.float64)[1][:1]
    names = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    f, p, a = (
        {n: UNIT * m[0].flatten(1) for n, m in features(v, "vgg19", [*names, "relu4_2"]).items()}
        for v in (x, content, art)
    )
    alpha, beta = 1.0, 1e3
    texture = torch.zeros((), dtype=torch.float64)
    for n in names:
        channels, places = f[n].shape
        texture += (f[n] @ f[n].T - a[n] @ a[n].T).square().sum() / (4 * channels**2 * places**2) / 5
    wanted = [alpha * (f["relu4_2"] - p["relu4_2"]).square().sum() / 2, beta * texture]
    agrees(with_random_weights(gatys()), wanted, pred=x, content=content, style=art)


def test_johnson_is_his_code_on_caffes_features(with_random_weights, pair, image_pair):
    (x, content), art = (picture[:1] for picture in pair), image_pair(seed=1, dtype=torch.float64)[1][:1]
    names = ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    f, p, a = ({n: UNIT * m for n, m in features(v, "vgg16", names).items()} for v in (x, content, art))
    corner = 255 * x[..., :-1, :-1]
    differences = (corner - 255 * x[..., 1:, :-1]).square() + (corner - 255 * x[..., :-1, 1:]).square()
    wanted = [
        F.mse_loss(f["relu3_3"], p["relu3_3"]),
        5 * sum(F.mse_loss(gram(f[n]), gram(a[n])) for n in names),
        1e-6 * differences.sum() / 2,
    ]
    agrees(with_random_weights(johnson()), wanted, pred=x, content=content, style=art)


def test_srgan_is_its_papers_formula_on_caffes_features(with_random_weights, pair):
    loss = with_random_weights(srgan(width=4))
    x, y = (UNIT * features(v, "vgg19", ["relu5_4"])["relu5_4"] / 12.75 for v in pair)
    (logits,) = verdicts(loss, pair[0])
    wanted = [F.mse_loss(x, y), -1e-3 * torch.log(torch.sigmoid(logits)).mean()]
    agrees(loss, wanted, pred=pair[0], target=pair[1])


def test_srgan_on_pixels_takes_pictures_about_zero(pair):
    loss = srgan("mse", width=4)
    x, y = (2 * v - 1 for v in pair)
    (logits,) = verdicts(loss, pair[0])
    agrees(loss, [F.mse_loss(x, y), 1e-3 * certain(logits, True)], pred=pair[0], target=pair[1])


def test_esrgan_is_basicsrs_model(with_random_weights, pair):
    loss = with_random_weights(esrgan(width=4))
    x, y = (features(v, "vgg19", ["conv5_4"])["conv5_4"] for v in pair)
    fake, real = verdicts(loss, *pair)
    adversarial = (certain(real - fake.mean(), False) + certain(fake - real.mean(), True)) / 2
    agrees(loss, [1e-2 * F.l1_loss(*pair), F.l1_loss(x, y), 5e-3 * adversarial], pred=pair[0], target=pair[1])


@pytest.mark.parametrize(
    ("preset", "alone"), [(esrgan, {"L1"}), (real_esrgan, {"L1"}), (vqgan, {"L1", "lpips", "VQCommitment"})]
)
def test_a_warm_up_leaves_the_critic_out_and_then_is_the_preset(preset, alone):
    loss, whole = preset(width=4, warmup=10), preset(width=4)
    assert set(loss.active_terms(9)) == alone and loss.active_terms(10) == loss.names == whole.names
    assert [weight.value_at(10) for weight in loss.weights] == [weight.value_at(10) for weight in whole.weights]


def test_real_esrgan_is_its_authors_configuration(with_random_weights, pair):
    loss = with_random_weights(real_esrgan(width=4))
    weights = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
    x, y = (features(v, "vgg19", list(weights)) for v in pair)
    (fake,) = verdicts(loss, pair[0])
    content = sum(w * F.l1_loss(x[n], y[n]) for n, w in weights.items())
    agrees(loss, [F.l1_loss(*pair), content, 0.1 * certain(fake, True)], pred=pair[0], target=pair[1])


def test_pconv_is_its_papers_formulas(with_random_weights, hole):
    mask, views = hole
    pred, target, filled = views["pred"], views["target"], views["filled"]
    layers = ["pool1", "pool2", "pool3"]
    x, y, z = (features(v, "vgg16", layers) for v in (pred, target, filled))
    total = variation(filled) + variation(filled, along=3)
    wanted = [
        ((1 - mask) * (pred - target)).abs().sum() / pred.numel(),
        6 * (mask * (pred - target)).abs().sum() / pred.numel(),
        *(0.05 * sum(F.l1_loss(f[n], y[n]) for n in layers) for f in (x, z)),
        *(120 * sum((gram(f[n]) - gram(y[n])).abs().mean() for n in layers) for f in (x, z)),
        0.1 * total / 31 * 32 / pred.numel(),
    ]
    agrees(with_random_weights(pconv()), wanted, **views)


def variation(image: Tensor, where: Tensor | float = 1.0, along: int = 2) -> Tensor:
    """The sum of absolute differences one way, where both places are in a region."""
    first, second = image.narrow(along, 0, 31), image.narrow(along, 1, 31)
    inside = where.narrow(along, 0, 31) * where.narrow(along, 1, 31) if isinstance(where, Tensor) else where
    return ((second - first).abs() * inside).sum()


def test_the_variation_of_pconv_pulls_as_that_of_its_grown_hole(hole):
    mask, views = hole
    region = F.conv2d(mask, mask.new_ones(1, 1, 3, 3), padding=1).clamp_max(1)

    def pull(vary) -> Tensor:
        pred = views["pred"].clone().requires_grad_()
        filled = mask * pred + (1 - mask) * views["target"]
        return torch.autograd.grad(vary(filled), pred)[0]

    theirs = pull(lambda v: (variation(v, region) + variation(v, region, 3)) / v.numel())
    ours = pull(lambda v: pconv().terms[-1].loss(v))
    torch.testing.assert_close(ours * 31 / 32, theirs)


def test_aot_gan_is_its_authors_code(with_random_weights, hole):
    mask, views = hole
    loss = with_random_weights(aot_gan(width=4))
    content, texture = [f"relu{i}_1" for i in range(1, 6)], ["relu2_2", "relu3_4", "relu4_4", "relu5_2"]
    x, y = (features(views[v], "vgg19", content + texture) for v in ("pred", "target"))
    (logits,) = verdicts(loss, views["filled"])
    parts = F.adaptive_avg_pool2d(mask, logits.shape[2:])  # where theirs enlarges the verdicts to the mask's size
    squares = ((logits - 1).square() * parts / parts.mean(dim=(1, 2, 3), keepdim=True)).mean()
    wanted = [
        F.l1_loss(2 * views["pred"] - 1, 2 * views["target"] - 1),
        250 * sum(F.l1_loss(gram(x[n]), gram(y[n])) for n in texture),
        0.1 * sum(F.l1_loss(x[n], y[n]) for n in content),
        0.01 * squares,
    ]
    agrees(loss, wanted, pred=views["pred"], target=views["target"], filled=views["filled"], mask=mask)


def test_vqgan_is_its_authors_code_with_an_adaptive_weight_of_one(with_random_weights, pair):
    loss = with_random_weights(vqgan(width=4))
    chance = torch.Generator().manual_seed(2)
    z, e = (torch.randn(2, 4, 8, 8, generator=chance, dtype=torch.float64) for _ in range(2))
    x, y = (2 * v - 1 for v in pair)
    (logits,) = verdicts(loss, pair[0])
    quantised = (z.detach() - e).square().mean() + 0.25 * (z - e.detach()).square().mean()
    wanted = [F.l1_loss(x, y), published_lpips(*pair), 0.8 * -logits.mean(), quantised]
    agrees(loss, wanted, pred=pair[0], target=pair[1], latents=z, codes=e)


def published_lpips(x: Tensor, y: Tensor) -> Tensor:
    """The formula of LPIPS with the heads that its package carries, on an untrained VGG-16."""
    package = pytest.importorskip("lpips")
    heads = torch.load(Path(package.__file__).parent / "weights/v0.1/vgg.pth", "cpu", weights_only=True)
    layers = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]
    total = torch.zeros((), dtype=x.dtype)
    seen = [features(v, "vgg16", layers) for v in (x, y)]
    for i, layer in enumerate(layers):
        a, b = (f[layer] / f[layer].norm(dim=1, keepdim=True) for f in seen)
        total += (heads[f"lin{i}.model.1.weight"] * (a - b).square()).sum(dim=1).mean()
    return total


def test_the_quantiser_of_vqgans_authors_has_beta_on_the_other_summand():
    chance = torch.Generator().manual_seed(0)
    z, e = (torch.randn(2, 4, 3, 3, generator=chance).requires_grad_() for _ in range(2))
    legacy = (e.detach() - z).square().mean() + 0.25 * (e - z.detach()).square().mean()
    ours = (0.25 * VQCommitment(4.0))(latents=z, codes=e)
    torch.testing.assert_close(ours, legacy)
    for theirs, found in zip(torch.autograd.grad(legacy, (z, e)), torch.autograd.grad(ours, (z, e)), strict=True):
        torch.testing.assert_close(found, theirs)


PRESETS = [gatys, johnson, srgan, esrgan, real_esrgan, pconv, aot_gan, vqgan]
GROWING = {"gatys": {"perceptual"}, "johnson": {"TV"}}


def seen(loss, image_pair, **size):
    """A picture for each view, and a mask that covers the left half of it for one of that name."""
    views = {name: image_pair(seed=i, **size)[0] for i, name in enumerate(sorted(loss.input_names))}
    if "mask" in views:
        places = torch.arange(views["mask"].shape[-1]) < views["mask"].shape[-1] // 2
        views["mask"] = places.to(views["mask"]).expand_as(views["mask"][:, :1])
    return views


def tried(preset) -> Hybrid:
    return preset(width=4) if "width" in inspect.signature(preset).parameters else preset()


@pytest.mark.parametrize("preset", PRESETS)
def test_terms_grow_with_the_resolution_only_where_the_docstring_says_so(preset, with_random_weights, image_pair):
    loss = with_random_weights(tried(preset))
    views = seen(loss, image_pair, n=1, side=64)
    values = [loss.evaluate({n: v.tile(1, 1, tiles, tiles) for n, v in views.items()}) for tiles in (1, 2)]
    for name, small in values[0].items():
        grown = (values[1][name] / small).item()
        assert (grown > 2.5) == (name in GROWING.get(preset.__name__, ())), (name, grown)
    assert "grow" in inspect.getdoc(preset)


@pytest.mark.parametrize("preset", [srgan, real_esrgan, pconv, aot_gan, vqgan])
def test_the_size_of_the_batch_changes_no_value(preset, with_random_weights, image_pair):
    loss = with_random_weights(tried(preset))
    views = seen(loss, image_pair)
    both, alone = loss.evaluate(views), [loss.evaluate({n: v[i : i + 1] for n, v in views.items()}) for i in (0, 1)]
    for name, values in both.items():
        torch.testing.assert_close(values, torch.cat([alone[i][name] for i in (0, 1)]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("preset", [srgan, esrgan, real_esrgan, aot_gan, vqgan])
def test_the_critic_learns_beside_the_network(preset, with_random_weights, image_pair):
    loss = with_random_weights(tried(preset))
    views = seen(loss, image_pair)
    before = loss.evaluate(views)["Adversarial"]
    assert {name.split(".")[1] for name in loss.step_discriminators(views)} == {"critic", "real", "fake", "spread"}
    assert not torch.equal(loss.evaluate(views)["Adversarial"], before)


def test_an_unknown_content_is_refused():
    with pytest.raises(ValueError, match=r'srgan knows content="vgg54", "mse"; got \'vgg22\'\.'):
        srgan("vgg22")

"""The imported losses of traiNNer-redux and neosr have the values and gradients of their published definitions."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_basicsr_losses import assert_same, context, translate

from lossmith.importer.basicsr import LOSSES
from lossmith.importer.kair import translate_kair
from lossmith.importer.recipe import LeftOut
from lossmith.importer.trainner import NEOSR_LOSSES, TRAINNER_LOSSES
from lossmith.losses.dists import dists

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def smooth_pair(count=1, side=176, channels=3):
    """Return a noisy and a clean image of slow waves, in double precision and within [0.1, 0.9]."""
    generator = torch.Generator().manual_seed(0)
    phases = torch.rand(count, channels, 1, 1, generator=generator, dtype=torch.float64) * 6
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    target = 0.5 + 0.3 * torch.sin(x / 5 + phases) * torch.cos(y / 7 + phases)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return (target + 0.02 * noise).clamp(0.1, 0.9), target


def framed_pair(side=40, frame=24):
    """Return two images in a black frame, whose borders do not differ."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 3, side, side, generator=generator, dtype=torch.float64)
    return [F.pad(image, (frame,) * 4) for image in images]


def gaussian(size, sigma):
    """Return the two-dimensional window of a Gaussian, with sum 1."""
    at = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-(at**2) / (2 * sigma**2))
    return torch.outer(line, line) / line.sum() ** 2


def filtered(image, window, padding=0):
    channels = image.shape[1]
    return F.conv2d(image, window.expand(channels, 1, *window.shape), groups=channels, padding=padding)


def ms_ssim(x, y, dims, *, has_luminance=True):
    """Return the similarity with means of each scale over the dims, and zeros beside odd sides."""
    window, total = gaussian(11, 1.5), 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        mx, my = filtered(x, window), filtered(y, window)
        vx, vy = filtered(x * x, window) - mx**2, filtered(y * y, window) - my**2
        contrast = (2 * (filtered(x * y, window) - mx * my) + 9e-4) / (vx + vy + 9e-4)
        luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        is_last = scale == len(SCALE_WEIGHTS) - 1
        value = contrast * luminance if is_last and has_luminance else contrast
        total = total * value.mean(dim=dims) ** weight
        padding = tuple(side % 2 for side in x.shape[2:])
        x, y = (F.avg_pool2d(each, 2, padding=padding) for each in (x, y))
    return total


def luma(image):
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("l2", 2)])
def test_the_average_loss_of_trainner(criterion, power, image_pair):
    term = translate({"type": "averageloss", "criterion": criterion, "scale": 4, "loss_weight": 0.3}, TRAINNER_LOSSES)

    def expected(x, y):
        return 0.3 * (F.avg_pool2d(x, 4) - F.avg_pool2d(y, 4)).abs().pow(power).mean()

    assert_same(term.loss, expected, image_pair(dtype=torch.float64))


def test_the_bicubic_loss_of_trainner_differs_at_the_border_only():
    term = translate({"type": "bicubicloss", "criterion": "l2"}, TRAINNER_LOSSES)  # rounding decides the signs of l1

    def small(image):
        resized = F.interpolate(image, scale_factor=0.25, mode="bicubic", antialias=True)
        return filtered(F.pad(resized, (2,) * 4, mode="reflect"), gaussian(5, 0.5))

    assert_same(term.loss, lambda x, y: (small(x) - small(y)).square().mean(), framed_pair())
    assert term.deviations == ("the borders of downsampled images differ",)


def test_the_gradient_of_the_colour_loss_of_trainner(image_pair):
    term = translate({"type": "colorloss"}, TRAINNER_LOSSES)
    # chroma of BT.601 in 16..240 of 255, in full precision; the class rounds the matrix to three digits
    kb, kr = 0.114, 0.299
    rows = [[-kr / (1 - kb), -(1 - kb - kr) / (1 - kb), 1.0], [1.0, -(1 - kb - kr) / (1 - kr), -kb / (1 - kr)]]
    matrix = torch.tensor(rows, dtype=torch.float64) * 112 / 255

    def expected(x, y):
        return (F.avg_pool2d(torch.einsum("kc,nchw->nkhw", matrix, x - y), 4)).abs().mean()

    assert_same(term.loss, expected, image_pair(dtype=torch.float64))


@pytest.mark.parametrize("losses", [TRAINNER_LOSSES, NEOSR_LOSSES], ids=["trainner", "neosr"])
@pytest.mark.parametrize("averaged", [True, False])
def test_the_focal_frequency_loss(losses, averaged, image_pair):
    options = {"type": "ffloss", "alpha": 1.5, "patch_factor": 2, "ave_spectrum": averaged}
    term = translate(options, losses)

    def spectrum(image):
        patches = [half for row in image.chunk(2, dim=2) for half in row.chunk(2, dim=3)]
        found = torch.fft.fft2(torch.stack(patches, dim=1), norm="ortho")
        return found.mean(dim=0, keepdim=True) if averaged else found

    def expected(x, y):
        squares = (spectrum(x) - spectrum(y)).abs() ** 2
        weights = squares.detach().sqrt() ** 1.5
        return 50 * (weights / weights.amax(dim=(-1, -2), keepdim=True) * squares).mean()

    assert_same(term.loss, expected, image_pair(dtype=torch.float64))


@pytest.mark.parametrize("side", [176, 179])
def test_ms_ssim_of_trainner_on_the_brightness(side):
    options = {"type": "mssimloss", "loss_weight": 0.5, "include_luminance": True}
    term = translate(options, TRAINNER_LOSSES)
    pair = smooth_pair(2, side)
    assert_same(term.loss, lambda x, y: 0.5 * (1 - ms_ssim(luma(x), luma(y), (1, 2, 3)).mean()), pair)
    assert term.deviations == ()


def test_ms_ssim_of_trainner_on_rgb_takes_the_means_over_all_channels():
    options = {"type": "mssimloss", "test_y_channel": False, "include_luminance": True}
    term = translate(options, TRAINNER_LOSSES)
    assert_same(term.loss, lambda x, y: 1 - ms_ssim(x, y, (1, 2, 3)).mean(), smooth_pair(2))


def test_the_default_ms_ssim_of_trainner_deviates_by_the_luminance_which_is_named():
    term = translate({"type": "mssimloss"}, TRAINNER_LOSSES)
    assert term.deviations == ("the luminance of the coarsest scale is left out there",)
    pred, target = smooth_pair(2)
    gradients = []
    for function in (term.loss, lambda x, y: 1 - ms_ssim(luma(x), luma(y), (1, 2, 3), has_luminance=False).mean()):
        x = pred.clone().requires_grad_()
        gradients.append(torch.autograd.grad(function(x, target), x)[0].flatten())
    assert F.cosine_similarity(*gradients, dim=0) >= 0.999


def test_ms_ssim_of_neosr_on_one_image_without_padding():
    term = translate({"type": "mssim_loss", "padding": 0}, NEOSR_LOSSES)
    assert_same(term.loss, lambda x, y: 1 - ms_ssim(x, y, (0, 1, 2, 3)), smooth_pair(1))
    assert term.deviations == ("the mean over the batch is taken before the product of scales there",)


def test_the_huber_loss_of_neosr(image_pair):
    term = translate({"type": "huberloss", "delta": 0.05, "loss_weight": 2.0}, NEOSR_LOSSES)
    assert_same(term.loss, lambda x, y: 2 * F.huber_loss(x, y, delta=0.05), image_pair(dtype=torch.float64))


@pytest.mark.parametrize(
    ("criterion", "distance"),
    [("huber", lambda d: torch.sqrt(d**2 + 1e-12)), ("l1", torch.abs)],
)
def test_the_clipped_huber_loss_of_neosr_deviates_by_the_clipping_which_is_named(criterion, distance, image_pair):
    term = translate({"type": "chc_loss", "criterion": criterion}, NEOSR_LOSSES)
    assert term.deviations == ("errors below 0.003921 and above 0.996078 have no gradient there",)
    pred, target = image_pair(dtype=torch.float64)
    pred = torch.where((pred - target).abs() < 0.01, target + 0.02, pred)  # no error is clipped
    assert_same(term.loss, lambda x, y: distance(x - y).clamp(0.003921, 0.996078).mean(), (pred, target))


@pytest.mark.parametrize(
    ("kind", "generator"),
    [
        ("bce", lambda fake: F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))),
        ("mse", lambda fake: F.mse_loss(fake, torch.ones_like(fake))),
    ],
)
def test_the_generators_loss_of_neosr(kind, generator, image_pair):
    term = translate({"type": "gan_loss", "gan_type": kind}, NEOSR_LOSSES)
    discriminator = term.loss.double().terms[0].distance.discriminator
    assert_same(term.loss, lambda x, y: 0.1 * generator(discriminator(x)), image_pair(dtype=torch.float64))


def test_dists_is_that_of_this_package_with_the_published_weights():
    assert repr(translate({"type": "distsloss", "loss_weight": 0.5}, TRAINNER_LOSSES).loss) == repr(0.5 * dists())
    term = translate({"type": "dists_loss"}, NEOSR_LOSSES)
    assert repr(term.loss) == repr(1.0 * dists())
    assert term.deviations == ("images are not normalised for VGG there",)


KAIR = {
    "l1": lambda x, y: (x - y).abs().mean(),
    "l2": lambda x, y: ((x - y) ** 2).mean(),
    "l2sum": lambda x, y: ((x - y) ** 2).sum(),
    "charbonnier": lambda x, y: torch.sqrt((x - y) ** 2 + 1e-9).mean(),
}


@pytest.mark.parametrize("kind", KAIR)
def test_the_pixel_losses_of_kair(kind, image_pair):
    (term,), _ = translate_kair({"G_lossfn_type": kind, "G_lossfn_weight": 0.5}, context())
    assert_same(term.loss, lambda x, y: 0.5 * KAIR[kind](x, y), image_pair(dtype=torch.float64))


def test_the_structural_similarity_of_kair_differs_at_the_border_only():
    (term,), _ = translate_kair({"G_lossfn_type": "ssim"}, context())
    window, pair = gaussian(11, 1.5), smooth_pair(1, 48)

    def expected(x, y):
        mx, my = filtered(x, window), filtered(y, window)  # without the padding by zeros there
        vx, vy = filtered(x * x, window) - mx**2, filtered(y * y, window) - my**2
        covariance = filtered(x * y, window) - mx * my
        similarity = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
        return 1 - similarity.mean()

    assert_same(term.loss, expected, pair)
    assert term.deviations == ("images are padded with zeros there, which affects their borders",)


def test_each_imported_class_has_a_comparison():
    compared = {"l1loss", "mseloss", "charbonnierloss", "weightedtvloss", "perceptualloss", "ganloss"}
    assert set(LOSSES) == compared
    own = {"averageloss", "bicubicloss", "colorloss", "ffloss", "mssimloss", "sobeledgeloss", "fftloss", "distsloss"}
    assert set(TRAINNER_LOSSES) == compared | own | {"perceptualfp16loss", "ssimloss"}  # the same function; refused
    assert TRAINNER_LOSSES["perceptualfp16loss"] is TRAINNER_LOSSES["perceptualloss"]
    with pytest.raises(LeftOut, match="returns the similarity itself"):
        translate({"type": "ssimloss"}, TRAINNER_LOSSES)
    own = {"huberloss", "chcloss", "vggperceptualloss", "mssimloss", "ffloss", "distsloss", "ganloss"}
    assert set(NEOSR_LOSSES) == own | {"l1loss", "mseloss"}


def test_the_weight_of_a_sum_is_the_number_of_values():
    (term,), _ = translate_kair({"G_lossfn_type": "l2sum"}, context(crop=8, batch=3))
    assert math.isclose(term.loss.weights[0].value_at(0), 3 * 3 * 8 * 8)

"""The imported losses of BasicSR have the values and gradients of their published definitions."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lossmith.backbone import get_backbone
from lossmith.importer.basicsr import LOSSES, Context, translate_loss
from lossmith.importer.recipe import LeftOut
from lossmith.importer.trainner import NEOSR_LOSSES, TRAINNER_LOSSES
from lossmith.lenses.sequential_network import MEAN, STD
from lossmith.lenses.vgg import VGGNetwork

LAYERS = {"conv1_2": 0.1, "conv2_2": 0.5, "relu3_1": 1.0}
INDICES = {"conv1_2": 2, "conv2_2": 7, "relu3_1": 11}
"""The places of these layers in torchvision's VGG-19."""


def context(**options) -> Context:
    given = {"crop": 32, "batch": 2, "channels": 3, "image_range": 1.0, "is_relativistic": False}
    given |= {"discriminator": {"type": "UNetDiscriminatorSN", "num_feat": 4}, "discriminator_optimizer": {}}
    return Context(**{**given, **options})


def translate(options: dict, losses=LOSSES, **of_context):
    return translate_loss("loss", options, context(**of_context), losses)


@pytest.fixture(scope="module")
def vgg(weight_file):
    """Torchvision's VGG-19 with the weights of a file, as a function from images in [0, 1] to features by layer."""
    models = pytest.importorskip("torchvision.models")
    path = weight_file(get_backbone(VGGNetwork, "vgg19", None))
    network = models.vgg.make_layers(models.vgg.cfgs["E"])[:12]
    state = {k.removeprefix("features."): v for k, v in load_file(path).items()}
    network.load_state_dict({k: v for k, v in state.items() if k in network.state_dict()})
    network.double().requires_grad_(False)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (MEAN, STD))

    def features(image):
        image, found = (image - mean) / std, {}
        for index, module in enumerate(network):
            image = module(image.clone())
            found |= {name: image.clone() for name, place in INDICES.items() if place == index}
        return found

    return path, features


def assert_same(loss, expected, pair):
    pred, target = pair
    results = []
    for function in (loss, expected):
        x = pred.clone().requires_grad_()
        value = function(x, target)
        results.append((value.detach(), torch.autograd.grad(value, x)[0]))
    (value, gradient), (expected_value, expected_gradient) = results
    torch.testing.assert_close(value, expected_value, rtol=1e-6, atol=0)
    assert F.cosine_similarity(gradient.flatten(), expected_gradient.flatten(), dim=0) >= 0.99999
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-12)


PIXEL = {
    "L1Loss": lambda x, y: (x - y).abs(),
    "MSELoss": lambda x, y: (x - y) ** 2,
    "CharbonnierLoss": lambda x, y: torch.sqrt((x - y) ** 2 + 1e-12),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", PIXEL)
def test_pixel_losses(kind, reduction, image_pair):
    term = translate({"type": kind, "loss_weight": "3e-1", "reduction": reduction})
    assert_same(term.loss, lambda x, y: 0.3 * getattr(PIXEL[kind](x, y), reduction)(), image_pair(dtype=torch.float64))


def test_the_eps_of_charbonnier_is_inside_of_the_root(image_pair):
    term = translate({"type": "CharbonnierLoss", "eps": 1e-2})
    assert_same(term.loss, lambda x, y: torch.sqrt((x - y) ** 2 + 1e-2).mean(), image_pair(dtype=torch.float64))


@pytest.mark.parametrize("kind", PIXEL)
def test_images_from_minus_1_to_1_are_in_the_weight(kind, image_pair):
    term = translate({"type": kind}, image_range=2.0)
    expected = PIXEL[kind]
    assert_same(term.loss, lambda x, y: expected(2 * x - 1, 2 * y - 1).mean(), image_pair(dtype=torch.float64))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_total_variation(reduction, image_pair):
    term = translate({"type": "WeightedTVLoss", "loss_weight": 2.0, "reduction": reduction})

    def expected(x, y):
        below, right = (x[:, :, 1:] - x[:, :, :-1]).abs(), (x[..., 1:] - x[..., :-1]).abs()
        return 2 * (getattr(below, reduction)() + getattr(right, reduction)())

    assert_same(term.loss, expected, image_pair(dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_features_and_gram_matrices(criterion, vgg, image_pair):
    path, features = vgg
    options = {"type": "PerceptualLoss", "layer_weights": LAYERS, "criterion": criterion}
    term = translate({**options, "perceptual_weight": 0.5, "style_weight": 40.0})
    power = {"l1": 1, "l2": 2}[criterion]

    def gram(f):
        flat = f.flatten(2)
        return flat @ flat.transpose(1, 2) / (f.shape[1] * f.shape[2] * f.shape[3])

    def expected(x, y):
        total = 0
        for (name, a), b in zip(features(x).items(), features(y).values(), strict=True):
            content, style = (a - b).abs() ** power, (gram(a) - gram(b)).abs() ** power
            total = total + LAYERS[name] * (0.5 * content.mean() + 40 * style.mean())
        return total

    assert_same(term.loss.with_network_weights(str(path)), expected, image_pair(side=24, dtype=torch.float64))


GENERATOR = {
    "vanilla": lambda fake: F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake)),
    "lsgan": lambda fake: F.mse_loss(fake, torch.ones_like(fake)),
    "hinge": lambda fake: -fake.mean(),
    "wgan": lambda fake: -fake.mean(),
    "wgan_softplus": lambda fake: F.softplus(-fake).mean(),
}


@pytest.mark.parametrize("kind", GENERATOR)
def test_the_generators_adversarial_loss(kind, image_pair):
    term = translate({"type": "GANLoss", "gan_type": kind, "loss_weight": 0.1})
    discriminator = term.loss.double().terms[0].distance.discriminator
    assert_same(term.loss, lambda x, y: 0.1 * GENERATOR[kind](discriminator(x)), image_pair(dtype=torch.float64))


def test_the_relativistic_adversarial_loss(image_pair):
    term = translate({"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1}, is_relativistic=True)
    discriminator = term.loss.double().terms[0].distance.discriminator

    def expected(x, y):
        real, fake = discriminator(y).detach(), discriminator(x)
        real_part = F.binary_cross_entropy_with_logits(real - fake.mean(), torch.zeros_like(real))
        fake_part = F.binary_cross_entropy_with_logits(fake - real.mean(), torch.ones_like(fake))
        return 0.1 * (real_part + fake_part) / 2

    assert_same(term.loss, expected, image_pair(dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"type": "PerceptualLoss", "layer_weights": LAYERS, "criterion": "fro"}, "norm of the whole batch"),
        ({"type": "PerceptualLoss", "layer_weights": LAYERS, "use_input_norm": False}, "use_input_norm is off"),
        ({"type": "PerceptualLoss", "layer_weights": LAYERS, "range_norm": True}, "range_norm does not fit"),
        ({"type": "PerceptualLoss", "layer_weights": LAYERS, "vgg_type": "vgg13"}, "neither vgg16 nor vgg19"),
        ({"type": "PerceptualLoss", "layer_weights": {"conv9_9": 1}}, "has no layer 'conv9_9'"),
        ({"type": "PerceptualLoss", "layer_weights": 3}, "must be a mapping of layers to weights; got 3"),
        ({"type": "PerceptualLoss"}, "it names no layers"),
        ({"type": "L1Loss", "reduction": "none"}, "reduction 'none' gives no number"),
        ({"type": "L1Loss", "loss_weight": "heavy"}, "loss_weight must be a number; got 'heavy'"),
        ({"type": "L1Loss", "loss_weight": True}, "loss_weight must be a number; got True"),
        ({"type": "CharbonnierLoss", "eps": -1}, "math domain error|expected a nonnegative input"),
        ({"type": "GANLoss", "real_label_val": 0.9}, "real_label_val is not 1"),
        ({"type": "GANLoss", "gan_type": "x"}, "gan_type 'x' is not known"),
        ({"type": "MyLoss"}, "no loss of lossmith is known to be equal to it"),
        ({"type": ["L1Loss"]}, "type must be a text; got a list"),
    ],
)
def test_what_cannot_be_carried_over_has_a_reason(options, reason):
    with pytest.raises(LeftOut, match=reason):
        translate(options)


def test_an_option_that_nothing_reads_is_a_deviation():
    assert translate({"type": "L1Loss", "secret": 3}).deviations == ("options that are not carried over: secret",)


def test_the_discriminator_and_its_optimiser_are_arguments_of_the_term():
    optimizer = {"type": "Adam", "lr": "2e-4", "betas": [0.5, 0.9]}
    term = translate({"type": "GANLoss"}, discriminator_optimizer=optimizer)
    assert repr(term.loss) == "Adversarial(width=4, lr=0.0002, betas=[0.5, 0.9])"
    other = translate({"type": "GANLoss"}, discriminator={"type": "VGGStyleDiscriminator", "num_feat": 8})
    assert repr(other.loss) == 'Adversarial("patch", width=8)'
    assert other.deviations == ("the discriminator is 'patch' in place of VGGStyleDiscriminator",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("losses", "options", "distance"),
    [
        (TRAINNER_LOSSES, {"type": "perceptualloss", "loss_weight": 1.0}, lambda d: torch.sqrt(d**2 + 1e-12)),
        (NEOSR_LOSSES, {"type": "vgg_perceptual_loss", "criterion": "l1"}, lambda d: (0.1 * d).abs()),
        (NEOSR_LOSSES, {"type": "vgg_perceptual_loss", "criterion": "l2"}, lambda d: (0.1 * d) ** 2),
        (
            NEOSR_LOSSES,
            {"type": "vgg_perceptual_loss", "criterion": "huber"},
            lambda d: F.huber_loss(0.1 * d, torch.zeros_like(d), reduction="none"),
        ),
    ],
)
def test_the_features_of_trainner_and_neosr(losses, options, distance, vgg, image_pair):
    path, features = vgg
    term = translate({**options, "layer_weights": LAYERS}, losses)

    def expected(x, y):
        pairs = zip(features(x).items(), features(y).values(), strict=True)
        return sum(LAYERS[name] * distance(a - b).mean() for (name, a), b in pairs)

    assert_same(term.loss.with_network_weights(str(path)), expected, image_pair(side=24, dtype=torch.float64))


def test_the_spectral_and_colour_losses_of_trainner(image_pair):
    pair = image_pair(dtype=torch.float64)
    fft = translate({"type": "fftloss"}, TRAINNER_LOSSES)

    def spectral(x, y):
        difference = torch.fft.rfft2(x) - torch.fft.rfft2(y)
        return torch.stack([difference.real, difference.imag]).abs().mean()

    assert_same(fft.loss, spectral, pair)
    matrix = torch.tensor([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], dtype=torch.float64) / 255

    def chroma(x, y):
        a, b = (F.avg_pool2d(torch.einsum("kc,nchw->nkhw", matrix, image), 4) for image in (x, y))
        return (a - b).abs().mean()

    colour = translate({"type": "colorloss"}, TRAINNER_LOSSES)
    ours, theirs = colour.loss(*pair), chroma(*pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)


def test_the_sobel_loss_of_trainner_differs_at_the_border_only():
    generator = torch.Generator().manual_seed(0)
    images = [F.pad(torch.rand(1, 3, 20, 20, generator=generator, dtype=torch.float64), (6,) * 4) for _ in range(2)]
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64) / 4
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(1, 3, 1, 1)

    def expected(x, y):
        difference = ((x - y) * luma).sum(1, keepdim=True)
        slopes = [F.conv2d(difference, k.view(1, 1, 3, 3), padding=1) for k in (kernel, kernel.T)]
        return torch.cat(slopes, dim=1).square().mean()

    assert_same(translate({"type": "sobeledgeloss"}, TRAINNER_LOSSES).loss, expected, images)

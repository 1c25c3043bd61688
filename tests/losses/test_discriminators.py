"""The discriminators: parity with the published networks, and the spectral norm."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from lossmith.losses.discriminators import (
    DISCRIMINATORS,
    PatchDiscriminator,
    SpectralNormConv2d,
    UNetDiscriminator,
)

every_discriminator = pytest.mark.parametrize("build", DISCRIMINATORS.values())


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_patch_discriminator_is_that_of_pix2pix_without_normalisation():
    ours = PatchDiscriminator(3, 6, spectral_norm=False)
    rows = [(3, 6, 2), (6, 12, 2), (12, 24, 2), (24, 48, 1), (48, 1, 1)]
    theirs = nn.Sequential()
    for inputs, outputs, stride in rows:
        theirs += nn.Sequential(nn.Conv2d(inputs, outputs, 4, stride, 1), nn.LeakyReLU(0.2))
    theirs = theirs[:-1]
    for conv, layer in zip(theirs[::2], ours.layers, strict=True):
        conv.load_state_dict(layer.state_dict())
    image = torch.rand(2, 3, 40, 56)
    assert torch.equal(ours(image), theirs(image))


def test_the_unet_discriminator_is_that_of_real_esrgan():
    ours, image = UNetDiscriminator(3, 4, spectral_norm=False), torch.rand(2, 3, 24, 32)
    w = dict(enumerate([ours.first.weight, *(c.weight for part in (ours.down, ours.up, ours.flat) for c in part)]))

    def up(features):
        return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)

    # the forward pass of its paper's code, line by line
    x0 = F.leaky_relu(F.conv2d(image, w[0], ours.first.bias, 1, 1), 0.2)
    x1 = F.leaky_relu(F.conv2d(x0, w[1], None, 2, 1), 0.2)
    x2 = F.leaky_relu(F.conv2d(x1, w[2], None, 2, 1), 0.2)
    x3 = F.leaky_relu(F.conv2d(x2, w[3], None, 2, 1), 0.2)
    x4 = F.leaky_relu(F.conv2d(up(x3), w[4], None, 1, 1), 0.2) + x2
    x5 = F.leaky_relu(F.conv2d(up(x4), w[5], None, 1, 1), 0.2) + x1
    x6 = F.leaky_relu(F.conv2d(up(x5), w[6], None, 1, 1), 0.2) + x0
    out = F.leaky_relu(F.conv2d(x6, w[7], None, 1, 1), 0.2)
    out = F.leaky_relu(F.conv2d(out, w[8], None, 1, 1), 0.2)
    torch.testing.assert_close(ours(image), F.conv2d(out, ours.last.weight, ours.last.bias, 1, 1))


@pytest.mark.parametrize(("build", "millions"), [(PatchDiscriminator, 2.77), (UNetDiscriminator, 4.38)])
def test_the_default_width_has_the_published_size(build, millions):
    with torch.device("meta"):
        count = sum(weight.numel() for weight in build().parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_spectral_norm_agrees_with_pytorch_in_value_and_gradient():
    ours, image = SpectralNormConv2d(3, 8, 4, stride=2, spectral_norm=True), torch.rand(1, 3, 12, 12)
    theirs = nn.Conv2d(3, 8, 4, 2, 1)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    theirs = spectral_norm(theirs, n_power_iterations=100).train()
    for _ in range(100):
        ours.power_iteration()
    torch.testing.assert_close(ours(image), theirs(image))
    ours(image).square().sum().backward()
    theirs(image).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.parametrizations.weight.original.grad, rtol=1e-3, atol=1e-4)


def test_a_zero_kernel_has_a_finite_gradient():
    conv = SpectralNormConv2d(3, 8, 4, spectral_norm=True)
    nn.init.zeros_(conv.weight)
    conv.power_iteration()
    conv(torch.rand(1, 3, 8, 8)).sum().backward()
    assert conv.weight.grad.isfinite().all()


@every_discriminator
def test_a_forward_pass_in_training_mode_changes_no_state(build):
    discriminator = build(3, 4, spectral_norm=True).train()
    before = copy.deepcopy(discriminator.state_dict())
    discriminator(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())


@every_discriminator
def test_power_iterations_converge_to_the_largest_singular_value(build):
    discriminator = build(3, 4, spectral_norm=True)
    convs = [
        layer for layer in discriminator.modules() if isinstance(layer, SpectralNormConv2d) and layer.u is not None
    ]
    assert len(convs) == (3 if isinstance(discriminator, PatchDiscriminator) else 8)
    for _ in range(300):
        discriminator.update_spectral_norm()
    for conv in convs:
        matrix = conv.weight.flatten(1)
        torch.testing.assert_close((matrix.t() @ conv.u).norm(), torch.linalg.matrix_norm(matrix, 2), rtol=1e-3, atol=0)


@every_discriminator
@pytest.mark.parametrize("extra", [(0, 0), (0, 13), (7, 1)])
def test_an_image_of_the_minimal_size_or_larger_gives_logits(build, extra):
    height, width = (build.min_size + pixels for pixels in extra)
    assert build(3, 2)(torch.rand(1, 3, height, width)).numel() > 0
    with pytest.raises(RuntimeError):
        build(3, 2)(torch.rand(1, 3, build.min_size - 1, build.min_size - 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchDiscriminator(0), "discriminator channels must be an integer at least 1; got 0."),
        (lambda: UNetDiscriminator(3, 1.5), "discriminator width must be an integer at least 1; got 1.5."),
        (lambda: UNetDiscriminator(3, 4, spectral_norm=1), "discriminator spectral_norm must be True or False; got 1."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()

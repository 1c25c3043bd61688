"""The critics: the published networks, and a spectral norm that looking does not change."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from lossmith.losses.discriminators import (
    DISCRIMINATORS,
    Conv,
    PatchDiscriminator,
    UNetDiscriminator,
)

every_critic = pytest.mark.parametrize("critic", DISCRIMINATORS.values())


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_patch_critic_is_that_of_pix2pix_without_normalisation():
    ours = PatchDiscriminator(3, 6, spectral=False)
    rows = [(3, 6, 2), (6, 12, 2), (12, 24, 2), (24, 48, 1), (48, 1, 1)]
    theirs = nn.Sequential()
    for inputs, outputs, stride in rows:
        theirs += nn.Sequential(nn.Conv2d(inputs, outputs, 4, stride, 1), nn.LeakyReLU(0.2))
    theirs = theirs[:-1]
    for conv, layer in zip(theirs[::2], ours.layers, strict=True):
        conv.load_state_dict(layer.state_dict())
    image = torch.rand(2, 3, 40, 56)
    assert torch.equal(ours(image), theirs(image))


def test_the_unet_critic_is_that_of_real_esrgan():
    ours, image = UNetDiscriminator(3, 4, spectral=False), torch.rand(2, 3, 24, 32)
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


@pytest.mark.parametrize(("critic", "millions"), [(PatchDiscriminator, 2.77), (UNetDiscriminator, 4.38)])
def test_the_usual_width_has_the_published_size(critic, millions):
    with torch.device("meta"):
        count = sum(weight.numel() for weight in critic().parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_spectral_norm_agrees_with_pytorch_in_value_and_gradient():
    ours, image = Conv(3, 8, 4, stride=2, spectral=True), torch.rand(1, 3, 12, 12)
    theirs = nn.Conv2d(3, 8, 4, 2, 1)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    theirs = spectral_norm(theirs, n_power_iterations=100).train()
    for _ in range(100):
        ours.iterate()
    torch.testing.assert_close(ours(image), theirs(image))
    ours(image).square().sum().backward()
    theirs(image).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.parametrizations.weight.original.grad, rtol=1e-3, atol=1e-4)


def test_a_kernel_of_nothing_stays_nothing():
    conv = Conv(3, 8, 4, spectral=True)
    nn.init.zeros_(conv.weight)
    conv.iterate()
    conv(torch.rand(1, 3, 8, 8)).sum().backward()
    assert conv.weight.grad.isfinite().all()


@every_critic
def test_looking_changes_nothing_in_any_mode(critic):
    critic = critic(3, 4, spectral=True).train()
    before = copy.deepcopy(critic.state_dict())
    critic(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())


@every_critic
def test_it_iterates_towards_the_greatest_singular_value(critic):
    critic = critic(3, 4, spectral=True)
    convs = [layer for layer in critic.modules() if isinstance(layer, Conv) and layer.u is not None]
    assert len(convs) == (3 if isinstance(critic, PatchDiscriminator) else 8)
    for _ in range(300):
        critic.iterate()
    for conv in convs:
        rows = conv.weight.flatten(1)
        torch.testing.assert_close((rows.t() @ conv.u).norm(), torch.linalg.matrix_norm(rows, 2), rtol=1e-3, atol=0)


@every_critic
@pytest.mark.parametrize("more", [(0, 0), (0, 13), (7, 1)])
def test_any_picture_that_is_large_enough_gets_verdicts(critic, more):
    height, width = (critic.smallest + extra for extra in more)
    assert critic(3, 2)(torch.rand(1, 3, height, width)).numel() > 0
    with pytest.raises(RuntimeError):
        critic(3, 2)(torch.rand(1, 3, critic.smallest - 1, critic.smallest - 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchDiscriminator(0), "A critic wants channels as a whole number of at least 1; got 0."),
        (lambda: UNetDiscriminator(3, 1.5), "A critic wants width as a whole number of at least 1; got 1.5."),
        (lambda: UNetDiscriminator(3, 4, spectral=1), "A critic wants spectral to be True or False; got 1."),
    ],
)
def test_a_bad_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Low-pass filters: parity with scipy's blur and MATLAB's bicubic kernel, and their invariants."""

import pytest
import torch
import torch.nn.functional as F

from lossmith import L1
from lossmith.data import downsample
from lossmith.lenses.lowpass import Blur, Downsample


def apply(lens, image):
    return lens({"pixels": image})["pixels"]


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_the_blur_agrees_with_scipy(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = noise(2, 3, 9, 14)
    expected = ndimage.gaussian_filter(image.numpy(), (0, 0, sigma, sigma), mode="nearest")
    torch.testing.assert_close(apply(Blur(sigma), image), torch.from_numpy(expected))


@pytest.mark.parametrize("lens", [Blur(2.0), Downsample(2), Downsample(2, "area")], ids=repr)
def test_a_constant_image_does_not_change(lens):
    filtered = apply(lens, torch.full((1, 3, 6, 8), 0.3, dtype=torch.float64))
    torch.testing.assert_close(filtered, torch.full_like(filtered, 0.3))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bicubic_equals_that_of_the_degradations(scale):
    image = noise(2, 3, 12, 24)
    assert torch.equal(apply(Downsample(scale), image), downsample(image, scale))


def test_area_is_the_mean_of_each_block():
    image = noise(1, 2, 6, 9)
    torch.testing.assert_close(apply(Downsample(3, "area"), image), F.interpolate(image, (2, 3), mode="area"))


@pytest.mark.parametrize("kernel", ["bicubic", "area"])
def test_the_gradient_reaches_every_pixel(kernel):
    pred, target = noise(2, 1, 3, 8, 12)
    pred.requires_grad_()
    (L1() @ Downsample(4, kernel))(pred, target).backward()
    assert (pred.grad != 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blur("a"), "Blur sigma must be a positive finite number; got 'a'."),
        (lambda: Blur(0), "Blur sigma must be positive; got 0."),
        (lambda: Downsample(0), "Downsample scale must be an integer at least 1; got 0."),
        (lambda: Downsample(2.0), "Downsample scale must be an integer at least 1; got 2.0."),
        (lambda: Downsample(2, "cubic"), "Downsample kernel must be one of 'bicubic', 'area'; got 'cubic'."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((9, 16), r"Downsample\(4\) expects sides that are multiples of 4; got 9x16. Crop the images to 8x16."),
        ((3, 16), r"Downsample\(4\) needs images of at least 4 px a side; got 3x16."),
    ],
)
def test_an_unsupported_image_size_raises(size, message):
    with pytest.raises(ValueError, match=message):
        apply(Downsample(4), noise(1, 3, *size))

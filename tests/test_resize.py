import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith.data import downsample, trimmed, upsample
from lossmith.image import eight_bit, from_pil


def noise(height, width, dtype=torch.float64):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def by_pillow(image, size):
    planes = [Image.fromarray(plane.float().numpy()) for plane in image[0]]
    return torch.stack([torch.tensor(np.array(plane.resize(size, Image.Resampling.BICUBIC))) for plane in planes])[None]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_making_smaller_agrees_with_pillow_away_from_the_border(scale):
    image = noise(12 * scale, 10 * scale)
    ours, theirs = downsample(image, scale).float(), by_pillow(image, (10, 12))
    assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_making_larger_agrees_with_pillow_away_from_the_border(scale):
    image, rim = noise(9, 11), 2 * scale
    ours, theirs = upsample(image, scale).float(), by_pillow(image, (11 * scale, 9 * scale))
    assert_close(ours[..., rim:-rim, rim:-rim], theirs[..., rim:-rim, rim:-rim], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_the_small_pictures_of_the_benchmarks_are_met_to_the_bit(name, assets):
    folder = assets / "images" / "benchmark" / name
    for file in sorted((folder / "HR").iterdir()):
        large, small = (from_pil(Image.open(f))[None] for f in (file, folder / "LRx4" / file.name))
        assert torch.equal(downsample(trimmed(large, 4), 4, eight_bit=True), small), file.name


@pytest.mark.parametrize("resize", [downsample, upsample])
def test_a_constant_stays_what_it_is(resize):
    image = torch.full((1, 3, 12, 12), 0.3)
    assert_close(resize(image, 3), torch.full_like(resize(image, 3), 0.3))


@pytest.mark.parametrize("resize", [downsample, upsample])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resizing_commutes_with_turning(resize, scale):
    image = noise(4 * scale, 5 * scale)
    assert_close(resize(image.rot90(1, (2, 3)), scale), resize(image, scale).rot90(1, (2, 3)))


def test_gradients_flow_through_both():
    image = noise(8, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: upsample(downsample(x, 2), 2), image)


def test_half_precision_and_autocast_lose_nothing_but_the_last_digits():
    image = noise(16, 16, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(downsample(image, 2), downsample(image, 2))
        assert_close(upsample(image, 2), upsample(image.double(), 2).float())
    assert downsample(image.half(), 2).dtype == torch.float16


def test_eight_bits_are_multiples_of_one_step():
    small = downsample(noise(16, 16, torch.float32), 4, eight_bit=True)
    assert torch.equal(small, eight_bit(small))


def test_sides_that_do_not_divide_are_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"multiples of the scale, 4; got 9x8. .*trimmed\(image, scale\)"):
        downsample(torch.zeros(1, 3, 9, 8), 4)


def test_trimmed_cuts_below_and_to_the_right():
    image = noise(9, 11)
    assert torch.equal(trimmed(image, 4), image[..., :8, :8])

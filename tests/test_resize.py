import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith.data import crop_to_multiple, downsample, upsample
from lossmith.image import from_pil, quantize_8bit


def noise(height, width, dtype=torch.float64):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def resize_with_pillow(image, size):
    planes = [Image.fromarray(plane.float().numpy()) for plane in image[0]]
    return torch.stack([torch.tensor(np.array(plane.resize(size, Image.Resampling.BICUBIC))) for plane in planes])[None]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downsampling_agrees_with_pillow_away_from_the_border(scale):
    image = noise(12 * scale, 10 * scale)
    ours, theirs = downsample(image, scale).float(), resize_with_pillow(image, (10, 12))
    assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upsampling_agrees_with_pillow_away_from_the_border(scale):
    image, rim = noise(9, 11), 2 * scale
    ours, theirs = upsample(image, scale).float(), resize_with_pillow(image, (11 * scale, 9 * scale))
    assert_close(ours[..., rim:-rim, rim:-rim], theirs[..., rim:-rim, rim:-rim], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_low_resolution_images_of_the_benchmarks_are_reproduced_bit_by_bit(name, assets):
    folder = assets / "images" / "benchmark" / name
    for file in sorted((folder / "HR").iterdir()):
        large, small = (from_pil(Image.open(f))[None] for f in (file, folder / "LRx4" / file.name))
        assert torch.equal(downsample(crop_to_multiple(large, 4), 4, levels=255), small), file.name


@pytest.mark.parametrize("resize", [downsample, upsample])
def test_a_constant_image_stays_constant(resize):
    image = torch.full((1, 3, 12, 12), 0.3)
    assert_close(resize(image, 3), torch.full_like(resize(image, 3), 0.3))


@pytest.mark.parametrize("resize", [downsample, upsample])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resizing_commutes_with_rotation(resize, scale):
    image = noise(4 * scale, 5 * scale)
    assert_close(resize(image.rot90(1, (2, 3)), scale), resize(image, scale).rot90(1, (2, 3)))


def test_gradients_are_exact():
    image = noise(8, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: upsample(downsample(x, 2), 2), image)


def test_half_precision_and_autocast_lose_only_the_last_digits():
    image = noise(16, 16, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(downsample(image, 2), downsample(image, 2))
        assert_close(upsample(image, 2), upsample(image.double(), 2).float())
    assert downsample(image.half(), 2).dtype == torch.float16


def test_quantized_values_are_multiples_of_1_over_255():
    small = downsample(noise(16, 16, torch.float32), 4, levels=255)
    assert torch.equal(small, quantize_8bit(small))


def test_sides_that_are_no_multiples_raise():
    with pytest.raises(ValueError, match=r"multiples of the scale, 4; got 9x8. .*crop_to_multiple\(image, scale\)"):
        downsample(torch.zeros(1, 3, 9, 8), 4)


def test_crop_to_multiple_crops_the_last_rows_and_columns():
    image = noise(9, 11)
    assert torch.equal(crop_to_multiple(image, 4), image[..., :8, :8])

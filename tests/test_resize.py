import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith.data import crop_to_multiple, downsample, upsample
from lossmith.image import pil_to_tensor, quantize, quantize_8bit, to_float
from lossmith.resize import _downsampling_kernel, _filter_columns, downsample_crop


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
        large, small = (pil_to_tensor(Image.open(f))[None] for f in (file, folder / "LRx4" / file.name))
        assert torch.equal(downsample(crop_to_multiple(large, 4), 4, levels=255), to_float(small)), file.name


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


def downsample_in_double(image, scale, levels):
    kernel, before, after = _downsampling_kernel(scale)

    def resize_columns(x):
        return quantize(_filter_columns(x, kernel.view(1, -1), (before, after), stride=scale), levels)

    return resize_columns(resize_columns(image.double()).transpose(2, 3)).transpose(2, 3).to(image.dtype)


def stored(dtype, height, width, *, steps):
    """Return integers of few values, of which many weighted sums end in .5."""
    top = torch.iinfo(dtype).max
    values = torch.randint(steps + 1, (1, 3, height, width), generator=torch.Generator().manual_seed(0))
    return (values * (top // steps)).to(dtype)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("steps", [1, 3, 255])
def test_integers_are_downsampled_to_the_bits_of_the_computation_in_double(scale, dtype, steps):
    image, levels = stored(dtype, 12 * scale, 50 * scale, steps=steps), torch.iinfo(dtype).max
    expected = downsample_in_double(to_float(image), scale, levels)
    assert torch.equal(downsample(image, scale, levels=levels), expected)
    assert torch.equal(downsample(to_float(image), scale, levels=levels), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_floats_are_rounded_to_the_bits_of_the_computation_in_double(dtype):
    image = noise(24, 36, dtype)
    assert torch.equal(downsample(image, 3, levels=4095), downsample_in_double(image, 3, 4095))


def test_8_bit_values_may_be_rounded_to_other_levels():
    image = stored(torch.uint8, 24, 32, steps=255)
    assert torch.equal(downsample(image, 4, levels=65535), downsample(to_float(image), 4, levels=65535))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_crop_is_that_of_the_whole_image_at_every_border(scale):
    image = stored(torch.uint8, 9 * scale, 11 * scale, steps=255)
    whole = downsample(image, scale, levels=255)
    for rows in (slice(0, 2), slice(3, 6), slice(7, 9)):
        for columns in (slice(0, 11), slice(5, 6), slice(8, 11)):
            assert torch.equal(downsample_crop(image, scale, rows, columns, levels=255), whole[:, :, rows, columns])


def test_a_crop_reads_no_pixel_on_which_it_does_not_depend():
    image = torch.full((1, 64, 64), torch.nan)
    image[:, 20 - 6 : 32 + 6, 20 - 6 : 32 + 6] = 0.2
    assert downsample_crop(image, 4, slice(5, 8), slice(5, 8), levels=255).isfinite().all()


def test_sides_that_are_no_multiples_raise():
    with pytest.raises(ValueError, match=r"multiples of the scale, 4; got 9x8. .*crop_to_multiple\(image, scale\)"):
        downsample(torch.zeros(1, 3, 9, 8), 4)


def test_crop_to_multiple_crops_the_last_rows_and_columns():
    image = noise(9, 11)
    assert torch.equal(crop_to_multiple(image, 4), image[..., :8, :8])

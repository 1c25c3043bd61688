import io

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.data import compress_jpeg
from lossmith.image import from_pil, to_pil


def smooth_image(height=61, width=83, seed=0):
    """Return an image with edges, colours and some noise; its sides are not multiples of the block size."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 10, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    image[..., 20:40, 30:60] *= 0.3
    return from_pil(to_pil((image + 0.02 * torch.randn(image.shape, generator=generator))[0].clamp(0, 1)))[None]


def compress_with_pillow(image, quality, subsampling):
    file = io.BytesIO()
    to_pil(image[0]).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return from_pil(Image.open(io.BytesIO(file.getvalue())))[None]


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_compression_agrees_with_pillow_within_a_grey_level(quality, subsampling):
    image = smooth_image()
    ours = compress_jpeg(image, float(quality), chroma_subsampling=subsampling == 2)
    theirs = compress_with_pillow(image, quality, subsampling)
    error = (theirs - image).abs().mean() * 255
    assert (ours - theirs).abs().mean() * 255 < min(1.0, 0.35 * error.item())


def test_each_image_may_have_its_own_quality():
    image = smooth_image().expand(2, -1, -1, -1)
    both = compress_jpeg(image, torch.tensor([20.0, 90.0]))
    for index, quality in enumerate((20.0, 90.0)):
        torch.testing.assert_close(both[index : index + 1], compress_jpeg(image[:1], quality))


def test_the_result_has_8_bits():
    values = compress_jpeg(smooth_image(), 50.0).numpy() * 255
    np.testing.assert_allclose(values, np.rint(values), atol=1e-3)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_a_quality_out_of_range_raises_a_value_error(quality):
    with pytest.raises(ValueError, match="quality must be at least 1 and at most 100"):
        compress_jpeg(smooth_image(), quality)

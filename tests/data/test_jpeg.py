import io

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.data import jpeg
from lossmith.image import from_pil, to_pil


def smooth(height=61, width=83, seed=0):
    """A picture with edges, colours and some grain; its sides are no multiples of a block's."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 10, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    image[..., 20:40, 30:60] *= 0.3
    return from_pil(to_pil((image + 0.02 * torch.randn(image.shape, generator=generator))[0].clamp(0, 1)))[None]


def saved(image, quality, subsampling):
    file = io.BytesIO()
    to_pil(image[0]).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return from_pil(Image.open(io.BytesIO(file.getvalue())))[None]


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_it_equals_the_files_of_pillow_within_a_grey_level(quality, subsampling):
    image = smooth()
    ours, theirs = jpeg(image, float(quality), subsampled=subsampling == 2), saved(image, quality, subsampling)
    harm = (theirs - image).abs().mean() * 255
    assert (ours - theirs).abs().mean() * 255 < min(1.0, 0.35 * harm.item())


def test_each_picture_has_a_quality_of_its_own():
    image = smooth().expand(2, -1, -1, -1)
    both = jpeg(image, torch.tensor([20.0, 90.0]))
    for place, quality in enumerate((20.0, 90.0)):
        torch.testing.assert_close(both[place : place + 1], jpeg(image[:1], quality))


def test_the_result_has_8_bits():
    values = jpeg(smooth(), 50.0).numpy() * 255
    np.testing.assert_allclose(values, np.rint(values), atol=1e-3)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_a_quality_that_is_none_is_refused(quality):
    with pytest.raises(ValueError, match="quality from 1 to 100"):
        jpeg(smooth(), quality)

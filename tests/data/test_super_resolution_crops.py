import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader

from lossmith.data import ImageFolder, PixelFormat, SuperResolutionCrops, crop_to_multiple, downsample
from lossmith.data.augmentation import flip_and_rotate
from lossmith.image import to_float, to_pil


@pytest.fixture
def images(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for i, size in enumerate([(61, 83), (48, 48), (90, 50)]):
        to_pil(torch.rand(3, *size, generator=generator)).save(tmp_path / f"{i}.png")
    return ImageFolder(sorted(tmp_path.iterdir()), min_size=48)


def test_a_crop_is_a_function_of_the_seed_and_its_index(images):
    first, again = (SuperResolutionCrops(images, 48, scale=4, seed=3) for _ in range(2))
    backwards = {k: again[k] for k in reversed(range(20))}
    for k in range(20):
        assert_close(first[k], backwards[k], rtol=0, atol=0)


def test_another_seed_or_index_gives_another_crop(images):
    crops = SuperResolutionCrops(images, 24, scale=4, seed=0)
    assert not torch.equal(crops[0]["target"], crops[1]["target"])
    assert not torch.equal(crops[0]["target"], SuperResolutionCrops(images, 24, scale=4, seed=1)[0]["target"])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_read_identical_crops(images, workers):
    crops = SuperResolutionCrops(images, 24, scale=2)
    batches = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    alone, shared = (
        list(DataLoader(crops, batch_sampler=batches, num_workers=n, multiprocessing_context="fork" if n else None))
        for n in (0, workers)
    )
    assert_close(shared, alone, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_low_resolution_crop_is_cut_from_the_whole_downsampled_image(images, scale):
    size = 12 * scale
    crops = SuperResolutionCrops(images, size, scale=scale)
    for index in range(3):
        whole = crop_to_multiple(to_float(images[index]), scale)
        small = downsample(whole[None], scale, levels=255)[0]
        tops, lefts = ((0, 1, 2, 3, side - 12) for side in small.shape[-2:])
        for top, left in zip(tops, lefts, strict=True):
            if top + 12 <= small.shape[-2] and left + 12 <= small.shape[-1]:
                target, low = crops._crop_pair(crop_to_multiple(images[index], scale), top, left)
                assert torch.equal(low, small[:, top : top + 12, left : left + 12])
                region = slice(top * scale, top * scale + size), slice(left * scale, left * scale + size)
                assert torch.equal(to_float(target), whole[:, *region])


@pytest.mark.parametrize(
    ("dtype", "pixels"),
    [
        ("uint16", PixelFormat(dtype="uint16")),
        ("int16", PixelFormat(dtype="int16", value_range=(-(2**15), 2**15 - 1))),
        ("float32", PixelFormat(dtype="float32", value_range=(0, 2**16))),
    ],
)
def test_crops_of_any_depth_are_cut_from_the_whole_downsampled_image(dtype, pixels, tmp_path):
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 60, 52)) + 2**15 * (dtype != "int16")
    np.save(tmp_path / "a.npy", values.astype(dtype))
    crops = SuperResolutionCrops(ImageFolder([tmp_path / "a.npy"], pixels=pixels), 24, scale=4)
    image = crops.images[0]
    small = downsample(to_float(image)[None], 4, levels=pixels.levels)[0]
    for top, left in ((0, 0), (3, 2), (9, 7)):
        target, low = crops._crop_pair(image, top, left)
        exact = 0 if pixels.levels else 1e-6  # a float32 sum depends on its order
        assert_close(low, small[:, top : top + 6, left : left + 6], rtol=0, atol=exact)
        assert torch.equal(target, image[:, 4 * top : 4 * top + 24, 4 * left : 4 * left + 24])


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("is_flipped", [False, True])
def test_16_bit_values_are_flipped_and_rotated_as_floats_are(is_flipped, turns):
    image = torch.arange(2**16 - 24, 2**16).view(2, 3, 4)
    turned = flip_and_rotate(image.to(torch.uint16), is_flipped, turns)
    assert torch.equal(turned.float(), flip_and_rotate(image.float(), is_flipped, turns))


def test_flips_and_rotations_are_equal_for_both_crops(images):
    crops = SuperResolutionCrops(images, 48, scale=4)
    for k in range(16):
        sample = crops[k]
        inner = downsample(sample["target"][None], 4, levels=255)[0][:, 2:-2, 2:-2]
        # rows and columns are rounded in turn
        assert_close(sample["input"][:, 2:-2, 2:-2], inner, rtol=0, atol=1.01 / 255)


def test_all_eight_symmetries_occur(tmp_path):
    ramp = torch.arange(16).view(1, 4, 4).expand(3, 4, 4).float() / 255
    to_pil(ramp).save(tmp_path / "a.png")
    crops = SuperResolutionCrops(ImageFolder([tmp_path / "a.png"]), 4, scale=2)
    assert len({tuple(crops[k]["target"].flatten().tolist()) for k in range(100)}) == 8


def test_16_bit_images_are_scaled_by_their_own_range(tmp_path):
    Image.fromarray(torch.full((8, 8), 32768, dtype=torch.uint16).numpy()).save(tmp_path / "a.png")
    sample = SuperResolutionCrops(ImageFolder([tmp_path / "a.png"]), 8, scale=2)[0]
    assert_close(sample["target"], torch.full((3, 8, 8), 32768 / 65535))


def test_a_size_that_is_not_a_multiple_of_the_scale_raises_a_value_error(images):
    with pytest.raises(ValueError, match="must be a positive multiple of the scale, 4; got 50"):
        SuperResolutionCrops(images, 50, scale=4)

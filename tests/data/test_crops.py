import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader

from lossmith.data import Crops, Pictures, downsample, trimmed
from lossmith.image import scaled, to_pil


@pytest.fixture
def pictures(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for i, size in enumerate([(61, 83), (48, 48), (90, 50)]):
        to_pil(torch.rand(3, *size, generator=generator)).save(tmp_path / f"{i}.png")
    return Pictures(sorted(tmp_path.iterdir()), least=48)


def test_a_crop_is_a_function_of_the_seed_and_its_place(pictures):
    first, again = Crops(pictures, 48, scale=4, seed=3), Crops(pictures, 48, scale=4, seed=3)
    backwards = {k: again[k] for k in reversed(range(20))}
    for k in range(20):
        assert_close(first[k], backwards[k], rtol=0, atol=0)


def test_another_seed_or_place_gives_another_crop(pictures):
    crops = Crops(pictures, 24, scale=4, seed=0)
    assert not torch.equal(crops[0]["target"], crops[1]["target"])
    assert not torch.equal(crops[0]["target"], Crops(pictures, 24, scale=4, seed=1)[0]["target"])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_read_the_same_bits(pictures, workers):
    crops = Crops(pictures, 24, scale=2)
    batches = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    alone, shared = (
        list(DataLoader(crops, batch_sampler=batches, num_workers=n, multiprocessing_context="fork" if n else None))
        for n in (0, workers)
    )
    assert_close(shared, alone, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_small_crop_is_cut_from_the_whole_picture_made_smaller(pictures, scale):
    size = 12 * scale
    crops = Crops(pictures, size, scale=scale)
    for index in range(3):
        whole = trimmed(scaled(pictures[index]), scale)
        small = downsample(whole[None], scale, eight_bit=True)[0]
        tops, lefts = ((0, 1, 2, 3, side - 12) for side in small.shape[-2:])
        for top, left in zip(tops, lefts, strict=True):
            if top + 12 <= small.shape[-2] and left + 12 <= small.shape[-1]:
                target, low = crops._cut(trimmed(pictures[index], scale), top, left)
                assert torch.equal(low, small[:, top : top + 12, left : left + 12])
                place = slice(top * scale, top * scale + size), slice(left * scale, left * scale + size)
                assert torch.equal(target, whole[:, *place])


def test_flips_and_turns_move_both_alike(pictures):
    crops = Crops(pictures, 48, scale=4)
    for k in range(16):
        item = crops[k]
        inner = downsample(item["target"][None], 4, eight_bit=True)[0][:, 2:-2, 2:-2]
        assert_close(
            item["input"][:, 2:-2, 2:-2], inner, rtol=0, atol=1.01 / 255
        )  # rows and columns are rounded in turn


def test_all_pictures_and_all_eight_turns_occur(tmp_path):
    ramp = torch.arange(16).view(1, 4, 4).expand(3, 4, 4).float() / 255
    to_pil(ramp).save(tmp_path / "a.png")
    crops = Crops(Pictures([tmp_path / "a.png"]), 4, scale=2)
    assert len({tuple(crops[k]["target"].flatten().tolist()) for k in range(100)}) == 8


def test_sixteen_bit_pictures_are_scaled_by_their_own_range(tmp_path):
    Image.fromarray(torch.full((8, 8), 32768, dtype=torch.uint16).numpy()).save(tmp_path / "a.png")
    item = Crops(Pictures([tmp_path / "a.png"]), 8, scale=2)[0]
    assert_close(item["target"], torch.full((3, 8, 8), 32768 / 65535))


def test_a_crop_that_the_scale_does_not_divide_is_refused(pictures):
    with pytest.raises(ValueError, match="a multiple of the scale, 4, as its side; got 50"):
        Crops(pictures, 50, scale=4)

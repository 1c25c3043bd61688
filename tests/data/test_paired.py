import pytest
import torch

from lossmith.data import PairedCrops, PairedImages, PairMatcher, list_images
from lossmith.image import to_pil


@pytest.fixture
def folders(tmp_path):
    """Folders of 48 x 64 targets and of inputs of half the size; target 3 has a wrong input, target 4 has none."""
    generator = torch.Generator().manual_seed(0)
    for name in ("targets", "inputs"):
        (tmp_path / name).mkdir()
    for i in range(5):
        small = torch.rand(3, 24, 32, generator=generator)
        to_pil(small.repeat_interleave(2, 1).repeat_interleave(2, 2)).save(tmp_path / "targets" / f"{i}.png")
        if i == 3:
            small = small[:, :20]
        if i < 4:
            to_pil(small).save(tmp_path / "inputs" / f"{i}.bmp")
    return tmp_path / "targets", tmp_path / "inputs"


def test_crops_of_a_pair_show_the_same_region(folders):
    crops = PairedCrops(list_images(folders[0]), PairMatcher(folders[1], 2), 16, seed=1)
    for k in range(12):
        pair = crops[k]
        assert pair["target"].shape == (3, 16, 16) and pair["input"].shape == (3, 8, 8)
        torch.testing.assert_close(pair["target"][:, ::2, ::2], pair["input"], rtol=0, atol=0.003)


def test_a_crop_is_a_function_of_the_seed_and_its_index(folders):
    one, other = (PairedCrops(list_images(folders[0]), PairMatcher(folders[1], 2), 16, seed=1) for _ in range(2))
    backwards = {k: other[k] for k in reversed(range(8))}
    assert all(torch.equal(one[k]["target"], backwards[k]["target"]) for k in range(8))


def test_unmatched_targets_are_listed_with_the_reason(folders):
    skipped = PairedCrops(list_images(folders[0]), PairMatcher(folders[1], 2), 16).skipped
    assert [(file[-5:], reason.split(" px")[0]) for file, reason in skipped] == [
        ("3.png", "the input image has 32x20"),
        ("4.png", f"{str(folders[1])!r} contains no image named '4'"),
    ]


def test_folders_without_a_pair_raise_a_value_error(folders):
    with pytest.raises(
        ValueError, match=r"None of the 5 images has a matching input image; the first is .*matched by file name"
    ):
        PairedCrops(list_images(folders[0]), PairMatcher(folders[0], 2), 16)


def test_whole_pairs_are_evaluation_examples(folders):
    examples = list(PairedImages(folders[0], PairMatcher(folders[1], 2)))
    assert [example.name for example in examples] == ["0", "1", "2"]
    assert all(example.batch["input"].shape == (1, 3, 24, 32) for example in examples)

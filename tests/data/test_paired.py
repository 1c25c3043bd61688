import pytest
import torch

from lossmith.data import OwnCrops, OwnPairs, Partners, listed
from lossmith.image import to_pil


@pytest.fixture
def folders(tmp_path):
    """True pictures of 48 x 64 and spoilt ones of half the size; the last has no partner, and one fits badly."""
    generator = torch.Generator().manual_seed(0)
    for name in ("true", "spoilt"):
        (tmp_path / name).mkdir()
    for i in range(5):
        small = torch.rand(3, 24, 32, generator=generator)
        to_pil(small.repeat_interleave(2, 1).repeat_interleave(2, 2)).save(tmp_path / "true" / f"{i}.png")
        if i == 3:
            small = small[:, :20]
        if i < 4:
            to_pil(small).save(tmp_path / "spoilt" / f"{i}.bmp")
    return tmp_path / "true", tmp_path / "spoilt"


def test_crops_of_a_pair_show_the_same_place(folders):
    crops = OwnCrops(listed(folders[0]), Partners(folders[1], 2), 16, seed=1)
    for k in range(12):
        pair = crops[k]
        assert pair["target"].shape == (3, 16, 16) and pair["input"].shape == (3, 8, 8)
        torch.testing.assert_close(pair["target"][:, ::2, ::2], pair["input"], rtol=0, atol=0.003)


def test_a_crop_is_a_function_of_the_seed_and_its_place(folders):
    one, other = (OwnCrops(listed(folders[0]), Partners(folders[1], 2), 16, seed=1) for _ in range(2))
    backwards = {k: other[k] for k in reversed(range(8))}
    assert all(torch.equal(one[k]["target"], backwards[k]["target"]) for k in range(8))


def test_who_has_no_partner_is_listed_with_the_reason(folders):
    skipped = OwnCrops(listed(folders[0]), Partners(folders[1], 2), 16).skipped
    assert [(file[-5:], why.split(" px")[0]) for file, why in skipped] == [
        ("3.png", "its partner has 32x20"),
        ("4.png", f"{str(folders[1])!r} has no picture called '4', which it is matched by"),
    ]


def test_folders_without_a_pair_are_refused_in_one_line(folders, tmp_path):
    with pytest.raises(
        ValueError, match=r"None of the 5 pictures has a partner that fits; the first is .*matched by name"
    ):
        OwnCrops(listed(folders[0]), Partners(folders[0], 2), 16)


def test_whole_pairs_are_given_to_be_judged_by(folders):
    examples = list(OwnPairs(folders[0], Partners(folders[1], 2)))
    assert [example.name for example in examples] == ["0", "1", "2"]
    assert all(example.batch["input"].shape == (1, 3, 24, 32) for example in examples)

import pytest
import torch
from PIL import ExifTags, Image

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
    assert [example.name for example in examples] == ["0.png", "1.png", "2.png"]
    assert all(example.batch["input"].shape == (1, 3, 24, 32) for example in examples)


def save_turned(image, file):
    """Save an image on its side, with the EXIF orientation that makes it upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file.parent.mkdir(exist_ok=True)
    image.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("turned", ["true", "in"])
def test_pairs_are_compared_upright(tmp_path, suffix, turned):
    image = to_pil(torch.rand(3, 96, 64, generator=torch.Generator().manual_seed(0)))
    upright = {"true": "in", "in": "true"}[turned]
    (tmp_path / upright).mkdir()
    save_turned(image, tmp_path / turned / f"1.{suffix}"), image.save(tmp_path / upright / "1.png")
    crops = PairedCrops(list_images(tmp_path / "true"), PairMatcher(tmp_path / "in", 1), 48)
    assert crops[0]["input"].shape == crops[0]["target"].shape == (3, 48, 48)
    (pair,) = PairedImages(tmp_path / "true", PairMatcher(tmp_path / "in", 1))
    assert pair.batch["target"].shape == pair.batch["input"].shape == (1, 3, 96, 64)


def test_a_pair_that_fits_only_on_its_side_is_listed(tmp_path):
    image = to_pil(torch.rand(3, 96, 64, generator=torch.Generator().manual_seed(0)))
    (tmp_path / "in").mkdir()
    save_turned(image, tmp_path / "true/1.jpg")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in/1.png")
    with pytest.raises(ValueError, match="the input image has 96x64 px, but must have 64x96 px"):
        PairMatcher(tmp_path / "in", 1).match(list_images(tmp_path / "true"))


def test_inputs_inside_the_folder_of_targets_are_no_targets(folders):
    root = folders[0].parent
    crops = PairedCrops(list_images(root), PairMatcher(folders[1], 2), 16)
    assert [target.name for target, _ in crops.pairs] == ["0.png", "1.png", "2.png"]


def test_targets_inside_the_folder_of_inputs_are_no_inputs(folders):
    pairs, _ = PairMatcher(folders[0].parent, 2).match(list_images(folders[0]))
    assert [low.parent.name for _, low in pairs] == ["inputs"] * 3


def test_paths_are_relative_to_the_folder_of_targets_of_the_matcher(tmp_path):
    for folder in ("true/x", "true/y", "in/x", "in/y"):
        (tmp_path / folder).mkdir(parents=True)
        to_pil(torch.rand(3, 64, 64)).save(tmp_path / folder / "1.png")
    matcher = PairMatcher(tmp_path / "in", 1, targets=tmp_path / "true")
    ((_, low),), _ = matcher.match(list_images(tmp_path / "true/y"))
    assert low == tmp_path / "in/y/1.png"


def test_a_truncated_pair_is_skipped_with_the_reason(folders):
    file = folders[1] / "1.bmp"
    file.write_bytes(file.read_bytes()[:400])
    crops = PairedCrops(list_images(folders[0]), PairMatcher(folders[1], 2), 16)
    examples = PairedImages(folders[0], PairMatcher(folders[1], 2))
    assert len([crops[k] for k in range(20)]) == 20 and len(list(examples)) == 2
    for skipped in (crops.skipped, examples.skipped):
        assert any(
            file.endswith("1.png") and "cannot be decoded: image file is truncated" in why for file, why in skipped
        )


def test_undecodable_pairs_alone_raise_a_value_error(folders):
    for file in folders[1].iterdir():
        file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(ValueError, match="None of the 3 images can be used"):
        list(PairedImages(folders[0], PairMatcher(folders[1], 2)))

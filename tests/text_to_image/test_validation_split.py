"""The captions of an evaluation: those that the run held out, and none that it was trained on."""

import shutil
from pathlib import Path

import pytest

from lossmith.text_to_image.validation_split import split_as_trained
from lossmith.train import Settings


@pytest.fixture
def write_run(write_captioned_images, tmp_path):
    """A function that writes the folder of a run trained on twenty captioned images, or on others."""
    write_captioned_images(tmp_path / "ours", 20)

    def write(images=tmp_path / "ours", val=None):
        (tmp_path / "run").mkdir(exist_ok=True)
        settings = Settings(images=str(images), val=val and str(val), loss="imagen", steps=1, task="text-to-image")
        settings.write(tmp_path / "run" / "config.json", "0")
        return tmp_path / "run"

    return write


def split(run, captions, val=None, fraction=0.15):
    return split_as_trained(Path(run), str(captions), val and str(val), fraction=fraction, side=16)


def test_a_run_with_validation_images_is_evaluated_on_these(write_run, write_captioned_images, tmp_path):
    others = write_captioned_images(tmp_path / "others", 5)
    found = split(write_run(val=others), tmp_path / "ours")
    assert (len(found.train), len(found.held_out)) == (20, 5)
    assert found.val == others
    assert not found.remarks


@pytest.mark.parametrize(("fraction", "held_out"), [(0.1, 2), (0.4, 8)])
def test_a_run_without_validation_images_is_evaluated_on_its_held_out_fraction(write_run, tmp_path, fraction, held_out):
    found = split(write_run(), tmp_path / "ours" / ".." / "ours", fraction=fraction)
    assert (len(found.train), len(found.held_out)) == (20 - held_out, held_out)
    assert not found.remarks


def test_other_validation_images_do_not_add_held_out_images_to_the_training_images(
    write_run, write_captioned_images, tmp_path
):
    found = split(write_run(), tmp_path / "ours", write_captioned_images(tmp_path / "others", 5))
    assert (len(found.train), len(found.held_out)) == (17, 5)


@pytest.mark.parametrize("place", ["ours", "ours/../ours"])
def test_an_evaluation_on_training_images_raises(write_run, write_captioned_images, tmp_path, place):
    run = write_run(val=write_captioned_images(tmp_path / "others", 5))
    with pytest.raises(ValueError, match=r"trained on 20 of the 20 validation images; .* --val DIR"):
        split(run, tmp_path / "ours", tmp_path / place)
    with pytest.raises(ValueError, match="trained on 20 of the 20 validation images"):
        split(run, tmp_path / "others", tmp_path / place)


def test_an_evaluation_on_trained_shapes_raises(write_run):
    assert not split(write_run("shapes"), "shapes:1").remarks
    with pytest.raises(ValueError, match="of the 480 validation images"):
        split(write_run("shapes"), "shapes", "shapes:1")


def test_a_remark_on_other_images_says_with_which_images_copies_compare(write_run, write_captioned_images, tmp_path):
    found = split(write_run(), write_captioned_images(tmp_path / "others", 10))
    assert (len(found.train), len(found.held_out)) == (9, 1)
    assert f"trained on {tmp_path / 'ours'}, not on {tmp_path / 'others'}: " in found.remarks[0]
    assert "copies compare with the other images" in found.remarks[0]


def test_captions_that_were_trained_on_with_other_images_are_counted(write_run, write_captioned_images, tmp_path):
    others = write_captioned_images(tmp_path / "others", 5)
    shutil.copy(tmp_path / "ours" / "3.txt", tmp_path / "others" / "3.txt")
    assert "was trained on 2 of the 10 captions" in split(write_run(val=others), tmp_path / "ours").remarks[0]


def test_images_that_were_moved_are_recognized_by_their_folder_name(write_run, tmp_path):
    run = write_run()
    (tmp_path / "there").mkdir()
    (tmp_path / "ours").rename(tmp_path / "there" / "ours")
    found = split(run, tmp_path / "there" / "ours")
    assert "replaces it" in found.remarks[0]
    assert len(found.held_out) == 3


def test_missing_validation_images_raise(write_run, write_captioned_images, tmp_path):
    run = write_run(val=tmp_path / "gone")
    with pytest.raises(ValueError, match="gone', is not readable; give --val DIR"):
        split(run, tmp_path / "ours")
    assert len(split(run, tmp_path / "ours", write_captioned_images(tmp_path / "others", 5)).train) == 20


def test_a_weight_file_outside_of_a_run_gives_a_remark(write_run, write_captioned_images, tmp_path):
    file = write_run() / "model.safetensors"
    assert not split(file, tmp_path / "ours").remarks  # the file lies in its run
    found = split(tmp_path / "model.safetensors", tmp_path / "ours")
    assert "does not name its training data" in found.remarks[0]

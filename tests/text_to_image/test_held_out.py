"""Which captions a network is judged by: those that its run held out, and none that it was trained on."""

import shutil
from pathlib import Path

import pytest

from lossmith.text_to_image.validation_split import held_out
from lossmith.train import Settings


@pytest.fixture
def trained(captioned, tmp_path):
    """What makes the folder of a run that was trained on twenty captioned pictures, or on others."""
    captioned(tmp_path / "ours", 20)

    def made(images=tmp_path / "ours", val=None):
        (tmp_path / "run").mkdir(exist_ok=True)
        settings = Settings(images=str(images), val=val and str(val), loss="imagen", steps=1, task="text-to-image")
        settings.write(tmp_path / "run" / "config.json", "0")
        return tmp_path / "run"

    return made


def judged(run, captions, val=None, share=0.15):
    return held_out(Path(run), str(captions), val and str(val), share=share, side=16)


def test_a_run_is_judged_by_the_pictures_that_it_was_judged_by_in_training(trained, captioned, tmp_path):
    others = captioned(tmp_path / "others", 5)
    found = judged(trained(val=others), tmp_path / "ours")
    assert (len(found.train), len(found.held)) == (20, 5)
    assert found.val == others
    assert not found.remarks


@pytest.mark.parametrize(("share", "held"), [(0.1, 2), (0.4, 8)])
def test_a_run_that_had_none_is_judged_by_the_share_that_it_held_out(trained, tmp_path, share, held):
    found = judged(trained(), tmp_path / "ours" / ".." / "ours", share=share)
    assert (len(found.train), len(found.held)) == (20 - held, held)
    assert not found.remarks


def test_other_pictures_to_judge_by_do_not_make_what_was_held_out_trained_on(trained, captioned, tmp_path):
    found = judged(trained(), tmp_path / "ours", captioned(tmp_path / "others", 5))
    assert (len(found.train), len(found.held)) == (17, 5)


@pytest.mark.parametrize("place", ["ours", "ours/../ours"])
def test_what_was_trained_on_is_not_judged_by(trained, captioned, tmp_path, place):
    run = trained(val=captioned(tmp_path / "others", 5))
    with pytest.raises(ValueError, match=r"trained on 20 of the 20 pictures .* with --val DIR"):
        judged(run, tmp_path / "ours", tmp_path / place)
    with pytest.raises(ValueError, match="trained on 20 of the 20 pictures"):
        judged(run, tmp_path / "others", tmp_path / place)


def test_shapes_that_were_trained_on_are_not_judged_by(trained):
    assert not judged(trained("shapes"), "shapes:1").remarks
    with pytest.raises(ValueError, match="of the 480 pictures"):
        judged(trained("shapes"), "shapes", "shapes:1")


def test_of_other_pictures_it_is_said_what_the_copies_are_compared_with(trained, captioned, tmp_path):
    found = judged(trained(), captioned(tmp_path / "others", 10))
    assert (len(found.train), len(found.held)) == (9, 1)
    assert f"trained on {tmp_path / 'ours'}, not on {tmp_path / 'others'}: " in found.remarks[0]
    assert "copies compare with what else" in found.remarks[0]


def test_captions_that_were_trained_on_with_other_pictures_are_counted(trained, captioned, tmp_path):
    others = captioned(tmp_path / "others", 5)
    shutil.copy(tmp_path / "ours" / "3.txt", tmp_path / "others" / "3.txt")
    assert "was trained on 2 of the 10 captions" in judged(trained(val=others), tmp_path / "ours").remarks[0]


def test_pictures_that_were_moved_are_known_by_their_name(trained, tmp_path):
    run = trained()
    (tmp_path / "there").mkdir()
    (tmp_path / "ours").rename(tmp_path / "there" / "ours")
    found = judged(run, tmp_path / "there" / "ours")
    assert "is taken for it" in found.remarks[0]
    assert len(found.held) == 3


def test_pictures_to_judge_by_that_are_gone_are_asked_for(trained, captioned, tmp_path):
    run = trained(val=tmp_path / "gone")
    with pytest.raises(ValueError, match="gone', which is not here; give the place with --val DIR"):
        judged(run, tmp_path / "ours")
    assert len(judged(run, tmp_path / "ours", captioned(tmp_path / "others", 5)).train) == 20


def test_a_file_of_no_run_says_that_nobody_knows(trained, captioned, tmp_path):
    file = trained() / "model.safetensors"
    assert not judged(file, tmp_path / "ours").remarks  # which lies in its run
    found = judged(tmp_path / "model.safetensors", tmp_path / "ours")
    assert "does not say what it was trained on" in found.remarks[0]

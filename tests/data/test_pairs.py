import pytest
import torch
from torch.testing import assert_close

from lossmith.data import Pairs, downsample, samples
from lossmith.data import samples as sample_files
from lossmith.image import to_pil


def draw(path, height=64, width=80, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    to_pil(image).save(path)
    return path


def test_the_shipped_small_pictures_are_used(tmp_path):
    draw(tmp_path / "HR/a.png", 64, 80), draw(tmp_path / "LRx4/a.png", 16, 20, seed=9)
    (pair,) = Pairs(tmp_path, 4)
    made = downsample(pair.batch["target"], 4, eight_bit=True)
    assert pair.name == "a" and pair.batch["input"].shape == (1, 3, 16, 20)
    assert not torch.equal(pair.batch["input"], made)


def test_small_pictures_called_as_in_div2k_are_found(tmp_path):
    draw(tmp_path / "HR/0801.png", 64, 80), draw(tmp_path / "LRx4/0801x4.png", 16, 20)
    assert [pair.name for pair in Pairs(tmp_path, 4)] == ["0801"]


def test_of_another_scale_they_are_made(tmp_path):
    draw(tmp_path / "HR/a.png", 65, 82), draw(tmp_path / "LRx4/a.png", 16, 20)
    (pair,) = Pairs(tmp_path, 3)
    assert pair.batch["target"].shape == (1, 3, 63, 81)
    assert_close(pair.batch["input"], downsample(pair.batch["target"], 3, eight_bit=True))


def test_a_plain_folder_gives_pairs_of_different_sizes(tmp_path):
    draw(tmp_path / "a.png", 50, 60), draw(tmp_path / "b.jpg", 70, 49)
    assert [p.batch["target"].shape[-2:] for p in Pairs(tmp_path, 2)] == [(50, 60), (70, 48)]


@pytest.mark.parametrize(
    ("shape", "why"), [((15, 20), "20x15 px, which is not 1/4 of 80x64 px"), (None, "LRx4 has no picture of that name")]
)
def test_a_small_picture_that_does_not_fit_is_skipped_and_listed(shape, why, tmp_path):
    draw(tmp_path / "HR/a.png"), draw(tmp_path / "HR/b.png"), draw(tmp_path / "LRx4/b.png", 16, 20)
    if shape:
        draw(tmp_path / "LRx4/a.png", *shape)
    pairs = Pairs(tmp_path, 4)
    assert [pair.name for pair in pairs] == ["b"]
    assert [why in skipped.why for skipped in pairs.skipped] == [True]


def test_broken_and_tiny_pictures_are_skipped_and_listed(tmp_path):
    draw(tmp_path / "good.png"), draw(tmp_path / "tiny.png", 20, 90)
    draw(tmp_path / "cut.jpg", 200, 200)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:2000])
    pairs = Pairs(tmp_path, 2)
    assert [pair.name for pair in pairs] == ["good"]
    assert ["truncated" in s.why or "too small" in s.why for s in pairs.skipped] == [True, True]


def test_walking_twice_gives_the_same_and_counts_once(tmp_path):
    draw(tmp_path / "good.png"), draw(tmp_path / "tiny.png", 20, 90)
    pairs = Pairs(tmp_path, 2)
    assert_close([p.batch for p in pairs], [p.batch for p in pairs])
    assert len(pairs.skipped) == 1


def test_an_error_of_whoever_uses_a_pair_is_not_taken_for_a_bad_picture(tmp_path):
    draw(tmp_path / "a.png")
    pairs = Pairs(tmp_path, 2)
    with pytest.raises(ValueError, match="mine"):
        for _ in pairs:
            raise ValueError("mine")
    assert pairs.skipped == []


def test_when_none_can_be_used_the_first_is_named(tmp_path):
    draw(tmp_path / "tiny.png", 20, 90)
    with pytest.raises(ValueError, match=r"None of the 1 pictures can be used; the first is '.*tiny.png': 90x20 px"):
        list(Pairs(tmp_path, 2))


def test_a_limit_takes_some_that_are_spread_evenly(tmp_path):
    for i in range(9):
        draw(tmp_path / f"{i}.png")
    assert [pair.name for pair in Pairs(tmp_path, 2, limit=3)] == ["1", "4", "7"]


def test_pictures_of_one_name_get_different_names(tmp_path):
    draw(tmp_path / "x/a.png"), draw(tmp_path / "y/a.png"), draw(tmp_path / "y/b.png")
    assert [pair.name for pair in Pairs(tmp_path, 2)] == ["x_a_png", "y_a_png", "b"]


def test_samples_are_pictures_and_none_is_in_both_sets():
    training, held_out = sample_files()
    assert len(list(Pairs(training, 4))) == len(training) and not set(training) & set(held_out)


def test_without_scikit_image_the_samples_say_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"scikit-image, which is missing: pip install 'lossmith\[demo\]'"):
        samples()


def test_a_scikit_image_without_its_pictures_is_named(monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec)
    with pytest.raises(ValueError, match=r"lacks its picture astronaut.png"):
        samples()

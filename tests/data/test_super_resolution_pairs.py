import pytest
import torch
from torch.testing import assert_close

from lossmith.data import SuperResolutionPairs, downsample, list_sample_images
from lossmith.image import to_pil


def save_noise(path, height=64, width=80, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    to_pil(image).save(path)
    return path


def test_the_low_resolution_images_of_a_benchmark_are_used(tmp_path):
    save_noise(tmp_path / "HR/a.png", 64, 80), save_noise(tmp_path / "LRx4/a.png", 16, 20, seed=9)
    (pair,) = SuperResolutionPairs(tmp_path, 4)
    computed = downsample(pair.batch["target"], 4, levels=255)
    assert pair.name == "a.png" and pair.batch["input"].shape == (1, 3, 16, 20)
    assert not torch.equal(pair.batch["input"], computed)


def test_low_resolution_images_named_as_in_div2k_are_found(tmp_path):
    save_noise(tmp_path / "HR/0801.png", 64, 80), save_noise(tmp_path / "LRx4/0801x4.png", 16, 20)
    assert [pair.name for pair in SuperResolutionPairs(tmp_path, 4)] == ["0801.png"]


def test_low_resolution_images_are_found_by_their_relative_paths(tmp_path):
    for seed, name in enumerate(("x/1", "y/1")):
        save_noise(tmp_path / f"HR/{name}.png", 64, 80), save_noise(tmp_path / f"LRx2/{name}x2.png", 32, 40, seed=seed)
    inputs = [pair.batch["input"] for pair in SuperResolutionPairs(tmp_path, 2)]
    assert len(inputs) == 2 and not torch.equal(*inputs)


def test_low_resolution_images_of_another_scale_are_computed(tmp_path):
    save_noise(tmp_path / "HR/a.png", 65, 82), save_noise(tmp_path / "LRx4/a.png", 16, 20)
    (pair,) = SuperResolutionPairs(tmp_path, 3)
    assert pair.batch["target"].shape == (1, 3, 63, 81)
    assert_close(pair.batch["input"], downsample(pair.batch["target"], 3, levels=255))


def test_a_folder_of_images_gives_pairs_of_different_sizes(tmp_path):
    save_noise(tmp_path / "a.png", 50, 60), save_noise(tmp_path / "b.jpg", 70, 49)
    assert [p.batch["target"].shape[-2:] for p in SuperResolutionPairs(tmp_path, 2)] == [(50, 60), (70, 48)]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((15, 20), "20x15 px, which is not 1/4 of 80x64 px"), (None, "LRx4 has no image of this name")],
)
def test_a_low_resolution_image_of_another_size_is_skipped_and_listed(shape, reason, tmp_path):
    save_noise(tmp_path / "HR/a.png"), save_noise(tmp_path / "HR/b.png"), save_noise(tmp_path / "LRx4/b.png", 16, 20)
    if shape:
        save_noise(tmp_path / "LRx4/a.png", *shape)
    pairs = SuperResolutionPairs(tmp_path, 4)
    assert [pair.name for pair in pairs] == ["b.png"]
    assert [reason in skipped.reason for skipped in pairs.skipped] == [True]


def test_damaged_and_tiny_images_are_skipped_and_listed(tmp_path):
    save_noise(tmp_path / "good.png"), save_noise(tmp_path / "tiny.png", 20, 90)
    save_noise(tmp_path / "cut.jpg", 200, 200)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:2000])
    pairs = SuperResolutionPairs(tmp_path, 2)
    assert [pair.name for pair in pairs] == ["good.png"]
    assert ["truncated" in s.reason or "too small" in s.reason for s in pairs.skipped] == [True, True]


def test_a_second_iteration_gives_the_same_pairs_and_lists_skipped_files_once(tmp_path):
    save_noise(tmp_path / "good.png"), save_noise(tmp_path / "tiny.png", 20, 90)
    pairs = SuperResolutionPairs(tmp_path, 2)
    assert_close([p.batch for p in pairs], [p.batch for p in pairs])
    assert len(pairs.skipped) == 1


def test_an_error_in_the_body_of_the_loop_is_not_attributed_to_the_image(tmp_path):
    save_noise(tmp_path / "a.png")
    pairs = SuperResolutionPairs(tmp_path, 2)
    with pytest.raises(ValueError, match="raised by the caller"):
        for _ in pairs:
            raise ValueError("raised by the caller")
    assert pairs.skipped == []


def test_the_error_names_the_first_file_if_no_image_can_be_used(tmp_path):
    save_noise(tmp_path / "tiny.png", 20, 90)
    with pytest.raises(ValueError, match=r"None of the 1 images can be used; the first is '.*tiny.png': 90x20 px"):
        list(SuperResolutionPairs(tmp_path, 2))


def test_a_limit_selects_evenly_spaced_images(tmp_path):
    for i in range(9):
        save_noise(tmp_path / f"{i}.png")
    assert [pair.name for pair in SuperResolutionPairs(tmp_path, 2, limit=3)] == ["1.png", "4.png", "7.png"]


def test_images_with_equal_stems_get_different_names(tmp_path):
    save_noise(tmp_path / "x/a.png"), save_noise(tmp_path / "y/a.png"), save_noise(tmp_path / "y/b.png")
    assert [pair.name for pair in SuperResolutionPairs(tmp_path, 2)] == ["x/a.png", "y/a.png", "y/b.png"]


@pytest.mark.slow
def test_the_sample_images_are_readable_and_the_two_sets_are_disjoint():
    training, held_out = list_sample_images()
    assert len(list(SuperResolutionPairs(training, 4))) == len(training) and not set(training) & set(held_out)


def test_missing_scikit_image_is_reported_with_the_install_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"scikit-image, which is missing: pip install -e '\.\[demo\]'"):
        list_sample_images()


def test_a_scikit_image_without_its_images_is_reported(monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec)
    with pytest.raises(ValueError, match=r"does not contain its image astronaut.png"):
        list_sample_images()

"""Which files are which image: pairs, held-out images and validation images of the tasks."""

import shutil

import pytest
import torch

from lossmith.data.file_identity import find_copies
from lossmith.image import to_pil
from lossmith.tasks import Autoencoding, Deblurring, Denoising, JPEGRepair, Paired, SuperResolution

FEW = {"crop": 32, "seed": 0}


def save_images(folder, names, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        to_pil(torch.rand(3, side, side, generator=generator)).save(folder / name)
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    """Targets and inputs of training and of a test, all with the same names and different contents."""
    names = ["0.png", "1.png"]
    parts = ("train/true", "train/in", "test/true", "test/in")
    return [save_images(tmp_path / part, names, seed=seed) for seed, part in enumerate(parts)]


def loaded_names(data):
    return {example.name for example in data.evaluation_set} if data.evaluation_set else set()


def trained_files(data):
    for k in range(200):
        data.training_set[k]  # damaged files are known after they were decoded
    return {data.training_set.source(k).rpartition("/")[2] for k in range(200)}


def first_input(examples):
    return next(iter(examples)).batch["input"]


def test_validation_pairs_have_inputs_of_their_own(folders):
    images, inputs, val, val_inputs = folders
    task = Paired(inputs=inputs, val_inputs=val_inputs)
    examples = task.load_data(images, val, val_count=4, **FEW).evaluation_set
    expected = Paired(inputs=val_inputs).evaluation_set(val)
    assert torch.equal(first_input(examples), first_input(expected))


def test_validation_images_elsewhere_without_inputs_raise_a_value_error(folders):
    images, inputs, val, _ = folders
    with pytest.raises(ValueError, match=r"inputs of the images in '.*test/true' are not known.* --val-inputs"):
        Paired(inputs=inputs).load_data(images, val, val_count=4, **FEW)


@pytest.mark.parametrize("flag", ["--inputs", "--val-inputs"])
def test_targets_are_not_inputs_of_themselves(folders, flag):
    images, inputs, val, _ = folders
    task = Paired(inputs=inputs, val_inputs=f"{val}/../true") if "val" in flag else Paired(inputs=f"{images}/")
    with pytest.raises(ValueError, match=f"and {flag} name the same images"):
        task.load_data(images, val, val_count=4, **FEW)


def test_a_paired_task_knows_the_inputs_of_its_own_folders_and_of_no_others(folders):
    images, inputs, val, val_inputs = folders
    task, own = Paired(inputs=inputs, val_inputs=val_inputs), {"trained_on": images, "val": val}
    assert task.for_images(images, **own).inputs == inputs
    assert task.for_images(val, **own).inputs == val_inputs
    assert task.for_images("elsewhere", inputs="its inputs", **own).inputs == "its inputs"
    for known in (own, {}):
        with pytest.raises(ValueError, match="not known"):
            task.for_images("elsewhere", **known)


def test_a_part_of_the_training_folder_keeps_its_inputs(tmp_path):
    for seed, part in enumerate(("true", "in")):
        save_images(tmp_path / part, ["x/1.png", "y/1.png"], seed=seed)
    whole, part = (str(tmp_path / "true" / each) for each in ("", "y"))
    task = Paired(inputs=str(tmp_path / "in")).for_images(part, trained_on=whole)
    (_, low), *others = task.evaluation_set(part).pairs
    assert low == tmp_path / "in/y/1.png" and not others


def test_a_task_that_computes_its_inputs_refuses_a_folder_of_inputs():
    with pytest.raises(ValueError, match="autoencoding computes the inputs from the images; omit --inputs"):
        Autoencoding().for_images("images", inputs="inputs")
    task = SuperResolution(2)
    assert task.for_images("images") is task


@pytest.mark.parametrize("task", [Denoising(), Deblurring(), JPEGRepair(), SuperResolution(2)], ids=lambda t: t.name)
def test_a_restoration_is_evaluated_on_pairs_of_files(tmp_path, task):
    for part, side in (("true", 96), ("in", 96 // task.scale)):
        save_images(tmp_path / part, ["a.png", "b.png"], side=side, seed=side)
    paired = task.for_images(tmp_path / "true", inputs=str(tmp_path / "in"))
    examples = list(paired.evaluation_set(tmp_path / "true"))
    assert [each.name for each in examples] == ["a.png", "b.png"]
    assert examples[0].batch["input"].shape[-1] * task.scale == examples[0].batch["target"].shape[-1] == 96
    assert paired.border == task.border


def spoil(file, kind, partner):
    """Make an image unusable for validation."""
    if kind == "broken":
        file.write_text("not an image")
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:600])
    elif kind == "small":
        save_images(file.parent, [file.name], side=40)
    else:
        partner.unlink()


@pytest.mark.parametrize("kind", ["broken", "truncated", "small", "unpaired"])
def test_the_image_that_is_held_out_is_usable(tmp_path, kind):
    names = [f"{i}.png" for i in range(10)]
    images, inputs = (save_images(tmp_path / part, names) for part in ("true", "in"))
    spoil(tmp_path / "true/5.png", kind, tmp_path / "in/5.png")
    task = Paired(inputs=inputs) if kind == "unpaired" else Denoising()
    data = task.load_data(images, None, val_count=16, **FEW)
    assert loaded_names(data) == {"6.png"}
    assert "1 image cannot be held out; the first is" in data.message and "5.png" in data.message
    assert "6.png" not in trained_files(data)
    assert trained_files(data) == {*names} - {"6.png"} - ({"5.png"} if kind != "small" else set())


def test_the_message_says_how_many_images_are_skipped_and_why(tmp_path):
    images = save_images(tmp_path, ["0.png", "1.png", "2.png"])
    (tmp_path / "3.png").write_text("not an image")
    message = Denoising().load_data(images, None, val_count=16, **FEW).message
    assert f"Skipped {str(tmp_path / '3.png')!r}: the content is not an image." in message


@pytest.mark.parametrize(("sides", "held_out"), [((64, None), 0), ((64,), 0), ((40, 40, 40), 0), ((64, 64), 1)])
def test_no_image_is_held_out_if_no_other_can_be_trained_on(tmp_path, sides, held_out):
    for i, side in enumerate(sides):
        save_images(tmp_path, [f"{i}.png"], side=side or 8)
    data = Denoising().load_data(str(tmp_path), None, val_count=16, **FEW)
    assert len(loaded_names(data)) == held_out and data.training_set[0]["target"].shape == (3, 32, 32)
    assert (data.evaluation_set is None) == (held_out == 0)


def test_validation_images_inside_the_training_folder_are_not_trained_on(tmp_path):
    images = save_images(tmp_path, ["0.png", "1.png", "val/2.png", "val/3.png"])
    data = Denoising().load_data(images, str(tmp_path / "val"), val_count=16, **FEW)
    assert trained_files(data) == {"0.png", "1.png"} and data.training_count == 2
    assert "2 skipped" in data.message and "the image is a validation image" in data.message


def test_links_to_validation_images_are_not_trained_on(tmp_path):
    val = save_images(tmp_path / "val", ["2.png"], seed=1)
    images = save_images(tmp_path / "images", ["0.png"])
    (tmp_path / "images/a.png").symlink_to("../val/2.png")
    assert trained_files(Denoising().load_data(images, val, val_count=16, **FEW)) == {"0.png"}


def test_copies_of_validation_images_are_not_trained_on(tmp_path):
    images = save_images(tmp_path / "images", ["0.png", "1.png", "2.png"])
    val = save_images(tmp_path / "val", ["other.png"], seed=1)
    shutil.copy(tmp_path / "images/1.png", tmp_path / "val/renamed.png")
    data = Denoising().load_data(images, val, val_count=16, **FEW)
    assert trained_files(data) == {"0.png", "2.png"}
    assert f"Skipped {str(tmp_path / 'images/1.png')!r}: the image is a copy of a validation image." in data.message


def test_copies_of_held_out_images_are_not_trained_on(tmp_path):
    images = save_images(tmp_path, [f"{i}.png" for i in range(10)])
    shutil.copy(tmp_path / "5.png", tmp_path / "x.png")
    data = Denoising().load_data(images, None, val_count=16, **FEW)
    assert loaded_names(data) == {"5.png"} and trained_files(data) == {f"{i}.png" for i in range(10)} - {"5.png"}


def test_images_of_equal_size_and_beginning_are_no_copies(tmp_path):
    for i, name in enumerate(("images/a.bin", "images/b.bin", "val/c.bin")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(2**17) + bytes([i % 2]))
    images, val = ([*sorted((tmp_path / part).iterdir())] for part in ("images", "val"))
    assert find_copies(images, val) == {images[0]: (val[0], False)}


def test_links_of_one_image_are_on_one_side_of_the_split(tmp_path):
    images = save_images(tmp_path, [f"{i}.png" for i in range(10)])
    for i in range(10):
        (tmp_path / f"{i}b.png").symlink_to(f"{i}.png")
    data = Denoising().load_data(images, None, val_count=16, **FEW)
    assert trained_files(data) | loaded_names(data) == {f"{i}.png" for i in range(10)}
    assert not trained_files(data) & loaded_names(data)


def test_validation_on_all_training_images_is_announced(tmp_path):
    images = save_images(tmp_path, ["0.png", "1.png"])
    data = Denoising().load_data(images, images, val_count=16, **FEW)
    assert "All training images are also validation images" in data.message and data.training_count == 2


def test_a_folder_of_unusable_validation_images_raises_a_value_error(tmp_path):
    images, val = save_images(tmp_path / "images", ["0.png"]), save_images(tmp_path / "val", ["0.png"], side=20)
    with pytest.raises(ValueError, match="None of the 1 images can be used"):
        Denoising().load_data(images, val, val_count=16, **FEW)

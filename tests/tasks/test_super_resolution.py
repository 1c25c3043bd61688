import pytest
import torch
from torch.testing import assert_close

from lossmith.data import hold_out, list_images, upsample
from lossmith.image import to_pil
from lossmith.models import build_network
from lossmith.tasks import SuperResolution


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for i in range(4):
        to_pil(torch.rand(3, 56, 64, generator=generator)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_it_gives_the_views_that_it_names(folder):
    task = SuperResolution(4)
    item = task.training_set(list_images(folder), crop=32, seed=0)[0]
    views = task.compute_inputs(build_network("edsr", 4, channels=4, blocks=1), {name: view[None] for name, view in item.items()})
    assert tuple(views) == task.provided_inputs
    assert views["pred"].shape == views["target"].shape == (1, 3, 32, 32) and views["input"].shape == (1, 3, 8, 8)


def test_only_the_prediction_carries_a_gradient(folder):
    task = SuperResolution(2)
    batch = {k: v[None] for k, v in task.training_set(list_images(folder), crop=32, seed=0)[0].items()}
    views = task.compute_inputs(build_network("edsr", 2, channels=4, blocks=1), batch)
    assert [name for name, view in views.items() if view.requires_grad] == ["pred"]


def test_validation_sees_no_training_picture(folder):
    task = SuperResolution(4)
    training, validation = hold_out(list_images(folder), 1)
    seen = {str(file) for file in task.training_set(training, crop=32, seed=0).pictures.files}
    assert [example.name for example in task.evaluation_set(validation)] == ["2"] and str(validation[0]) not in seen


def test_pictures_smaller_than_the_crop_are_listed(folder):
    with pytest.raises(ValueError, match="64x56 px is too small; 60x60 px are wanted"):
        SuperResolution(4).training_set(list_images(folder), crop=60, seed=0)


def test_the_plain_answer_is_bicubic(folder):
    task = SuperResolution(4)
    (example, *_) = task.evaluation_set(folder, limit=1)
    assert_close(task.baseline_output(example.batch), upsample(example.batch["input"], 4))


@pytest.mark.parametrize("scale", [1, 5, "4"])
def test_another_scale_is_refused(scale):
    with pytest.raises(ValueError, match="super-resolution wants a scale of 2, 3 or 4; got"):
        SuperResolution(scale)

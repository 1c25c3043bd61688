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


def test_super_resolution_returns_the_inputs_that_it_provides(folder):
    task = SuperResolution(4)
    sample = task.training_set(list_images(folder), crop=32, seed=0)[0]
    batch = {name: tensor[None] for name, tensor in sample.items()}
    inputs = task.compute_inputs(build_network("edsr", 4, channels=4, blocks=1), batch)
    assert tuple(inputs) == task.provided_inputs
    assert inputs["pred"].shape == inputs["target"].shape == (1, 3, 32, 32) and inputs["input"].shape == (1, 3, 8, 8)


def test_only_the_prediction_requires_a_gradient(folder):
    task = SuperResolution(2)
    batch = {k: v[None] for k, v in task.training_set(list_images(folder), crop=32, seed=0)[0].items()}
    inputs = task.compute_inputs(build_network("edsr", 2, channels=4, blocks=1), batch)
    assert [name for name, tensor in inputs.items() if tensor.requires_grad] == ["pred"]


def test_validation_images_are_not_in_the_training_set(folder):
    task = SuperResolution(4)
    training, validation = hold_out(list_images(folder), 1)
    trained = {str(file) for file in task.training_set(training, crop=32, seed=0).images.files}
    assert [example.name for example in task.evaluation_set(validation)] == ["2.png"] and str(
        validation[0]
    ) not in trained


def test_images_smaller_than_the_crop_are_reported(folder):
    with pytest.raises(ValueError, match="64x56 px is too small; the minimum is 60x60 px"):
        SuperResolution(4).training_set(list_images(folder), crop=60, seed=0)


def test_the_baseline_is_bicubic_upsampling(folder):
    task = SuperResolution(4)
    (example, *_) = task.evaluation_set(folder, limit=1)
    assert_close(task.baseline_output(example.batch), upsample(example.batch["input"], 4))


@pytest.mark.parametrize("scale", [1, 5, "4"])
def test_an_unsupported_scale_raises_a_value_error(scale):
    with pytest.raises(ValueError, match="super-resolution scale must be one of 2, 3, 4; got"):
        SuperResolution(scale)

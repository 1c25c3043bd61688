import pytest
import torch
from torch.testing import assert_close

from lossmith.data import list_images
from lossmith.image import to_pil
from lossmith.models import build_network
from lossmith.tasks import TASKS, Deblurring, Denoising, Inpainting, JPEGRepair, Paired, SuperResolution


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "targets").mkdir()
    for i in range(3):
        coarse = torch.rand(1, 3, 12, 14, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=(72, 84), mode="bilinear")[0]
        to_pil(image).save(tmp_path / "targets" / f"{i}.png")
    return tmp_path / "targets"


CASES = {
    "denoising": lambda folder: Denoising(sigma=[5.0, 50.0]),
    "poisson": lambda folder: Denoising(sigma=80.0, noise="poisson"),
    "deblurring": lambda folder: Deblurring(),
    "motion": lambda folder: Deblurring(blur="motion"),
    "jpeg": lambda folder: JPEGRepair(),
    "inpainting": lambda folder: Inpainting(),
    "blind": lambda folder: SuperResolution(4, degradation="blind"),
    "mean": lambda folder: SuperResolution(2, degradation="mean", noise=[0.0, 32.0]),
    "paired": lambda folder: Paired(1, inputs=str(folder)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_task_returns_the_inputs_that_it_provides(folder, name):
    task = CASES[name](folder)
    sample = task.training_set(list_images(folder), crop=48, seed=0)[0]
    model = build_network(task.default_model, task.scale, channels=4, blocks=1)
    inputs = task.compute_inputs(model, {key: tensor[None] for key, tensor in sample.items()})
    assert tuple(inputs) == task.provided_inputs
    assert inputs["pred"].shape == inputs["target"].shape == (1, 3, 48, 48)
    with_gradient = {name for name, tensor in inputs.items() if tensor.requires_grad}
    assert with_gradient == {"pred", "filled", "kept"} & inputs.keys()


@pytest.mark.parametrize("name", CASES)
def test_a_training_sample_is_a_function_of_the_seed_and_its_index(folder, name):
    one, other = (CASES[name](folder).training_set(list_images(folder), crop=48, seed=5) for _ in range(2))
    backwards = {k: other[k] for k in reversed(range(5))}
    for k in range(5):
        assert_close(one[k], backwards[k], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_an_image_is_degraded_equally_in_every_iteration(folder, name):
    examples = CASES[name](folder).evaluation_set(folder)
    first, second = ([example.batch for example in examples] for _ in range(2))
    assert len(first) == 3
    assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def test_the_drawn_parameters_are_in_the_batch(folder):
    samples = Denoising(sigma=[5.0, 50.0]).training_set(list_images(folder), crop=48, seed=0)
    for k in range(4):
        sample = samples[k]
        assert 5 <= sample["sigma"].item() <= 50
        assert ((sample["input"] - sample["target"]).std() * 255).item() == pytest.approx(
            sample["sigma"].item(), rel=0.05
        )


def test_the_degradation_mean_averages_square_blocks(folder):
    sample = SuperResolution(3, degradation="mean").training_set(list_images(folder), crop=48, seed=0)[0]
    expected = sample["target"].unflatten(1, (16, 3)).unflatten(3, (16, 3)).mean(dim=(2, 4))
    assert_close(sample["input"], expected)


def test_a_lower_jpeg_quality_is_further_from_the_target(folder):
    errors = []
    for quality in (10, 40, 90):
        batch = next(iter(JPEGRepair(quality=quality).evaluation_set(folder))).batch
        errors.append((batch["input"] - batch["target"]).abs().mean().item())
    assert errors == sorted(errors, reverse=True)


def test_the_registered_name_of_a_task_is_its_name():
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Denoising(2), "denoising scale must be 1; got 2"),
        (lambda: Denoising(sigma=0), "denoising sigma must be positive; got 0"),
        (lambda: Denoising(sigma=[9.0, 3.0]), r"denoising sigma must be a range in ascending order; got \[9.0, 3.0\]"),
        (lambda: Denoising(noise="pink"), "noise must be one of 'gaussian', 'poisson'; got 'pink'"),
        (lambda: Deblurring(blur="box"), "blur must be one of 'gaussian', 'motion'; got 'box'"),
        (lambda: JPEGRepair(quality=101), "jpeg quality must be at least 1 and at most 100; got 101"),
        (
            lambda: SuperResolution(4, degradation="area"),
            "degradation must be one of 'bicubic', 'blind', 'mean'; got 'area'",
        ),
        (lambda: SuperResolution(2, noise=25.0), "adds noise only with the degradation mean"),
        (
            lambda: SuperResolution(2, degradation="mean", noise=-1.0),
            "noise must be at least 0 and at most 255; got -1.0",
        ),
        (lambda: Paired(5, inputs="."), "paired scale must be one of 1, 2, 3, 4; got 5"),
        (lambda: Paired(1, inputs="nowhere").matcher, "'nowhere' does not exist"),
    ],
)
def test_invalid_arguments_of_a_task_raise_a_value_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()

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
    (tmp_path / "true").mkdir()
    for i in range(3):
        coarse = torch.rand(1, 3, 12, 14, generator=generator)
        picture = torch.nn.functional.interpolate(coarse, size=(72, 84), mode="bilinear")[0]
        to_pil(picture).save(tmp_path / "true" / f"{i}.png")
    return tmp_path / "true"


MADE = {
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


@pytest.mark.parametrize("name", MADE)
def test_it_gives_the_views_that_it_names(folder, name):
    task = MADE[name](folder)
    item = task.training_set(list_images(folder), crop=48, seed=0)[0]
    model = build_network(task.default_model, task.scale, channels=4, blocks=1)
    views = task.compute_inputs(model, {view: tensor[None] for view, tensor in item.items()})
    assert tuple(views) == task.provided_inputs
    assert views["pred"].shape == views["target"].shape == (1, 3, 48, 48)
    with_gradient = {view for view, tensor in views.items() if tensor.requires_grad}
    assert with_gradient == {"pred", "filled", "kept"} & views.keys()


@pytest.mark.parametrize("name", MADE)
def test_items_are_a_function_of_the_seed_and_their_place(folder, name):
    one, other = (MADE[name](folder).training_set(list_images(folder), crop=48, seed=5) for _ in range(2))
    backwards = {k: other[k] for k in reversed(range(5))}
    for k in range(5):
        assert_close(one[k], backwards[k], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", MADE)
def test_a_picture_is_spoilt_alike_at_every_walk(folder, name):
    examples = MADE[name](folder).evaluation_set(folder)
    first, second = ([example.batch for example in examples] for _ in range(2))
    assert len(first) == 3
    assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def test_what_was_drawn_is_in_the_batch(folder):
    items = Denoising(sigma=[5.0, 50.0]).training_set(list_images(folder), crop=48, seed=0)
    for k in range(4):
        item = items[k]
        assert 5 <= item["sigma"].item() <= 50
        assert ((item["input"] - item["target"]).std() * 255).item() == pytest.approx(item["sigma"].item(), rel=0.05)


def test_means_of_squares_are_those_of_a_later_stage(folder):
    item = SuperResolution(3, degradation="mean").training_set(list_images(folder), crop=48, seed=0)[0]
    wanted = item["target"].unflatten(1, (16, 3)).unflatten(3, (16, 3)).mean(dim=(2, 4))
    assert_close(item["input"], wanted)


def test_worse_jpeg_is_further_from_the_truth(folder):
    far = []
    for quality in (10, 40, 90):
        batch = next(iter(JPEGRepair(quality=quality).evaluation_set(folder))).batch
        far.append((batch["input"] - batch["target"]).abs().mean().item())
    assert far == sorted(far, reverse=True)


def test_all_tasks_are_known_by_their_names():
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Denoising(2), "keeps a picture's size, scale 1; got 2"),
        (lambda: Denoising(sigma=0), "sigma as a number above 0, or a range of two; got 0"),
        (lambda: Denoising(sigma=[9.0, 3.0]), "got \\[9.0, 3.0\\]"),
        (lambda: Denoising(noise="pink"), "knows the noise gaussian, poisson; got 'pink'"),
        (lambda: Deblurring(blur="box"), "knows the blur gaussian, motion; got 'box'"),
        (lambda: JPEGRepair(quality=101), "of at least 1 and at most 100"),
        (lambda: SuperResolution(4, degradation="area"), "knows the degradation bicubic, blind, mean; got 'area'"),
        (lambda: SuperResolution(2, noise=25.0), "noise on the means of squares alone"),
        (lambda: SuperResolution(2, degradation="mean", noise=-1.0), "noise as a number of at least 0"),
        (lambda: Paired(5, inputs="."), "scale of 1, 2, 3 or 4; got 5"),
        (lambda: Paired(1, inputs="nowhere"), "'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, words):
    with pytest.raises(ValueError, match=words):
        make()

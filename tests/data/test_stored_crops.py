"""Training crops with the integers of their files, and the loader that converts them."""

import numpy as np
import pytest
import tifffile
import torch

from lossmith.data import ImageFiles, PixelFormat
from lossmith.image import convert_stored, to_float
from lossmith.tasks import Denoising, Inpainting, Paired, SuperResolution
from lossmith.train.data_stream import EndlessBatchSampler, SingleThreadedDataset, TimedLoader

CPU = torch.device("cpu")
TASKS = {
    "super-resolution": lambda folder: SuperResolution(2),
    "denoising": lambda folder: Denoising(),
    "inpainting": lambda folder: Inpainting(),
    "paired": lambda folder: Paired(inputs=str(folder)),
}


@pytest.fixture
def make_items(tmp_path):
    """A function that returns the training set of a task, with one image of a type of samples."""

    def make(task, dtype):
        values = np.random.default_rng(0).random((64, 56, 3))
        top = 1 if dtype == "float32" else np.iinfo(dtype).max
        tifffile.imwrite(tmp_path / "a.tif", (values * top).astype(dtype), photometric="rgb")
        pixels = PixelFormat(dtype=dtype, value_range=(0, 1) if dtype == "float32" else None)
        return (
            TASKS[task](tmp_path)
            .with_pixels(pixels)
            .training_set(ImageFiles([tmp_path / "a.tif"], tmp_path), crop=32, seed=0)
        )

    return make


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("task", TASKS)
def test_converted_integers_are_the_floats_of_an_item(task, dtype, make_items):
    items = make_items(task, dtype)
    stored = items.read_stored(5)
    assert stored["target"].dtype == getattr(torch, dtype)
    torch.testing.assert_close(convert_stored(stored), items[5], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_data_loading_processes_send_the_type_of_the_files_and_a_training_gets_floats(dtype, make_items):
    items = make_items("denoising", dtype)
    sent = SingleThreadedDataset(items).__getitems__([0, 1])
    assert {each["target"].dtype for each in sent} == {getattr(torch, dtype)}
    loader = TimedLoader(items, CPU, batch_sampler=EndlessBatchSampler(2), num_workers=1)
    expected = {name: torch.stack([items[k][name] for k in (0, 1)]) for name in items[0]}
    torch.testing.assert_close(next(iter(loader)), expected, rtol=0, atol=0)


def test_a_batch_of_files_of_several_types_has_floats(tmp_path):
    for name, dtype in (("a", np.uint8), ("b", np.uint16)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((40, 40, 3), 51, dtype), photometric="rgb")
    items = Denoising().training_set(ImageFiles([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path), crop=32, seed=0)
    batch = next(iter(TimedLoader(items, CPU, batch_sampler=EndlessBatchSampler(8))))
    torch.testing.assert_close(batch["target"].unique(), torch.tensor([51 / 65535, 51 / 255]))


class Labels:
    """A training set of another kind, whose targets are labels."""

    skipped = ()

    def __getitem__(self, index):
        return {"target": torch.tensor([index], dtype=torch.uint8)}


def test_integers_of_other_training_sets_are_not_converted():
    batch = next(iter(TimedLoader(Labels(), CPU, batch_sampler=EndlessBatchSampler(2))))
    torch.testing.assert_close(batch["target"], torch.tensor([[0], [1]], dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_every_integer_is_divided_and_rounded_once(dtype):
    values = torch.arange(torch.iinfo(dtype).max + 1).to(dtype)
    exact = (torch.arange(len(values), dtype=torch.float64) / (len(values) - 1)).float()
    torch.testing.assert_close(to_float(values), exact, rtol=0, atol=0)

"""Reading ahead of crops: all pages of a crop are requested at once, and hardly any others."""

import mmap

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith.data import ImageFiles
from lossmith.data import request_pages as module
from lossmith.data.formats.layout import SampleLayout, map_samples
from lossmith.data.request_pages import find_spans, request_pages
from lossmith.tasks import Denoising, Paired, SuperResolution

HEIGHT, WIDTH = 300, 700
LAYOUTS = {
    "planar": (HEIGHT * WIDTH, WIDTH, 1),
    "interleaved": (1, 3 * WIDTH, 3),
    "grey, repeated": (0, WIDTH, 1),
}


@pytest.fixture
def map_image(tmp_path):
    """A function that returns the memory map of an image with a type and strides of its samples."""

    def make(dtype, strides):
        values = np.random.default_rng(0).integers(0, 255, 3 * HEIGHT * WIDTH).astype(dtype)
        (tmp_path / "image").write_bytes(values.tobytes())
        return map_samples(tmp_path / "image", SampleLayout(np.dtype(dtype), (3, HEIGHT, WIDTH), strides))

    return make


def pages_of(crop):
    """Return the pages of all samples."""
    with torch._C.DisableTorchFunctionSubclass():
        crop = crop.as_subclass(torch.Tensor)
    size, first = crop.element_size(), crop.data_ptr()
    offsets = sum(
        torch.meshgrid(*(torch.arange(n) * s for n, s in zip(crop.shape, crop.stride(), strict=True)), indexing="ij")
    )
    samples = torch.stack([offsets * size, offsets * size + size - 1])
    return {(first + offset) // mmap.PAGESIZE for offset in samples.flatten().tolist()}


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("strides", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("top", "left", "side"), [(0, 0, 96), (150, 300, 96), (204, 604, 96), (299, 699, 1)])
def test_the_requested_pages_are_those_of_the_crop(dtype, strides, top, left, side, map_image):
    crop = map_image(dtype, strides)[:, top : top + side, left : left + side]
    spans = find_spans(crop)
    requested = {
        page for start, size in spans for page in range(start // mmap.PAGESIZE, -(-(start + size) // mmap.PAGESIZE))
    }
    assert all(start % mmap.PAGESIZE == 0 for start, _ in spans)
    assert pages_of(crop) <= requested
    assert len(requested) <= 1.1 * len(pages_of(crop))


def test_rows_that_are_longer_than_what_the_system_reads_at_once_are_not_requested():
    assert find_spans(torch.zeros(3, 4, 70_000, dtype=torch.uint8)[:, :, :96]) == []


def test_a_crop_without_pixels_has_no_pages():
    assert find_spans(torch.zeros(3, 0, 8)) == []


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system has no such request")
def test_the_system_accepts_the_requests_and_the_values_do_not_change(map_image):
    crop = map_image("u1", LAYOUTS["planar"])[:, 7:90, 100:200]
    expected = crop.clone()
    for start, size in find_spans(crop):
        assert module._find_madvise()(start, size, mmap.MADV_WILLNEED) == 0
    assert_close(request_pages(crop), expected, rtol=0, atol=0)


@pytest.fixture
def requests(monkeypatch):
    """The sizes of the requests, and a list of one element, the page faults of the process."""
    sizes, faults = [], [0]
    monkeypatch.setattr(module, "_requests", module._Requests())
    monkeypatch.setattr(module, "_find_madvise", lambda: lambda start, size, advice: sizes.append(size))
    monkeypatch.setattr(module, "_count_major_faults", lambda: faults[0])
    monkeypatch.setattr(module, "find_spans", lambda crop: [(0, crop.numel())])
    return sizes, faults


def test_nothing_is_requested_while_all_pages_are_in_memory(requests):
    sizes, _ = requests
    for _ in range(10):
        request_pages(torch.zeros(3, 8, 8))
    assert sizes == []


def test_the_pages_of_the_crops_after_a_page_from_the_disk_are_requested(requests):
    sizes, faults = requests
    faults[0] = 5
    for _ in range(module.CROPS + 10):
        request_pages(torch.zeros(3, 8, 8))
    assert sizes == [3 * 8 * 8] * module.CROPS


@pytest.mark.parametrize(
    ("task", "crops"),
    [(SuperResolution(2), 1), (Denoising(), 1), (Paired(), 2)],
    ids=["super-resolution", "denoising", "paired"],
)
def test_training_sets_read_ahead(task, crops, tmp_path, requests):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    if isinstance(task, Paired):
        task = Paired(inputs=str(tmp_path))
    items = task.training_set(ImageFiles([tmp_path / "a.png"], tmp_path), crop=32, seed=0)
    sizes, faults = requests
    faults[0] = 1
    items[0]
    assert len(sizes) == crops
    assert all(size >= 3 * 32 * 32 for size in sizes)

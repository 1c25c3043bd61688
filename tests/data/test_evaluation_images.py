"""Evaluation images: read ahead in their order, and read and degraded once."""

import pickle
import threading

import pytest
import torch

from lossmith.data import DegradedImages, Example, SkippedFile
from lossmith.data.evaluation_images import EvaluationImages, KeptExamples, read_ahead
from lossmith.image import to_float
from lossmith.tasks import Denoising


class Counted(EvaluationImages):
    """Ten examples, of which one cannot be read; counts the reads of each."""

    def __init__(self):
        super().__init__([f"{index}.png" for index in range(10)])
        self.reads = [0] * 10

    def read(self, index):
        self.reads[index] += 1
        if index == 4:
            raise ValueError("it is damaged")
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (1, 3, 5, 7), generator=generator, dtype=torch.uint8)
        noise = torch.randn((1, 3, 5, 7), generator=generator)
        return Example(str(index), {"target": to_float(image), "input": noise, "index": torch.tensor([index])})


def test_results_come_in_order_whatever_thread_is_faster():
    first = threading.Event()

    def read(index):
        first.set() if index else first.wait(5)
        return index

    assert [each.result() for each in read_ahead(read, 6, threads=3)] == list(range(6))


def test_no_more_is_read_than_a_few_images_ahead():
    examples = Counted()
    next(iter(examples))
    assert sum(examples.reads) <= 5


def test_an_image_that_cannot_be_read_is_skipped_and_named():
    examples = Counted()
    assert [example.name for example in examples] == [*"012356789"]
    assert examples.skipped == [SkippedFile("4.png", "it is damaged")]


def test_an_example_does_not_depend_on_the_thread(sample_images):
    task = Denoising()
    ahead = DegradedImages(sample_images, task.degrade)
    for index, example in enumerate(ahead):
        for name, image in ahead.read(index).batch.items():
            torch.testing.assert_close(example.batch[name], image, rtol=0, atol=0)


def test_kept_examples_are_read_once_and_stay_the_same():
    examples = Counted()
    expected = list(Counted())
    kept = KeptExamples(examples)
    next(iter(kept))
    for _ in range(3):
        found = list(kept)
        assert [each.name for each in found] == [each.name for each in expected]
        torch.testing.assert_close([e.batch for e in found], [e.batch for e in expected], rtol=0, atol=0)
    assert examples.reads == [1] * 10 and len(kept.skipped) == 1


def test_images_of_8_bits_are_kept_as_bytes(tmp_path):
    kept = KeptExamples(Counted())
    list(kept)
    assert kept._file.seek(0, 2) == 9 * (105 + 4 * 105 + 8)


def test_a_full_disk_costs_time_but_no_result(monkeypatch):
    examples = Counted()
    kept = KeptExamples(examples)
    stored = []

    def store(tensor):
        stored.append(tensor)
        if len(stored) > 8:
            raise OSError(28, "No space left on device")
        return KeptExamples._store(kept, tensor)

    monkeypatch.setattr(kept, "_store", store)
    for _ in range(2):
        assert [example.name for example in kept] == [*"012356789"]
    assert examples.reads == [2] * 10


def test_kept_examples_are_sent_without_their_file():
    kept = KeptExamples(Counted())
    list(kept)
    assert len(list(pickle.loads(pickle.dumps(kept)))) == 9


@pytest.fixture
def sample_images(tmp_path):
    """A folder of four images."""
    from PIL import Image

    for index in range(4):
        pixels = torch.randint(0, 256, (60, 50, 3), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{index}.png")
    return tmp_path

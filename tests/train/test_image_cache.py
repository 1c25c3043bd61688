"""A training gives the same bits with the cache of decoded images, without it, resumed, and with worker processes."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lossmith.data.cache import ImageCache
from lossmith.train import RunFolder, Settings, train
from lossmith.train.data_stream import TimedLoader, choose_workers, suggest_cure

from .conftest import TINY, draw_images


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Images that are large enough for the disk."""
    return draw_images(tmp_path_factory.mktemp("large"), count=4, side=160)


@pytest.fixture(scope="module")
def weights_without_cache(large, tmp_path_factory):
    return trained(large, tmp_path_factory.mktemp("plain") / "run", None)


def trained(images, out, cache, steps=TINY["steps"], workers=0):
    """Train up to a step of the whole run and return the weights."""
    settings = Settings(**{**TINY, "images": str(images), "steps": steps, "schedule": "constant"})
    train(settings, out, device="cpu", workers=workers, cache=cache, loggers=["csv"])
    return load_file(RunFolder(out).model)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_has_the_bits_of_one_without_a_cache(workers, large, weights_without_cache, tmp_path):
    for name in ("first", "later"):
        cache = ImageCache(tmp_path / "cache", max_bytes=10**9)
        weights = trained(large, tmp_path / name, cache, workers=workers)
        for key, value in weights_without_cache.items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=0)
    assert len(cache.folder.images()) == 4


def test_a_run_may_resume_with_another_cache(large, weights_without_cache, tmp_path):
    trained(large, tmp_path / "run", ImageCache(tmp_path / "cache", max_bytes=10**9), steps=3)
    trained(large, tmp_path / "run", None, steps=4)
    weights = trained(large, tmp_path / "run", ImageCache(tmp_path / "cache", max_bytes=10**9))
    for key, value in weights_without_cache.items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=0)


class Samples:
    """Samples that take some time of a simulated clock."""

    skipped = ()

    def __init__(self, clock=None, seconds=0.0):
        self.clock, self.seconds, self.loaded = clock, seconds, []

    def __getitem__(self, index):
        self.loaded.append(index)
        if self.clock is not None:
            self.clock.now += self.seconds
        return {"x": torch.zeros(1)}

    def __len__(self):
        return 4


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr("lossmith.train.data_stream.time.monotonic", lambda: Clock.now)
    return Clock


def test_a_loader_counts_the_time_in_which_no_batch_is_ready(clock):
    loader = TimedLoader(Samples(clock, 2.0), torch.device("cpu"), batch_sampler=[[0, 1], [2, 3]])
    for _ in loader:
        clock.now += 100.0
    assert loader.waited == 8.0


@pytest.mark.parametrize(("seconds", "cores", "expected"), [(0.001, 8, 0), (0.1, 8, 2), (0.1, 2, 1), (0.1, 1, 0)])
def test_a_training_on_a_cpu_gets_processes_if_samples_are_slow(seconds, cores, expected, clock, monkeypatch):
    monkeypatch.setattr("lossmith.train.data_stream.count_cores", lambda: cores)
    assert choose_workers(Samples(clock, seconds), "cpu") == expected


@pytest.mark.parametrize(("cores", "devices", "expected"), [(16, 1, 8), (4, 1, 3), (1, 1, 1), (16, 4, 3)])
def test_an_accelerator_gets_a_process_for_each_other_core(cores, devices, expected, monkeypatch):
    monkeypatch.setattr("lossmith.train.data_stream.count_cores", lambda: cores)
    items = Samples()
    assert choose_workers(items, "cuda", devices=devices) == expected
    assert not items.loaded


def test_the_cure_of_waiting_names_what_is_missing(large, tmp_path, monkeypatch):
    monkeypatch.setattr("lossmith.train.data_stream.count_cores", lambda: 8)
    on_disk, in_memory = ImageCache(tmp_path, max_bytes=10**9), ImageCache(memory_bytes=0)
    assert "use --workers 5" in suggest_cure(2, in_memory)  # no image had no room so far
    in_memory.read(next(large.iterdir()))
    assert "Omit --no-cache" in suggest_cure(2, in_memory)
    assert "use --workers 5" in suggest_cure(2, on_disk)
    assert "more cores" in suggest_cure(8, on_disk)
    full = ImageCache(tmp_path / "full", max_bytes=0, memory_bytes=0)
    with pytest.warns(UserWarning, match=r"The others are kept in memory, up to 0 kB"):
        full.read(next(large.iterdir()))
    assert "raise --cache-size" in suggest_cure(2, full)


def test_each_log_line_holds_the_part_of_the_time_of_waiting(run):
    lines = (run().path / "log.jsonl").read_text().splitlines()
    assert lines and all(0 <= json.loads(line)["data_wait"] <= 1 for line in lines)

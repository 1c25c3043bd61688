"""Batches in shared memory: the values of default collation, in memory that is allocated once."""

import time

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import default_collate

from lossmith.train.data_stream import EndlessBatchSampler, TimedLoader
from lossmith.train.shared_batches import SharedBatch, SharedBatchReader, SharedCollate

CPU = torch.device("cpu")


def sample(number, side=6):
    """Return tensors of several types, turned ones too."""
    values = torch.arange(3 * side * side).view(3, side, side).add(number)
    return {
        "input": values.float().transpose(1, 2),
        "target": values.to(torch.uint8),
        "deep": values.to(torch.uint16),
        "mask": values % 2 == 0,
        "weight": torch.tensor(number, dtype=torch.float64),
    }


def collate_in_turns(collate, batches):
    return [collate([sample(4 * k), sample(4 * k + 1)]) for k in range(batches)]


def test_a_batch_has_the_values_of_default_collation():
    samples = [sample(0), sample(7)]
    batch = SharedBatchReader().read(SharedCollate(2)(samples), pin=False)
    assert_close(batch, default_collate(samples), rtol=0, atol=0)


def test_memory_is_allocated_once_for_each_prefetched_batch_and_the_one_in_use():
    messages = collate_in_turns(SharedCollate(2), 12)
    assert [message.memory is not None for message in messages] == [True] * 3 + [False] * 9


def test_prefetched_batches_do_not_overwrite_the_one_in_use():
    messages, reader = collate_in_turns(SharedCollate(3), 4), SharedBatchReader()
    for k, message in enumerate(messages):
        assert_close(reader.read(message, pin=False), default_collate([sample(4 * k), sample(4 * k + 1)]))


def test_a_batch_that_has_been_read_does_not_change():
    collate, reader = SharedCollate(1), SharedBatchReader()
    first = reader.read(collate([sample(0)]), pin=False)
    collate_in_turns(collate, 3)
    assert_close(first, default_collate([sample(0)]))


def test_a_larger_batch_gets_larger_memory():
    collate, reader = SharedCollate(1), SharedBatchReader()
    for side in (4, 4, 9, 4, 4, 9):
        batch = reader.read(collate([sample(side, side)]), pin=False)
        assert_close(batch, default_collate([sample(side, side)]))


@pytest.mark.parametrize(
    "samples",
    [
        [{"label": 3, "input": torch.zeros(3)}],
        [{"input": torch.zeros(2)}, {"input": torch.zeros(2, dtype=torch.float64)}],
        [torch.zeros(2), torch.ones(2)],
    ],
    ids=["a number", "two types", "tensors alone"],
)
def test_other_samples_are_collated_as_usual(samples):
    assert_close(SharedCollate(2)(samples), default_collate(samples))


def test_samples_of_two_sizes_are_an_error():
    with pytest.raises(RuntimeError, match="equal size"):
        SharedCollate(2)([sample(0, 4), sample(0, 5)])


class Counted:
    """A training set whose samples take times of their own."""

    skipped = ()

    def __getitem__(self, index):
        time.sleep((index * 7 % 5) / 2000)
        return {"input": torch.full((3, 40, 40), float(index)), "target": torch.tensor([index])}


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_of_data_loading_processes_are_complete_however_slow_the_training_is(workers):
    loader = TimedLoader(Counted(), CPU, batch_sampler=EndlessBatchSampler(3), num_workers=workers, prefetch_factor=2)
    batches = iter(loader)
    for step in range(30):
        batch = next(batches)
        time.sleep(0.01 * (step % 4 == 0))  # the processes write in advance as much as they may
        numbers = torch.arange(3 * step, 3 * step + 3)
        assert_close(batch["target"], numbers[:, None])
        assert_close(batch["input"], numbers.float().view(-1, 1, 1, 1).expand(-1, 3, 40, 40))


def test_a_data_loading_process_sends_no_new_memory_after_its_first_batches(monkeypatch):
    received = []
    read = SharedBatchReader.read

    def record(self, batch: SharedBatch, *, pin):
        received.append(batch.memory is not None)
        return read(self, batch, pin=pin)

    monkeypatch.setattr(SharedBatchReader, "read", record)
    loader = TimedLoader(Counted(), CPU, batch_sampler=EndlessBatchSampler(2), num_workers=1, prefetch_factor=2)
    batches = iter(loader)
    for _ in range(9):
        next(batches)
    assert received == [True] * 3 + [False] * 6

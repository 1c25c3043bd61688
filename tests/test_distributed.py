"""Two processes: under DDP and FSDP a loss with networks trains a model as one process with the joint batch does."""

from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from lossmith import parse

LOSS = "L1 + 0.1 * perceptual('vgg16', 'conv2_1', weights='random') + 5 * style('vgg16', 'relu1_2', weights='random')"
STEPS, WORLD, WITHIN = 3, 2, 90
"""Steps, processes, and the seconds after which something hangs."""


class Both(nn.Module):
    """A model with its loss inside, as trainers have it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
        self.loss = parse(LOSS)

    def forward(self, given, target):
        return self.loss(self.model(given), target)


def batches(rank=None):
    """A joint batch of four pictures a step, or one process's half of it."""
    chance = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        given, target = torch.rand(2, 4, 3, 16, 16, generator=chance)
        yield (given, target) if rank is None else (given[2 * rank :][:2], target[2 * rank :][:2])


def train(run, parameters, rank=None):
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    for given, target in batches(rank):
        optimizer.zero_grad()
        run(given, target).backward()
        optimizer.step()


def beside(rank):
    """The model under DDP, its loss beside it."""
    both = Both()
    model = DistributedDataParallel(both.model)
    train(lambda given, target: both.loss(model(given), target), model.parameters(), rank)
    return both.model.state_dict()


def inside(rank):
    """The model and its loss together under DDP."""
    both = Both()
    wrapped = DistributedDataParallel(both)
    train(wrapped, wrapped.parameters(), rank)
    return wrapped.module.state_dict()


def sharded(rank):
    """The model and its loss together, the parameters in two halves; the loss is asked to shard, too."""
    both = Both()
    mesh = init_device_mesh("cpu", (WORLD,))
    fully_shard(both.loss, mesh=mesh)
    fully_shard(both, mesh=mesh)
    train(both, both.parameters(), rank)
    return {name: shard.full_tensor() for name, shard in both.state_dict().items()}


WAYS = [beside, inside, sharded]


def work(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=WITHIN))
    try:
        torch.save({way.__name__: way(rank) for way in WAYS}, Path(folder) / f"{rank}.pt")
    finally:
        destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The state of the model in every way by name, a list of the two processes'."""
    folder = tmp_path_factory.mktemp("processes")
    workers = torch.multiprocessing.spawn(work, (str(folder),), nprocs=WORLD, join=False)
    end = monotonic() + WITHIN
    try:
        while not workers.join(timeout=1):
            assert monotonic() < end, f"two processes did not end within {WITHIN} s"
    finally:
        for process in workers.processes:
            process.kill()
            process.join()
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    return {way.__name__: [each[way.__name__] for each in found] for way in WAYS}


@pytest.fixture(scope="module")
def alone():
    """The state after the same steps in one process with the joint batches."""
    both = Both()
    train(both, both.parameters())
    return both.model.state_dict()


@pytest.mark.parametrize("way", [way.__name__ for way in WAYS])
def test_two_processes_train_as_one_does(way, trained, alone):
    for state in trained[way]:
        for name, weight in state.items():
            assert_close(weight, alone[name.removeprefix("model.")], rtol=1e-6, atol=1e-6)


def test_training_moved_the_model(alone):
    begun = Both().model.state_dict()
    assert all((alone[name] - begun[name]).abs().max() > 1e-3 for name in alone)


@pytest.mark.parametrize("way", ["inside", "sharded"])
def test_nothing_of_the_loss_is_in_a_state(way, trained, alone):
    assert all(state.keys() == {f"model.{name}" for name in alone} for state in trained[way])


def test_there_is_nothing_to_wrap_or_shard_in_the_loss():
    loss = parse(LOSS)
    assert not list(loss.parameters())
    assert not list(loss.buffers())
    assert not loss.state_dict()

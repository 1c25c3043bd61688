"""Two processes: under DDP and FSDP a loss with networks trains a model as one process does on the joint batch."""

import warnings
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.nn.functional import all_gather
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from lossmith import parse
from lossmith.distributed import all_gather_with_gradient

pytestmark = pytest.mark.slow

LOSS = "L1 + 0.1 * perceptual('vgg16', 'conv2_1', weights='random') + 5 * style('vgg16', 'relu1_2', weights='random')"
STEPS, WORLD, TIMEOUT = 3, 2, 90
"""Training steps, processes, and the timeout in seconds."""


class ModelWithLoss(nn.Module):
    """A model that contains its loss, as in many trainers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
        self.loss = parse(LOSS)

    def forward(self, inputs, target):
        return self.loss(self.model(inputs), target)


def batches(rank=None):
    """Yield a batch of four images per step, or the half of a process."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        inputs, target = torch.rand(2, 4, 3, 16, 16, generator=generator)
        yield (inputs, target) if rank is None else (inputs[2 * rank :][:2], target[2 * rank :][:2])


def train(run, parameters, rank=None):
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    for inputs, target in batches(rank):
        optimizer.zero_grad()
        run(inputs, target).backward()
        optimizer.step()


def ddp_model(rank):
    """Train the model under DDP, with the loss outside."""
    module = ModelWithLoss()
    model = DistributedDataParallel(module.model)
    train(lambda inputs, target: module.loss(model(inputs), target), model.parameters(), rank)
    return module.model.state_dict()


def ddp_model_with_loss(rank):
    """Train the model and its loss together under DDP."""
    module = ModelWithLoss()
    wrapped = DistributedDataParallel(module)
    train(wrapped, wrapped.parameters(), rank)
    return wrapped.module.state_dict()


def fsdp_model_with_loss(rank):
    """Train the model and its loss together under FSDP; fully_shard is applied to the loss, too."""
    module = ModelWithLoss()
    mesh = init_device_mesh("cpu", (WORLD,))
    fully_shard(module.loss, mesh=mesh)
    fully_shard(module, mesh=mesh)
    train(module, module.parameters(), rank)
    return {name: shard.full_tensor() for name, shard in module.state_dict().items()}


WRAPPERS = [ddp_model, ddp_model_with_loss, fsdp_model_with_loss]


def gather_both_ways(rank):
    """Return gathered rows and the gradient of a function of them, by lossmith and by torch."""
    generator = torch.Generator().manual_seed(rank)
    rows = torch.randn(6, 4, generator=generator).t()  # not contiguous
    factors = torch.randn(8, 6, generator=generator)  # another function on each process
    found = []
    for gather in (all_gather_with_gradient, lambda rows: torch.cat(all_gather(rows))):
        leaf = rows.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # all_gather is deprecated
            gathered = gather(leaf)
            (gradient,) = torch.autograd.grad((factors * gathered).square().sum(), leaf)
        found.append((gathered.detach(), gradient))
    return found


def second_derivative(rank):
    """Return the gradient of a squared gradient norm of one function of all rows, with half of it on each process."""
    rows = torch.randn(2, 3, generator=torch.Generator().manual_seed(rank), dtype=torch.float64).requires_grad_()
    gathered = all_gather_with_gradient(rows)
    value = (gathered[rank::WORLD] @ gathered.T).pow(3).sum()  # another part on each process
    (gradient,) = torch.autograd.grad(value, rows, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), rows)
    return rows.detach(), gradient.detach(), second


def work(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=TIMEOUT))
    try:
        torch.save(gather_both_ways(rank), Path(folder) / f"gathered{rank}.pt")
        torch.save(second_derivative(rank), Path(folder) / f"second{rank}.pt")
        torch.save({wrapper.__name__: wrapper(rank) for wrapper in WRAPPERS}, Path(folder) / f"{rank}.pt")
    finally:
        destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the trained weights on both processes by wrapper."""
    folder = tmp_path_factory.mktemp("processes")
    workers = torch.multiprocessing.spawn(work, (str(folder),), nprocs=WORLD, join=False)
    end = monotonic() + TIMEOUT
    try:
        while not workers.join(timeout=1):
            assert monotonic() < end, f"two processes did not finish within {TIMEOUT} s"
    finally:
        for process in workers.processes:
            process.kill()
            process.join()
    gathered = [torch.load(folder / f"gathered{rank}.pt", weights_only=True) for rank in range(WORLD)]
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    states = {wrapper.__name__: [each[wrapper.__name__] for each in found] for wrapper in WRAPPERS}
    second = [torch.load(folder / f"second{rank}.pt", weights_only=True) for rank in range(WORLD)]
    return {**states, "gathered": gathered, "second": second}


@pytest.fixture(scope="module")
def alone():
    """Return the weights after the same steps in one process on the joint batches."""
    module = ModelWithLoss()
    train(module, module.parameters())
    return module.model.state_dict()


@pytest.mark.parametrize("wrapper", [wrapper.__name__ for wrapper in WRAPPERS])
def test_two_processes_train_as_one_process_does(wrapper, trained, alone):
    for state in trained[wrapper]:
        for name, weight in state.items():
            assert_close(weight, alone[name.removeprefix("model.")], rtol=1e-6, atol=1e-6)


def test_training_changes_the_weights(alone):
    begun = ModelWithLoss().model.state_dict()
    assert all((alone[name] - begun[name]).abs().max() > 1e-3 for name in alone)


@pytest.mark.parametrize("wrapper", ["ddp_model_with_loss", "fsdp_model_with_loss"])
def test_no_state_dict_contains_the_loss(wrapper, trained, alone):
    assert all(state.keys() == {f"model.{name}" for name in alone} for state in trained[wrapper])


def test_the_loss_has_no_parameters_or_buffers():
    loss = parse(LOSS)
    assert not list(loss.parameters())
    assert not list(loss.buffers())
    assert not loss.state_dict()


def test_gathered_rows_and_gradients_equal_those_of_torch(trained):
    for ours, theirs in trained["gathered"]:
        for found, expected in zip(ours, theirs, strict=True):
            assert torch.equal(found, expected)


def test_the_gradient_through_gathered_rows_is_differentiable(trained):
    rows, gradients, seconds = (torch.cat(parts) for parts in zip(*trained["second"], strict=True))
    rows.requires_grad_()
    value = sum((rows[rank::WORLD] @ rows.T).pow(3).sum() for rank in range(WORLD))
    (gradient,) = torch.autograd.grad(value, rows, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), rows)
    assert_close(gradients, gradient.detach())
    assert_close(seconds, second)

"""Terms that compare the images of a batch, in two processes: value and gradient equal those of the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lossmith.losses import ContrastiveFlow, Dispersive

GROUPS = torch.tensor([0, 1, 2, 0, 3, 4])


def make_inputs():
    return torch.randn(3, 6, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def measure_terms(gather, learnt, noise, groups):
    """Return the values (N,) of both terms, from the velocity and hidden features and from the noise."""
    velocity, hidden = learnt
    return {
        "velocity": ContrastiveFlow(gather=gather).measure(velocity, torch.zeros_like(noise), noise, groups),
        "hidden": Dispersive(gather=gather).measure(hidden, groups),
    }


def measure_half_a_batch(rank, rendezvous, found):
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    inputs = make_inputs()[:, 3 * rank :][:, :3]
    learnt, noise = inputs[:2].clone().requires_grad_(), inputs[2]
    values = measure_terms(True, learnt, noise, GROUPS[3 * rank :][:3])
    sum(value.mean() for value in values.values()).backward()
    found[rank] = ({name: value.detach().numpy() for name, value in values.items()}, learnt.grad.numpy())
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_compare_all_images(tmp_path):
    learnt = make_inputs()[:2].clone().requires_grad_()
    values = measure_terms(False, learnt, make_inputs()[2], GROUPS)
    sum(value.mean() for value in values.values()).backward()
    with mp.Manager() as manager:
        found = manager.dict()
        mp.spawn(measure_half_a_batch, (tmp_path / "rendezvous", found), nprocs=2)
        halves = [found[0], found[1]]
    for name, value in values.items():
        together = torch.cat([torch.from_numpy(half[0][name]) for half in halves])
        torch.testing.assert_close(together, value.detach())
    gradient = torch.cat([torch.from_numpy(half[1]) for half in halves], dim=1) / 2  # DDP averages over processes
    torch.testing.assert_close(gradient, learnt.grad)


@pytest.mark.parametrize("term", [ContrastiveFlow, Dispersive])
def test_gather_is_part_of_the_repr(term):
    assert repr(term(gather=True)) == f"{term.__name__}(gather=True)"
    assert repr(term()) == f"{term.__name__}()"
    with pytest.raises(ValueError, match=r"gather must be .*got 1"):
        term(gather=1)

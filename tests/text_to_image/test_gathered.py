"""What compares the pictures of a batch, in two processes: the value and gradient of one with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lossmith import ContrastiveFlow, Dispersive

GROUPS = torch.tensor([0, 1, 2, 0, 3, 4])


def views():
    return torch.randn(3, 6, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def asked(gather, learning, beside, groups):
    """The values of both terms, (N,), of what learns, and what stands beside it."""
    flow, hidden = learning
    return {
        "flow": ContrastiveFlow(gather=gather).measure(flow, torch.zeros_like(beside), beside, groups),
        "hidden": Dispersive(gather=gather).measure(hidden, groups),
    }


def half_of_a_batch(rank, meeting, found):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    learning, beside = views()[:2, 3 * rank :][:, :3].clone().requires_grad_(), views()[2, 3 * rank :][:3]
    values = asked(True, learning, beside, GROUPS[3 * rank :][:3])
    sum(value.mean() for value in values.values()).backward()
    found[rank] = ({name: value.detach().numpy() for name, value in values.items()}, learning.grad.numpy())
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_compare_all_pictures(tmp_path):
    learning = views()[:2].clone().requires_grad_()
    values = asked(False, learning, views()[2], GROUPS)
    sum(value.mean() for value in values.values()).backward()
    with mp.Manager() as manager:
        found = manager.dict()
        mp.spawn(half_of_a_batch, (tmp_path / "meeting", found), nprocs=2)
        halves = [found[0], found[1]]
    for name, value in values.items():
        together = torch.cat([torch.from_numpy(half[0][name]) for half in halves])
        torch.testing.assert_close(together, value.detach())
    gradient = torch.cat([torch.from_numpy(half[1]) for half in halves], dim=1) / 2  # DDP's mean over processes
    torch.testing.assert_close(gradient, learning.grad)


@pytest.mark.parametrize("term", [ContrastiveFlow, Dispersive])
def test_to_gather_is_part_of_the_text(term):
    assert repr(term(gather=True)) == f"{term.__name__}(gather=True)"
    assert repr(term()) == f"{term.__name__}()"
    with pytest.raises(ValueError, match="wants gather to be True or False; got 1"):
        term(gather=1)

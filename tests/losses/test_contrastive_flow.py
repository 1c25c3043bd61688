import torch
from torch.testing import assert_close

from lossmith.losses import ContrastiveFlow


def test_velocities_are_contrasted_with_those_of_all_other_groups():
    generator = torch.Generator().manual_seed(0)
    v, x, e = torch.randn(3, 4, 2, 3, 3, generator=generator, dtype=torch.float64)
    groups, conditioned = torch.tensor([1, 1, 2, 3]), torch.tensor([True, True, False, True])
    found = ContrastiveFlow().measure(v, x, e, groups, conditioned)
    target = e - x
    for i in range(4):
        distances = [(v[i] - target[j]).square().mean() for j in range(4) if groups[j] != groups[i]]
        expected = -torch.stack(distances).mean() if conditioned[i] else torch.zeros(()).double()
        assert_close(found[i], expected)


def test_images_of_one_group_are_no_negatives():
    v, x, e = torch.randn(3, 2, 3, 4, 4)
    assert not ContrastiveFlow().measure(v, x, e, groups=torch.tensor([7, 7])).any()


def test_the_optimum_moves_as_documented():
    generator = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 6, 1, 2, 2, generator=generator, dtype=torch.float64)
    flow = (e - x).requires_grad_()
    weight, others = 0.05, ((e - x).sum(0) - (e - x)) / 5
    optimum = ((e - x) - weight * others) / (1 - weight)
    velocity = optimum.clone().requires_grad_()
    loss = (velocity - flow.detach()).square().flatten(1).mean(1) + weight * ContrastiveFlow().measure(velocity, x, e)
    (gradient,) = torch.autograd.grad(loss.sum(), velocity)
    assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)

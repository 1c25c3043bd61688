"""The sliced Wasserstein distance, compared with scipy's distance along each direction."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from lossmith import L2, VGG, Gram
from lossmith.losses.distribution import SlicedWasserstein, random_directions, sliced_wasserstein

CPU = torch.device("cpu")


def make_directions(channels: int, count: int, seed: int = 0) -> torch.Tensor:
    return random_directions(channels, count, seed, CPU, torch.float64)


def test_it_is_the_mean_of_the_distances_along_each_direction(image_pair):
    pred, target = image_pair(side=8, dtype=torch.float64)
    expected = [
        np.mean([wasserstein_distance(v @ x, v @ y) for v in make_directions(3, 6).numpy()])
        for x, y in zip(pred.flatten(2).numpy(), target.flatten(2).numpy(), strict=True)
    ]
    torch.testing.assert_close(SlicedWasserstein(6, p=1).measure(pred, target), torch.tensor(expected))


def test_with_one_channel_sorted_values_are_compared():
    x, y = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), torch.tensor([0.5, 0.25]).view(1, 1, 1, 2)
    assert SlicedWasserstein()(x, y).item() == (0.25**2 + 0.5**2) / 2
    assert SlicedWasserstein(p=3)(x, y).item() == (0.25**3 + 0.5**3) / 2


def test_positions_do_not_matter(image_pair):
    pred, target = image_pair(side=8)
    assert torch.equal(SlicedWasserstein()(pred.flip(3).transpose(2, 3), target), SlicedWasserstein()(pred, target))
    assert SlicedWasserstein()(target.flip(2), target) == 0


def test_it_distinguishes_features_of_equal_gram_matrices():
    x = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    y = torch.tensor([2**0.5, 0.0]).view(1, 1, 1, 2)
    assert (L2() @ Gram())(x, y) < 1e-12
    assert SlicedWasserstein()(x, y) > 0.1


def test_a_shift_of_all_features_costs_its_mean_square_over_channels():
    shift = 0.5 * torch.nn.functional.normalize(torch.randn(1, 64, 1, 1, generator=torch.Generator().manual_seed(1)))
    x = torch.rand(1, 64, 8, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(SlicedWasserstein(4096)(x + shift, x), torch.tensor(0.25 / 64), rtol=0.05, atol=0)


def test_the_resolution_does_not_matter(image_pair):
    pred, target = (image.repeat_interleave(2, dim=3) for image in image_pair(side=8, dtype=torch.float64))
    torch.testing.assert_close(
        SlicedWasserstein()(pred, target), SlicedWasserstein()(*image_pair(side=8, dtype=torch.float64))
    )


def test_the_directions_are_constant_unit_vectors():
    torch.testing.assert_close(make_directions(5, 7).norm(dim=1), torch.ones(7, dtype=torch.float64))
    assert torch.equal(make_directions(5, 7), make_directions(5, 7))
    assert not torch.equal(make_directions(5, 7), make_directions(5, 7, seed=1))
    torch.testing.assert_close(
        random_directions(5, 7, 0, CPU, torch.float32).double(), make_directions(5, 7), rtol=0, atol=1e-7
    )


def test_the_directions_are_uniformly_distributed():
    along = make_directions(4, 20000)
    torch.testing.assert_close(along.T @ along / 20000, torch.eye(4, dtype=torch.float64) / 4, rtol=0, atol=0.01)


def test_the_default_number_of_directions_is_the_number_of_channels(image_pair):
    pred, target = image_pair(channels=5)
    assert torch.equal(SlicedWasserstein()(pred, target), SlicedWasserstein(5)(pred, target))


def test_directions_from_inference_mode_can_be_used_in_training(image_pair):
    pred, target = image_pair(channels=6)
    with torch.inference_mode():
        SlicedWasserstein(11)(pred, target)
    SlicedWasserstein(11)(pred.requires_grad_(), target).backward()
    assert pred.grad.any()


def test_it_compiles_without_a_graph_break(image_pair):
    pred, target = image_pair(side=8)
    loss = 2 * SlicedWasserstein()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pred, target), loss(pred, target))


@pytest.mark.parametrize("p", [1, 1.5, 2])
def test_the_gradient_is_the_derivative(p, image_pair):
    pred, target = image_pair(n=1, side=6, dtype=torch.float64)
    loss = SlicedWasserstein(5, p=p)
    assert torch.autograd.gradcheck(lambda x: loss.measure(x, target), pred.requires_grad_(), fast_mode=True)


def test_the_recipe_uses_the_authors_layers():
    (term,) = sliced_wasserstein(weights="random").terms
    assert list(term.layer_weights)[:3] == ["relu1_1", "relu1_2", "relu2_1"]
    assert list(term.layer_weights)[-1] == "relu5_2"
    assert len(term.layer_weights) == 14
    loss = sliced_wasserstein("vgg16", "relu2_1", projections=9, weights="random")
    assert repr(loss) == repr(SlicedWasserstein(9) @ VGG("vgg16", "relu2_1", weights="random"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"projections": 0}, "projections must be an integer at least 1; got 0"),
        ({"p": 0.5}, "p must be at least 1; got 0.5"),
        ({"seed": -1}, "seed must be an integer at least 0 and at most"),
    ],
)
def test_an_invalid_argument_raises(arguments, words):
    with pytest.raises(ValueError, match=words):
        SlicedWasserstein(**arguments)


def test_maps_without_positions_raise():
    with pytest.raises(ValueError, match=r"needs maps \(N, C, \.\.\.\); got \(2, 3\)"):
        SlicedWasserstein().measure(torch.rand(2, 3), torch.rand(2, 3))

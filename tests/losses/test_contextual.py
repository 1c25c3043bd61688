"""The contextual loss, against its authors' formula written out place by place in numpy."""

import math

import numpy as np
import pytest
import torch

from lossmith import VGG
from lossmith.losses.contextual import Contextual, contextual, spread

# fewer places than the default, and no more than there are
TRIED = [Contextual(), Contextual(0.1), Contextual(distance="l2"), Contextual(spatial=0.1), Contextual(0.3, places=20)]


def by_hand(x: np.ndarray, y: np.ndarray, loss: Contextual) -> float:
    """One image (C, H, W), as Mechrez et al. and, with a spatial share, Zhang et al. have it."""
    _, height, width = x.shape
    at = [int(i) for i in spread(height * width, loss.places, torch.device("cpu"))]
    xs, ys = ([picture[:, i // width, i % width] for i in at] for picture in (x, y))
    mean = np.mean(ys, axis=0)
    xs, ys = [v - mean for v in xs], [v - mean for v in ys]
    variance = np.mean([v @ v for v in ys])
    grid = [np.array([i // width / height, i % width / width]) for i in at]
    middle = np.mean(grid, axis=0)
    size = np.mean([(g - middle) @ (g - middle) for g in grid])

    def features(i: int, j: int) -> float:
        if loss.distance == "l2":
            return (xs[i] - ys[j]) @ (xs[i] - ys[j]) / variance
        return (1 - xs[i] @ ys[j] / np.linalg.norm(xs[i]) / np.linalg.norm(ys[j])) / 2

    def places(i: int, j: int) -> float:
        return (grid[i] - grid[j]) @ (grid[i] - grid[j]) / size

    def affinity(distance) -> np.ndarray:
        rows = []
        for i in range(len(at)):
            row = np.array([distance(i, j) for j in range(len(at))])
            weights = np.exp((1 - row / (row.min() + 1e-5)) / loss.bandwidth)
            rows.append(weights / weights.sum())
        return np.array(rows)

    found = affinity(features)
    if loss.spatial:
        found = (1 - loss.spatial) * found + loss.spatial * affinity(places)
    return -math.log(found.max(axis=0).mean())


@pytest.mark.parametrize("loss", TRIED, ids=repr)
def test_it_is_the_formula_written_out(loss, image_pair):
    pred, target = (view[..., :6] for view in image_pair(side=8, channels=5, dtype=torch.float64))
    wanted = torch.tensor([by_hand(x.numpy(), y.numpy(), loss) for x, y in zip(pred, target, strict=True)])
    torch.testing.assert_close(loss.measure(pred, target), wanted.double())


@pytest.mark.parametrize("loss", TRIED, ids=repr)
def test_the_gradient_is_the_derivative(loss, image_pair):
    pred, target = image_pair(n=1, side=6, channels=5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss.measure(x, target), pred.requires_grad_(), fast_mode=True)


def test_where_things_are_does_not_matter(image_pair):
    pred, target = image_pair(side=8, channels=5, dtype=torch.float64)
    shuffled = pred.flatten(2)[..., torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(pred)
    torch.testing.assert_close(Contextual().measure(shuffled, target), Contextual().measure(pred, target))


def test_with_a_spatial_share_it_does(image_pair):
    _, target = image_pair(side=8, channels=5)
    assert (
        Contextual(spatial=0.3).measure(target.flip(3), target) > Contextual(spatial=0.3).measure(target, target)
    ).all()


def test_a_feature_that_the_prediction_lacks_costs_its_share():
    target = torch.eye(4).view(1, 4, 2, 2)  # four features, each at one place
    pred = target.clone()
    pred[0, :, 1, 1] = target[0, :, 0, 0]
    assert Contextual()(target, target) < 1e-5
    torch.testing.assert_close(Contextual(0.01)(pred, target), torch.tensor(-math.log(3 / 4)))


def test_places_of_the_target_that_are_alike_share_one_weight():
    pred = torch.eye(4).view(1, 4, 2, 2)
    target = pred.clone()
    target[0, :, 1, 1] = pred[0, :, 0, 0]
    torch.testing.assert_close(Contextual(0.01)(pred, target), torch.tensor(-math.log((1 + 1 + 1 / 2 + 1 / 2) / 4)))


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_maps_where_all_places_are_alike_give_the_greatest_value_and_no_pull(distance):
    pred = torch.full((1, 5, 4, 4), 0.3, requires_grad=True)
    value = Contextual(distance=distance)(pred, torch.full((1, 5, 4, 4), 0.3))
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(16.0).log())
    assert not pred.grad.any()


def test_the_l2_form_does_not_depend_on_the_scale_of_the_features(image_pair):
    pred, target = image_pair(side=8, dtype=torch.float64)
    loss = Contextual(distance="l2")
    torch.testing.assert_close(loss.measure(pred / 57, target / 57), loss.measure(pred, target))


@pytest.mark.parametrize(("count", "places"), [(25, 10), (1500, 1024), (1025, 1024), (512 * 512, 1024)])
def test_the_places_are_distinct_and_spread_over_the_whole_map(count, places):
    at = spread(count, places, torch.device("cpu"))
    assert len(at) == places
    assert (at.diff() > 0).all()
    bounds = torch.arange(places + 1) * count // places
    assert ((at >= bounds[:-1]) & (at < bounds[1:])).all()


def test_the_places_fall_on_every_column_evenly():
    columns = spread(256 * 256, 1024, torch.device("cpu")) % 64  # stretches of 64 in rows of 256
    counts = torch.bincount(columns // 8, minlength=8)
    assert counts.min() >= 120
    assert counts.max() <= 136


def test_a_map_of_few_places_is_looked_at_whole():
    assert spread(9, 10, torch.device("cpu")).tolist() == list(range(9))


def test_its_matrices_grow_no_further_than_its_places(monkeypatch, image_pair):
    shapes = []
    affinity = Contextual.affinity
    monkeypatch.setattr(Contextual, "affinity", lambda self, d: shapes.append(tuple(d.shape)) or affinity(self, d))
    Contextual(places=50)(*image_pair(side=64))
    assert shapes == [(2, 50, 50)]


def test_the_recipe_is_the_distance_at_the_authors_layers():
    assert repr(contextual()) == 'Contextual() @ VGG("vgg19", ["relu3_2", "relu4_2"])'
    loss = contextual("vgg16", "relu2_1", bandwidth=0.1, spatial=0.1, places=64, weights="random")
    wanted = Contextual(0.1, spatial=0.1, places=64) @ VGG("vgg16", "relu2_1", weights="random")
    assert repr(loss) == repr(wanted)


def test_its_repr_says_what_is_not_usual():
    assert repr(Contextual(0.5, "cosine", spatial=0, places=1024)) == "Contextual()"
    assert repr(Contextual(0.1, "l2", places=9)) == 'Contextual(bandwidth=0.1, distance="l2", places=9)'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bandwidth": 0}, "bandwidth > 0; got 0"),
        ({"distance": "l1"}, '"cosine", "l2"; got \'l1\''),
        ({"spatial": 1}, r"spatial in \[0, 1\); got 1"),
        ({"places": 1}, "at least 2 places; got 1"),
    ],
)
def test_a_bad_argument_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Contextual(**arguments)


def test_maps_without_places_are_refused():
    with pytest.raises(ValueError, match=r"wants maps with places, \(N, C, H, W\); got \(2, 3, 3\)"):
        Contextual().measure(torch.rand(2, 3, 3), torch.rand(2, 3, 3))
    with pytest.raises(ValueError, match="at least 2 places in each map; got 1x1"):
        Contextual()(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1))

"""The contextual loss, compared with its authors' formula written out position by position in numpy."""

import math

import numpy as np
import pytest
import torch

from lossmith import VGG
from lossmith.losses.contextual import Contextual, _select_points, contextual

# one with fewer points than positions
VARIANTS = [
    Contextual(),
    Contextual(0.1),
    Contextual(distance="l2"),
    Contextual(spatial=0.1),
    Contextual(0.3, max_points=20),
]


def reference(x: np.ndarray, y: np.ndarray, loss: Contextual) -> float:
    """Return the value of one image (C, H, W) after Mechrez et al. and, with a spatial weight, Zhang et al."""
    _, height, width = x.shape
    points = [int(i) for i in _select_points(height * width, loss.max_points, torch.device("cpu"))]
    xs, ys = ([image[:, i // width, i % width] for i in points] for image in (x, y))
    mean = np.mean(ys, axis=0)
    xs, ys = [v - mean for v in xs], [v - mean for v in ys]
    variance = np.mean([v @ v for v in ys])
    grid = [np.array([i // width / height, i % width / width]) for i in points]
    middle = np.mean(grid, axis=0)
    size = np.mean([(g - middle) @ (g - middle) for g in grid])

    def feature_distance(i: int, j: int) -> float:
        if loss.distance == "l2":
            return (xs[i] - ys[j]) @ (xs[i] - ys[j]) / variance
        return (1 - xs[i] @ ys[j] / np.linalg.norm(xs[i]) / np.linalg.norm(ys[j])) / 2

    def position_distance(i: int, j: int) -> float:
        return (grid[i] - grid[j]) @ (grid[i] - grid[j]) / size

    def affinity(distance) -> np.ndarray:
        rows = []
        for i in range(len(points)):
            row = np.array([distance(i, j) for j in range(len(points))])
            weights = np.exp((1 - row / (row.min() + 1e-5)) / loss.bandwidth)
            rows.append(weights / weights.sum())
        return np.array(rows)

    found = affinity(feature_distance)
    if loss.spatial:
        found = (1 - loss.spatial) * found + loss.spatial * affinity(position_distance)
    return -math.log(found.max(axis=0).mean())


@pytest.mark.parametrize("loss", VARIANTS, ids=repr)
def test_it_is_the_formula_written_out(loss, image_pair):
    pred, target = (image[..., :6] for image in image_pair(side=8, channels=5, dtype=torch.float64))
    expected = torch.tensor([reference(x.numpy(), y.numpy(), loss) for x, y in zip(pred, target, strict=True)])
    torch.testing.assert_close(loss.measure(pred, target), expected.double())


@pytest.mark.parametrize("loss", VARIANTS, ids=repr)
def test_the_gradient_is_the_derivative(loss, image_pair):
    pred, target = image_pair(n=1, side=6, channels=5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss.measure(x, target), pred.requires_grad_(), fast_mode=True)


def test_positions_do_not_matter(image_pair):
    pred, target = image_pair(side=8, channels=5, dtype=torch.float64)
    shuffled = pred.flatten(2)[..., torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(pred)
    torch.testing.assert_close(Contextual().measure(shuffled, target), Contextual().measure(pred, target))


def test_positions_matter_with_a_spatial_weight(image_pair):
    _, target = image_pair(side=8, channels=5)
    assert (
        Contextual(spatial=0.3).measure(target.flip(3), target) > Contextual(spatial=0.3).measure(target, target)
    ).all()


def test_a_missing_feature_costs_its_fraction():
    target = torch.eye(4).view(1, 4, 2, 2)  # four features, each at one position
    pred = target.clone()
    pred[0, :, 1, 1] = target[0, :, 0, 0]
    assert Contextual()(target, target) < 1e-5
    torch.testing.assert_close(Contextual(0.01)(pred, target), torch.tensor(-math.log(3 / 4)))


def test_equal_positions_of_the_target_share_one_weight():
    pred = torch.eye(4).view(1, 4, 2, 2)
    target = pred.clone()
    target[0, :, 1, 1] = pred[0, :, 0, 0]
    torch.testing.assert_close(Contextual(0.01)(pred, target), torch.tensor(-math.log((1 + 1 + 1 / 2 + 1 / 2) / 4)))


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_uniform_maps_give_the_maximum_and_no_gradient(distance):
    pred = torch.full((1, 5, 4, 4), 0.3, requires_grad=True)
    value = Contextual(distance=distance)(pred, torch.full((1, 5, 4, 4), 0.3))
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(16.0).log())
    assert not pred.grad.any()


def test_the_l2_form_does_not_depend_on_the_scale_of_the_features(image_pair):
    pred, target = image_pair(side=8, dtype=torch.float64)
    loss = Contextual(distance="l2")
    torch.testing.assert_close(loss.measure(pred / 57, target / 57), loss.measure(pred, target))


@pytest.mark.parametrize(("count", "max_points"), [(25, 10), (1500, 1024), (1025, 1024), (512 * 512, 1024)])
def test_the_points_are_distinct_and_spread_over_the_map(count, max_points):
    points = _select_points(count, max_points, torch.device("cpu"))
    assert len(points) == max_points
    assert (points.diff() > 0).all()
    bounds = torch.arange(max_points + 1) * count // max_points
    assert ((points >= bounds[:-1]) & (points < bounds[1:])).all()


def test_the_points_cover_all_columns_evenly():
    columns = _select_points(256 * 256, 1024, torch.device("cpu")) % 64  # intervals of 64 in rows of 256
    counts = torch.bincount(columns // 8, minlength=8)
    assert counts.min() >= 120
    assert counts.max() <= 136


def test_a_small_map_is_used_whole():
    assert _select_points(9, 10, torch.device("cpu")).tolist() == list(range(9))


def test_the_matrices_have_at_most_max_points_rows(monkeypatch, image_pair):
    shapes = []
    affinity = Contextual._affinity
    monkeypatch.setattr(Contextual, "_affinity", lambda self, d: shapes.append(tuple(d.shape)) or affinity(self, d))
    Contextual(max_points=50)(*image_pair(side=64))
    assert shapes == [(2, 50, 50)]


def test_the_recipe_uses_the_authors_layers():
    assert repr(contextual()) == 'Contextual() @ VGG("vgg19", ["relu3_2", "relu4_2"])'
    loss = contextual("vgg16", "relu2_1", bandwidth=0.1, spatial=0.1, max_points=64, weights="random")
    expected = Contextual(0.1, spatial=0.1, max_points=64) @ VGG("vgg16", "relu2_1", weights="random")
    assert repr(loss) == repr(expected)


def test_the_repr_omits_defaults():
    assert repr(Contextual(0.5, "cosine", spatial=0, max_points=1024)) == "Contextual()"
    assert repr(Contextual(0.1, "l2", max_points=9)) == 'Contextual(bandwidth=0.1, distance="l2", max_points=9)'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bandwidth": 0}, "bandwidth must be positive; got 0"),
        ({"distance": "l1"}, "must be one of 'cosine', 'l2'; got 'l1'"),
        ({"spatial": 1}, "spatial must be at least 0 and below 1; got 1"),
        ({"max_points": 1}, "max_points must be an integer at least 2; got 1"),
    ],
)
def test_an_invalid_argument_raises(arguments, words):
    with pytest.raises(ValueError, match=words):
        Contextual(**arguments)


def test_maps_without_positions_raise():
    with pytest.raises(ValueError, match=r"needs maps \(N, C, H, W\); got \(2, 3, 3\)"):
        Contextual().measure(torch.rand(2, 3, 3), torch.rand(2, 3, 3))
    with pytest.raises(ValueError, match="at least 2 positions in each map; got 1x1"):
        Contextual()(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1))

import math
import random

import moocore
import numpy as np
import pytest

from lossmith.tune.pareto import bootstrap_knee, dominates, find_front, find_knee, hypervolume

SEEDS = range(40)


def random_points(seed, *, dimensions=2, levels=None):
    """Return random points; with few levels, many of them share a coordinate or are equal."""
    rng = random.Random(seed)
    draw = (lambda: float(rng.randrange(levels))) if levels else rng.random
    return [tuple(draw() for _ in range(dimensions)) for _ in range(rng.randint(1, 12))]


@pytest.mark.parametrize("seed", SEEDS)
def test_dominance_is_a_strict_partial_order(seed):
    points = random_points(seed, dimensions=3, levels=3)
    for a in points:
        assert not dominates(a, a)
        for b in points:
            assert not (dominates(a, b) and dominates(b, a))
            assert all(dominates(a, c) for c in points if dominates(a, b) and dominates(b, c))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_front_consists_of_the_points_that_none_dominates(seed):
    points = random_points(seed, levels=4)
    expected = {i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)}
    front = find_front(points)
    assert set(front) == expected
    assert [points[i] for i in front] == sorted(points[i] for i in front)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_the_hypervolume_is_the_fraction_of_random_points_that_are_dominated(seed, dimensions):
    points = random_points(seed, dimensions=dimensions)
    rng = random.Random(1000 + seed)
    samples = [[rng.random() for _ in range(dimensions)] for _ in range(20_000)]
    hits = sum(any(all(a <= x for a, x in zip(p, sample, strict=True)) for p in points) for sample in samples)
    expected, tolerance = hits / len(samples), 4 * math.sqrt(0.25 / len(samples))
    assert hypervolume(points, (1.0,) * dimensions) == pytest.approx(expected, abs=tolerance)


def slice_hypervolume(points, corner):
    """Return the hypervolume by slices across the last axis, an algorithm other than moocore's."""
    if not points:
        return 0.0
    if len(corner) == 1:
        return corner[0] - min(points)[0]
    ordered = sorted(points, key=lambda point: point[-1])
    heights = [*(point[-1] for point in ordered), corner[-1]]
    return math.fsum(
        (heights[i + 1] - heights[i]) * slice_hypervolume([point[:-1] for point in ordered[: i + 1]], corner[:-1])
        for i in range(len(ordered))
    )


@pytest.mark.parametrize("dimensions", [2, 3, 4])
@pytest.mark.parametrize("seed", range(20))
def test_the_hypervolume_equals_that_of_slices(seed, dimensions):
    points, corner = random_points(seed, dimensions=dimensions), (0.9,) * dimensions
    inside = [point for point in points if all(a < b for a, b in zip(point, corner, strict=True))]
    assert hypervolume(points, corner) == pytest.approx(slice_hypervolume(inside, corner), rel=1e-12, abs=1e-15)


def test_the_hypervolume_of_small_sets_is_exact():
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (4, 4)) == 6
    assert hypervolume([(0, 0, 0)], (2, 3, 4)) == 24
    assert hypervolume([(0, 0, 1), (1, 1, 0)], (2, 2, 2)) == 4 + 2 - 1  # two boxes minus their intersection


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hypervolume_depends_on_the_front_only(seed):
    points = random_points(seed, dimensions=3)
    corner = (0.9, 0.9, 0.9)
    assert hypervolume([points[i] for i in find_front(points)], corner) == pytest.approx(hypervolume(points, corner))


@pytest.mark.parametrize("seed", SEEDS)
def test_another_point_never_reduces_the_hypervolume(seed):
    points, corner = random_points(seed), (0.9, 0.9)
    more = [*points, (random.Random(seed + 7).random(), 0.5)]
    assert hypervolume(more, corner) >= hypervolume(points, corner) - 1e-12


def test_a_point_that_is_not_better_than_the_reference_adds_nothing():
    assert hypervolume([(5, 0), (0, 5), (4, 4)], (4, 4)) == 0
    assert hypervolume([], (4, 4)) == 0


def test_moocore_keeps_equal_points_on_the_front():  # on which find_front relies
    points = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
    assert moocore.is_nondominated(points, keep_weakly=True).tolist() == [True, True, True, False]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_knee_lies_on_the_front(seed):
    points = random_points(seed, levels=5)
    assert find_knee(points, [(2, 4), (2, 4)]) in find_front(points)  # with points beyond the best value


@pytest.mark.parametrize("seed", SEEDS)
def test_the_knee_does_not_depend_on_the_units(seed):
    points, ranges = random_points(seed), [(0.0, 1.0), (0.0, 1.0)]
    scaled = [(1000 * a - 7, b / 50) for a, b in points]
    assert find_knee(scaled, [(-7.0, 993.0), (0.0, 0.02)]) == find_knee(points, ranges)


@pytest.mark.parametrize("seed", SEEDS)
def test_distant_points_do_not_move_the_knee(seed):
    points, ranges = random_points(seed), [(0.0, 1.0), (0.0, 1.0)]
    assert find_knee([*points, (0.0, 50.0), (50.0, 0.0)], ranges) == find_knee(points, ranges)


def test_the_knee_has_frequency_one_if_all_images_agree():
    certain = [[(0.0, 1.0)] * 5, [(0.2, 0.2)] * 5, [(1.0, 0.0)] * 5]
    assert bootstrap_knee(certain, [(0, 1), (0, 1)]) == [0, 1, 0]


def test_two_points_of_one_distribution_are_both_the_knee_at_times():
    rng = random.Random(0)
    points = [[(rng.gauss(0.5, 0.1), rng.gauss(0.5, 0.1)) for _ in range(200)] for _ in range(2)]
    frequencies = bootstrap_knee(points, [(0, 1), (0, 1)], draws=2000)
    assert sum(frequencies) == pytest.approx(1)
    assert min(frequencies) > 0.02


def test_the_first_of_equal_points_is_the_knee():
    assert bootstrap_knee([[(1.0, 1.0)], [(1.0, 1.0)]], [(0, 2), (0, 2)], draws=50) == [1, 0]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: find_front([(1, 2), (1, 2, 3)]), r"same number of coordinates.*\[2, 3\]"),
        (lambda: find_front([(1, math.nan)]), "must be finite"),
        (lambda: hypervolume([(1, 2)], (3,)), "same number of coordinates"),
        (lambda: find_knee([], []), "at least one"),
        (lambda: find_knee([(1, 2)], [(0, 1)]), "each of the 2 coordinates"),
        (lambda: find_knee([(1, 2)], [(0, 1), (1, 1)]), "best value below its worst value"),
        (lambda: bootstrap_knee([[(1, 2)], [(1, 2)] * 2], [(0, 1)] * 2), r"same number of images.*got \[1, 2\]"),
        (lambda: dominates((1, 2), (1, 2), tolerances=(0,)), "same number of coordinates"),
    ],
)
def test_invalid_points_and_ranges_are_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call()

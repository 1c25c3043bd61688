import math
import random

import pytest

from lossmith.tune.pareto import dominates, find_front, hypervolume, find_knee, bootstrap_knee

SEEDS = range(40)


def cloud(seed, *, axes=2, levels=None):
    """Some random points; with few levels, many of them share a coordinate or are equal."""
    chance = random.Random(seed)
    value = (lambda: float(chance.randrange(levels))) if levels else chance.random
    return [tuple(value() for _ in range(axes)) for _ in range(chance.randint(1, 12))]


@pytest.mark.parametrize("seed", SEEDS)
def test_dominance_is_a_strict_partial_order(seed):
    points = cloud(seed, axes=3, levels=3)
    for a in points:
        assert not dominates(a, a)
        for b in points:
            assert not (dominates(a, b) and dominates(b, a))
            assert all(dominates(a, c) for c in points if dominates(a, b) and dominates(b, c))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_front_is_what_nothing_dominates(seed):
    points = cloud(seed, levels=4)
    by_hand = {i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)}
    found = find_front(points)
    assert set(found) == by_hand
    assert [points[i] for i in found] == sorted(points[i] for i in found)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_the_hypervolume_is_the_part_of_random_darts_that_are_dominated(seed, axes):
    points = cloud(seed, axes=axes)
    chance = random.Random(1000 + seed)
    darts = [[chance.random() for _ in range(axes)] for _ in range(20_000)]
    hit = sum(any(all(a <= x for a, x in zip(p, dart, strict=True)) for p in points) for dart in darts) / len(darts)
    assert hypervolume(points, (1.0,) * axes) == pytest.approx(hit, abs=4 * math.sqrt(0.25 / len(darts)))


def test_the_hypervolume_of_a_staircase_is_counted_by_hand():
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (4, 4)) == 6
    assert hypervolume([(0, 0, 0)], (2, 3, 4)) == 24
    assert hypervolume([(0, 0, 1), (1, 1, 0)], (2, 2, 2)) == 4 + 2 - 1  # two boxes less what they share


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_front_makes_the_hypervolume(seed):
    points = cloud(seed, axes=3)
    corner = (0.9, 0.9, 0.9)
    assert hypervolume([points[i] for i in find_front(points)], corner) == pytest.approx(hypervolume(points, corner))


@pytest.mark.parametrize("seed", SEEDS)
def test_one_more_point_never_shrinks_the_hypervolume(seed):
    points, corner = cloud(seed), (0.9, 0.9)
    more = [*points, (random.Random(seed + 7).random(), 0.5)]
    assert hypervolume(more, corner) >= hypervolume(points, corner) - 1e-12


def test_what_is_not_better_than_the_reference_adds_nothing():
    assert hypervolume([(5, 0), (0, 5), (4, 4)], (4, 4)) == 0
    assert hypervolume([], (4, 4)) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_knee_lies_on_the_front(seed):
    points = cloud(seed, levels=5)
    assert find_knee(points, [(2, 4), (2, 4)]) in find_front(points)  # points beyond the best value among them


@pytest.mark.parametrize("seed", SEEDS)
def test_the_knee_does_not_depend_on_the_units(seed):
    points, ranges = cloud(seed), [(0.0, 1.0), (0.0, 1.0)]
    scaled = [(1000 * a - 7, b / 50) for a, b in points]
    assert find_knee(scaled, [(-7.0, 993.0), (0.0, 0.02)]) == find_knee(points, ranges)


@pytest.mark.parametrize("seed", SEEDS)
def test_far_off_points_do_not_move_the_knee(seed):
    points, ranges = cloud(seed), [(0.0, 1.0), (0.0, 1.0)]
    assert find_knee([*points, (0.0, 50.0), (50.0, 0.0)], ranges) == find_knee(points, ranges)


def test_the_shares_add_up_and_name_the_knee_where_pictures_agree():
    certain = [[(0.0, 1.0)] * 5, [(0.2, 0.2)] * 5, [(1.0, 0.0)] * 5]
    assert bootstrap_knee(certain, [(0, 1), (0, 1)]) == [0, 1, 0]


def test_the_shares_of_two_points_with_one_law_are_alike():
    chance = random.Random(0)
    points = [[(chance.gauss(0.5, 0.1), chance.gauss(0.5, 0.1)) for _ in range(200)] for _ in range(2)]
    shares = bootstrap_knee(points, [(0, 1), (0, 1)], draws=2000)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.02


def test_equal_points_share_no_knee():
    assert bootstrap_knee([[(1.0, 1.0)], [(1.0, 1.0)]], [(0, 2), (0, 2)], draws=50) == [1, 0]


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda: find_front([(1, 2), (1, 2, 3)]), r"the same axes.*\[2, 3\]"),
        (lambda: find_front([(1, math.nan)]), "finite"),
        (lambda: hypervolume([(1, 2)], (3,)), "the same axes"),
        (lambda: find_knee([], []), "at least one"),
        (lambda: find_knee([(1, 2)], [(0, 1)]), "each of the 2 axes"),
        (lambda: find_knee([(1, 2)], [(0, 1), (1, 1)]), "larger, worst"),
        (lambda: bootstrap_knee([[(1, 2)], [(1, 2)] * 2], [(0, 1)] * 2), r"same pictures; got \[1, 2\]"),
        (lambda: dominates((1, 2), (1, 2), margins=(0,)), "the same axes"),
    ],
)
def test_what_is_no_point_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()

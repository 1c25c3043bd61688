"""Metrics of sets of images generated from captions."""

import math

import numpy as np
import pytest
import torch

from lossmith.metrics import compute_image_features
from lossmith.text_to_image.metrics import (
    diversity,
    kid,
    memorisation,
    oracle_accuracy,
    oracle_ceiling,
    oracle_chance,
    r_precision,
    sample_mismatched_captions,
    vendi_score,
)
from lossmith.text_to_image.shapes import Scene, ShapeObject, ShapesDataset, ShapesOracle


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def oracle():
    return ShapesOracle(16)


@pytest.fixture(scope="module")
def level_two():
    return ShapesDataset(16, level="2"), ShapesOracle(16, level="2")


def test_clean_images_have_accuracy_1(oracle):
    shapes = ShapesDataset(16)
    captions = list(range(0, 480, 31))
    images = torch.stack([shapes.render(caption).image for caption in captions])
    accuracy = oracle_accuracy(oracle, images, [shapes.scene(caption) for caption in captions])
    assert accuracy == dict.fromkeys(("colour", "shape", "size", "position", "joint"), 1.0)


def test_chance_is_one_over_the_number_of_values(oracle):
    chance = oracle_chance(oracle, ShapesDataset(16).scenes[:7])
    assert chance == pytest.approx(
        {"colour": 1 / 8, "shape": 1 / 6, "size": 1 / 2, "position": 1 / 5, "joint": 1 / 480}
    )


def test_chance_is_the_accuracy_of_random_images(level_two):
    shapes, oracle = level_two
    scenes = shapes.scenes[::40]
    captions = torch.randint(len(shapes), (len(scenes),), generator=torch.Generator().manual_seed(0)).tolist()
    found = oracle_accuracy(oracle, shapes.images_of(captions), scenes)
    for name, chance in oracle_chance(oracle, scenes).items():
        assert abs(found[name] - chance) < 4 * math.sqrt(chance * (1 - chance) / len(scenes)) + 1e-9


def test_exchanged_colours_are_wrong_only_in_the_binding(level_two):
    shapes, oracle = level_two
    expected = Scene((ShapeObject("red", "ring"), ShapeObject("blue", "star")), "beside")
    mixed = Scene((ShapeObject("blue", "ring"), ShapeObject("red", "star")), "beside")
    image = shapes.render(shapes.scenes.index(mixed)).image[None]
    accuracy = oracle_accuracy(oracle, image, [expected])
    assert accuracy == {"colours": 1, "shapes": 1, "binding": 0, "count": 1, "arrangement": 1, "joint": 0}


def test_the_accuracy_of_real_images_is_nearly_1(oracle):
    assert oracle_ceiling(oracle, ShapesDataset(16), count=100)["position"] > 0.95


def test_an_image_without_a_scene_raises(oracle):
    with pytest.raises(ValueError, match="one scene per image; got 2 images and 1 scenes"):
        oracle_accuracy(oracle, torch.zeros(2, 3, 16, 16), ShapesDataset(16).scenes[:1])


def test_mismatched_captions_are_of_other_groups():
    groups = [k // 2 for k in range(60)]
    rows = sample_mismatched_captions(groups, range(60), count=20)
    assert all(row[0] == k and len(row) == 21 for k, row in enumerate(rows))
    assert all(len({groups[each] for each in row}) == 21 for row in rows)


def test_the_value_of_a_random_judge_is_chance():
    candidates = sample_mismatched_captions(range(500), range(500), count=9)
    found = r_precision(randn(500, 16), randn(500, 16, seed=1), candidates)
    assert found.chance == 0.1
    assert abs(found.value - 0.1) < 4 * found.error


def test_the_value_of_a_constant_judge_is_0():
    candidates = sample_mismatched_captions(range(9), range(4), count=3)
    assert r_precision(torch.ones(4, 3), torch.ones(9, 3), candidates).value == 0


def test_captions_of_one_group_raise():
    with pytest.raises(ValueError, match="at least two meanings"):
        sample_mismatched_captions([3, 3, 3], [0])


@pytest.mark.parametrize(
    ("images", "candidates", "message"),
    [
        (2, [[0, 1]], "one row of candidates per image"),
        (1, [[0]], "at least two candidates"),
        (0, [], "one row of candidates"),
    ],
)
def test_candidates_of_a_wrong_shape_raise(images, candidates, message):
    with pytest.raises(ValueError, match=message):
        r_precision(torch.ones(images, 3), torch.ones(4, 3), candidates)


def test_kid_is_its_definition_pair_by_pair():
    x, y = randn(12, 5).double(), 0.5 + randn(12, 5, seed=1).double()
    permutation = np.random.default_rng(0)
    first, second = (torch.from_numpy(permutation.permutation(12)[:6]) for _ in range(2))
    x6, y6 = x[first], y[second]

    def kernel(a, b):
        return float((a @ b / 5 + 1) ** 3)

    within = sum(kernel(s[i], s[j]) for s in (x6, y6) for i in range(6) for j in range(6) if i != j) / (6 * 5)
    across = sum(kernel(a, b) for a in x6 for b in y6) / 6**2
    assert kid(x, y, subsets=1).value == pytest.approx(within - 2 * across)


def test_kid_of_one_distribution_is_within_its_standard_deviation():
    found = kid(randn(300, 8), randn(300, 8, seed=1), subset_size=100)
    assert abs(found.value) < 2 * found.std


def test_kid_increases_with_the_shift():
    x, y = randn(200, 8), randn(200, 8, seed=1)
    values = [kid(x, y + shift, subsets=10).value for shift in (0.0, 0.5, 1.0)]
    assert values == sorted(values) and values[2] > 10 * abs(values[0])


def test_kid_of_too_few_images_raises():
    with pytest.raises(ValueError, match="at least 4 images"):
        kid(randn(3, 8), randn(300, 8))


def test_the_vendi_score_of_orthogonal_groups_is_their_number():
    features = torch.eye(5)[torch.arange(20) % 5]
    assert vendi_score(features) == pytest.approx(5)


def test_diversity_is_measured_within_each_prompt():
    equal = randn(6, 1, 4).expand(6, 3, 4)  # the prompts differ, the images of each do not
    assert diversity(equal) == pytest.approx({"distance": 0, "vendi": 1}, abs=1e-5)


def test_the_distance_is_the_mean_over_pairs():
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]]])
    assert diversity(points)["distance"] == pytest.approx((5 + 8 + 5) / 3)


def test_one_image_per_prompt_raises():
    with pytest.raises(ValueError, match="at least two images"):
        diversity(torch.zeros(4, 1, 3))


def test_copies_are_detected():
    train, held_out = randn(200, 6), randn(50, 6, seed=1)
    found = memorisation(train[:40] + 1e-4, train, held_out)
    assert found["copies"] == 1
    assert found["ratio"] < 0.9


def test_new_images_of_the_distribution_are_no_copies():
    found = memorisation(randn(200, 6, seed=2), randn(400, 6), randn(100, 6, seed=1))
    assert found["ratio"] == pytest.approx(1, abs=0.1)
    assert found["copies"] < 0.05


def test_features_are_those_of_the_embedded_network():
    features, digest = compute_image_features(ShapesDataset(16).images_of([0, 100]))
    assert features.shape == (2, 352)
    assert len(digest) == 64
    assert (features[0] - features[1]).norm() > 0.1

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from lossmith.text_to_image.shapes import (
    Scene,
    ShapeObject,
    ShapesDataset,
    ShapesOracle,
    check_scene_split,
    explained_variance_ratio,
    list_scenes,
)
from lossmith.text_to_image.shapes.rendering import compute_coverage, render_scene
from lossmith.text_to_image.shapes.scenes import LAYOUTS, SHAPES

LEVELS = {"1": 480, "1b": 1440, "2": 4656}


@pytest.fixture(scope="module", params=LEVELS)
def level(request):
    return request.param


@pytest.mark.parametrize("phrasings", [(0,), (0, 1, 2, 3)])
def test_every_scene_has_distinct_captions(level, phrasings):
    shapes = ShapesDataset(32, level=level, phrasings=phrasings)
    assert len(shapes.captions) == len(set(shapes.captions)) == LEVELS[level] * len(phrasings)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_phrases_describe_each_object(level):
    shapes = ShapesDataset(32, level=level, phrasings=(0, 1, 2, 3))
    for index in range(0, len(shapes), 97):
        caption, scene = shapes.captions[index], shapes.scene(index)
        assert len(shapes.phrases[index]) == len(scene.objects)
        for each, (start, end) in zip(scene.objects, shapes.phrases[index], strict=True):
            assert each.colour in caption[start:end]
            assert each.shape in caption[start:end]


def test_captions_of_inverse_relations_have_one_group():
    shapes = ShapesDataset(
        32,
        level="2",
        phrasings=(0, 1),
        scenes=[Scene((ShapeObject("red", "star"), ShapeObject("blue", "ring")), "stacked")],
    )
    assert shapes.captions == ["a red star above a blue ring", "a blue ring below a red star"]
    assert shapes.groups[0] == shapes.groups[1]


@pytest.mark.parametrize(("level", "number", "count"), [("1", 0, 17), ("1b", 0, 19), ("2", 100, 27), ("2", -1, 14)])
def test_neighbours_differ_in_one_value(level, number, count):
    """Level 1: 7 colours, 5 shapes, a size, 4 places. A pair: 2 (7 + 5), a relation, and two exchanges."""
    every = set(list_scenes(level))
    scene = list_scenes(level)[number]
    found = [other for other in scene.neighbours if other in every]
    assert len(found) == len(set(found)) == count
    assert scene not in found
    assert all(scene in other.neighbours for other in found)


def test_orange_has_the_article_an():
    scene = Scene((ShapeObject("orange", "star"), ShapeObject("blue", "ring")), "beside")
    assert ShapesDataset(32, level="2", scenes=[scene]).captions == ["an orange star to the left of a blue ring"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [32, 64])
def test_the_area_of_a_mask_is_that_of_the_outline(shape, side):
    """The areas of outlines of radius 1, from geometry; the cross is two boxes, the star ten triangles."""
    areas = {
        "circle": np.pi * 0.95**2,
        "ring": np.pi * (0.97**2 - 0.47**2),
        "square": 1.64**2,
        "triangle": 3 * np.sqrt(3) * 0.6**2,
        "cross": 2 * 2 * 0.56 - 0.56**2,
        "star": 5 * 1.1 * 0.45 * np.sin(np.pi / 5),
    }
    _, masks = render_scene(Scene((ShapeObject("red", shape, "large"),), "centre"), side)
    assert masks[0].mean() * 4 / 0.48**2 == pytest.approx(areas[shape], rel=0.06)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["beside", "stacked", "two", "three"])
def test_clean_objects_do_not_overlap(layout, shape):
    """The oracle's sum over objects depends on this."""
    coverages = [compute_coverage(ShapeObject("red", shape), c, 32, np.zeros(7)) for c in LAYOUTS[layout]]
    assert not any((one * other).any() for one, other in combinations(coverages, 2))


@pytest.mark.slow
def test_distances_of_the_oracle_are_those_from_rendered_scenes(level):
    """Compare with rendered scenes, pixel by pixel."""
    shapes, oracle = ShapesDataset(16, level=level), ShapesOracle(16, level=level)
    subset = [list_scenes(level)[k] for k in range(0, LEVELS[level], LEVELS[level] // 60)]
    indices = [oracle.scenes.index(scene) for scene in subset]
    clean = torch.from_numpy(np.stack([render_scene(scene, 16)[0] for scene in subset])).float()
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:3] = shapes.images_of([0, 1, len(shapes) - 1])
    expected = (images[:, None] - clean).square().sum(dim=(2, 3, 4))
    assert_close(oracle.distances(images)[:, indices], expected, atol=1e-2, rtol=1e-4)


def test_the_oracle_classifies_real_images(level):
    shapes, oracle = ShapesDataset(32, level=level), ShapesOracle(32, level=level)
    captions = np.random.default_rng(0).integers(len(shapes), size=120).tolist()
    predicted = oracle.classify(shapes.images_of(captions))
    is_right = [oracle.scenes[i] == shapes.scene(caption) for i, caption in zip(predicted, captions, strict=True)]
    assert np.mean(is_right) > 0.97


def test_the_oracle_raises_on_images_of_another_size_and_on_nan():
    with pytest.raises(ValueError, match=r"of shape \(N, 3, 32, 32\); got \(1, 3, 16, 16\)"):
        ShapesOracle(32).classify(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="NaN"):
        ShapesOracle(16).classify(torch.full((1, 3, 16, 16), torch.nan))


@pytest.mark.parametrize("by", ["object", "scene"])
@pytest.mark.parametrize("seed", range(3))
def test_every_single_value_stays_in_training(level, by, seed):
    train, held_out = ShapesDataset(32, level=level).split(0.15, by=by, seed=seed)
    assert len(train) + len(held_out) == LEVELS[level]
    counts = check_scene_split(train.scenes, held_out.scenes)
    assert all(trained for values in counts.values() for trained, _ in values.values())


def test_held_out_objects_are_never_trained_on():
    train, held_out = ShapesDataset(32, level="2").split(0.15)
    known = {each for scene in train.scenes for each in scene.objects}
    assert all(any(each not in known for each in scene.objects) for scene in held_out.scenes)
    assert len(known) == 48 - 7


def test_held_out_objects_are_spread_over_the_values():
    _, held_out = ShapesDataset(32).split(0.15)
    pairs = {each[:2] for scene in held_out.scenes for each in scene.objects}
    assert max(Counter(colour for colour, _ in pairs).values()) == 1
    assert max(Counter(shape for _, shape in pairs).values()) == 2


def test_a_split_without_rings_in_training_raises():
    every = list_scenes("1")
    train = [scene for scene in every if scene.objects[0].shape != "ring"]
    held_out = [scene for scene in every if scene.objects[0].shape == "ring"]
    with pytest.raises(ValueError, match="The shape 'ring' is in 80 held-out scenes and in none of the 400"):
        check_scene_split(train, held_out)


def test_a_scene_on_both_sides_raises():
    with pytest.raises(ValueError, match="both in the training and the held-out part"):
        check_scene_split(list_scenes("1"), list_scenes("1")[:1])


def test_holding_out_too_many_objects_raises():
    with pytest.raises(ValueError, match="Hold out a smaller fraction"):
        ShapesDataset(32).split(0.8)


def test_explained_variance_ratios_of_a_sum_are_those_of_its_parts():
    """Two independent binary attributes that move one pixel by 1 and by 2: variances 1/4 and 1."""
    first, second = torch.arange(8) % 2, torch.arange(8) // 2 % 2
    images = (first + 2.0 * second).view(8, 1, 1, 1)
    ratios = explained_variance_ratio(images, {"first": first.tolist(), "second": second.tolist()})
    assert ratios == pytest.approx({"first": 0.2, "second": 0.8})


def test_the_background_explains_most_of_the_variance_at_level_1b():
    shapes = ShapesDataset(16, level="1b")
    captions = np.random.default_rng(0).integers(len(shapes), size=600).tolist()
    labels = {name: [shapes.scene(c).attributes[name] for c in captions] for name in ("background", "shape")}
    ratios = explained_variance_ratio(shapes.images_of(captions), labels)
    assert ratios["background"] > 0.8
    assert ratios["shape"] < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 8}, "at least 16"),
        ({"level": "3"}, "level of shapes must be one of .*; got '3'"),
        ({"phrasings": (4,)}, "phrasings must be of 0 to 3"),
        ({"phrasings": ()}, "phrasings must be of 0 to 3"),
        ({"scenes": []}, "at least one scene of level"),
    ],
)
def test_an_argument_out_of_range_raises(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShapesDataset(**arguments)

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.rendering import compute_coverage, render_scene
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.scenes import LAYOUTS, SHAPES, Scene, ShapeObject, list_scenes
from lossmith.text_to_image.shapes.split import check_scene_split, explained_variance_ratio

LEVELS = {"1": 480, "1b": 1440, "2": 4656}


@pytest.fixture(scope="module", params=LEVELS)
def level(request):
    return request.param


@pytest.mark.parametrize("phrasings", [(0,), (0, 1, 2, 3)])
def test_every_scene_has_captions_of_its_own(level, phrasings):
    shapes = ShapesDataset(32, level=level, phrasings=phrasings)
    assert len(shapes.captions) == len(set(shapes.captions)) == LEVELS[level] * len(phrasings)


@pytest.mark.parametrize("level", LEVELS)
def test_phrases_name_each_thing(level):
    shapes = ShapesDataset(32, level=level, phrasings=(0, 1, 2, 3))
    for number in range(0, len(shapes), 97):
        caption, scene = shapes.captions[number], shapes.scene(number)
        assert len(shapes.phrases[number]) == len(scene.things)
        for thing, (start, end) in zip(scene.things, shapes.phrases[number], strict=True):
            assert thing.colour in caption[start:end]
            assert thing.shape in caption[start:end]


def test_both_relations_say_the_same():
    shapes = ShapesDataset(
        32, level="2", phrasings=(0, 1), of=[Scene((ShapeObject("red", "star"), ShapeObject("blue", "ring")), "stacked")]
    )
    assert shapes.captions == ["a red star above a blue ring", "a blue ring below a red star"]
    assert shapes.meanings[0] == shapes.meanings[1]


@pytest.mark.parametrize(("level", "number", "count"), [("1", 0, 17), ("1b", 0, 19), ("2", 100, 27), ("2", -1, 14)])
def test_neighbours_differ_in_one_thing(level, number, count):
    """Level 1: 7 colours, 5 shapes, a size, 4 places. A pair: 2 (7 + 5), a relation, and two exchanges."""
    every = set(list_scenes(level))
    scene = list_scenes(level)[number]
    found = [other for other in scene.neighbours if other in every]
    assert len(found) == len(set(found)) == count
    assert scene not in found
    assert all(scene in other.neighbours for other in found)


def test_an_orange_one_has_its_article():
    scene = Scene((ShapeObject("orange", "star"), ShapeObject("blue", "ring")), "beside")
    assert ShapesDataset(32, level="2", of=[scene]).captions == ["an orange star to the left of a blue ring"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [32, 64])
def test_a_mask_covers_the_area_that_the_outline_encloses(shape, side):
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
def test_clean_things_do_not_overlap(layout, shape):
    """Together they cover as much as each by itself, which is what the oracle's sum of gains rests on."""
    shares = [compute_coverage(ShapeObject("red", shape), place, 32, np.zeros(7)) for place in LAYOUTS[layout]]
    assert not any((one * other).any() for one, other in combinations(shares, 2))


def test_the_oracle_is_the_nearest_clean_drawing_of_all(level):
    """Against drawing each scene and comparing pixel by pixel."""
    shapes, oracle = ShapesDataset(16, level=level), ShapesOracle(16, level=level)
    some = [list_scenes(level)[k] for k in range(0, LEVELS[level], LEVELS[level] // 60)]
    numbers = [oracle.scenes.index(scene) for scene in some]
    clean = torch.from_numpy(np.stack([render_scene(scene, 16)[0] for scene in some])).float()
    pictures = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    pictures[:3] = shapes.pictures([0, 1, len(shapes) - 1])
    wanted = (pictures[:, None] - clean).square().sum(dim=(2, 3, 4))
    assert_close(oracle.distances(pictures)[:, numbers], wanted, atol=1e-2, rtol=1e-4)


def test_the_oracle_reads_real_pictures(level):
    shapes, oracle = ShapesDataset(32, level=level), ShapesOracle(32, level=level)
    captions = np.random.default_rng(0).integers(len(shapes), size=120).tolist()
    read = oracle.read(shapes.pictures(captions))
    right = [oracle.scenes[number] == shapes.scene(caption) for number, caption in zip(read, captions, strict=True)]
    assert np.mean(right) > 0.97


def test_the_oracle_refuses_what_it_cannot_read():
    with pytest.raises(ValueError, match=r"reads pictures \(N, 3, 32, 32\); got \(1, 3, 16, 16\)"):
        ShapesOracle(32).read(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="NaN"):
        ShapesOracle(16).read(torch.full((1, 3, 16, 16), torch.nan))


@pytest.mark.parametrize("by", ["thing", "scene"])
@pytest.mark.parametrize("seed", range(3))
def test_every_single_value_stays_in_training(level, by, seed):
    train, held = ShapesDataset(32, level=level).split(0.15, by=by, seed=seed)
    assert len(train) + len(held) == LEVELS[level]
    counts = check_scene_split(train.scenes, held.scenes)
    assert all(trained for values in counts.values() for trained, _ in values.values())


def test_held_out_things_are_never_trained_on():
    train, held = ShapesDataset(32, level="2").split(0.15)
    known = {thing for scene in train.scenes for thing in scene.things}
    assert all(any(thing not in known for thing in scene.things) for scene in held.scenes)
    assert len(known) == 48 - 7


def test_held_out_things_are_spread_over_the_values():
    _, held = ShapesDataset(32).split(0.15)
    things = {thing[:2] for scene in held.scenes for thing in scene.things}
    assert max(Counter(colour for colour, _ in things).values()) == 1
    assert max(Counter(shape for _, shape in things).values()) == 2


def test_a_split_without_rings_in_training_is_refused():
    every = list_scenes("1")
    train = [scene for scene in every if scene.things[0].shape != "ring"]
    held = [scene for scene in every if scene.things[0].shape == "ring"]
    with pytest.raises(ValueError, match="The shape 'ring' is in 80 held-out scenes and in none of the 400"):
        check_scene_split(train, held)


def test_a_scene_on_both_sides_is_refused():
    with pytest.raises(ValueError, match="both trained on and held out"):
        check_scene_split(list_scenes("1"), list_scenes("1")[:1])


def test_too_much_cannot_be_held_out():
    with pytest.raises(ValueError, match="Hold out a smaller share"):
        ShapesDataset(32).split(0.8)


def test_variance_shares_of_a_sum_are_those_of_its_parts():
    """Two independent binary attributes that move one pixel by 1 and by 2: variances 1/4 and 1."""
    first, second = torch.arange(8) % 2, torch.arange(8) // 2 % 2
    pictures = (first + 2.0 * second).view(8, 1, 1, 1)
    shares = explained_variance_ratio(pictures, {"first": first.tolist(), "second": second.tolist()})
    assert shares == pytest.approx({"first": 0.2, "second": 0.8})


def test_the_ground_hides_all_else_at_level_1b():
    shapes = ShapesDataset(16, level="1b")
    captions = np.random.default_rng(0).integers(len(shapes), size=600).tolist()
    labels = {name: [shapes.scene(c).attributes[name] for c in captions] for name in ("background", "shape")}
    shares = explained_variance_ratio(shapes.pictures(captions), labels)
    assert shares["background"] > 0.8
    assert shares["shape"] < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 8}, "at least 16 px"),
        ({"level": "3"}, "levels 1, 1b, 2 of shapes; got '3'"),
        ({"phrasings": (4,)}, "phrasings 0 to 3"),
        ({"phrasings": ()}, "phrasings 0 to 3"),
        ({"of": []}, "some scenes of its level"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShapesDataset(**arguments)

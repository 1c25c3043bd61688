"""Figures of sets of pictures that were made from captions."""

import math

import pytest
import torch

from lossmith.metrics import compute_image_features
from lossmith.text_to_image.metrics.diversity import diversity, memorisation, vendi_score
from lossmith.text_to_image.metrics.kernel_distance import squared_mmd, kid
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy, oracle_ceiling, oracle_chance
from lossmith.text_to_image.metrics.r_precision import sample_mismatched_captions, r_precision
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.scenes import Scene, ShapeObject


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def oracle():
    return ShapesOracle(16)


@pytest.fixture(scope="module")
def two():
    return ShapesDataset(16, level="2"), ShapesOracle(16, level="2")


def test_clean_pictures_are_right_in_everything(oracle):
    shapes = ShapesDataset(16)
    captions = list(range(0, 480, 31))
    pictures = torch.stack([shapes.drawn(caption).picture for caption in captions])
    accuracy = oracle_accuracy(oracle, pictures, [shapes.scene(caption) for caption in captions])
    assert accuracy == dict.fromkeys(("colour", "shape", "size", "position", "joint"), 1.0)


def test_chance_is_one_over_the_number_of_values(oracle):
    chance = oracle_chance(oracle, ShapesDataset(16).scenes[:7])
    assert chance == pytest.approx(
        {"colour": 1 / 8, "shape": 1 / 6, "size": 1 / 2, "position": 1 / 5, "joint": 1 / 480}
    )


def test_chance_is_what_random_pictures_get(two):
    shapes, oracle = two
    wanted = shapes.scenes[::40]
    captions = torch.randint(len(shapes), (len(wanted),), generator=torch.Generator().manual_seed(0)).tolist()
    found = oracle_accuracy(oracle, shapes.pictures(captions), wanted)
    for name, chance in oracle_chance(oracle, wanted).items():
        assert abs(found[name] - chance) < 4 * math.sqrt(chance * (1 - chance) / len(wanted)) + 1e-9


def test_exchanged_colours_break_the_binding_alone(two):
    shapes, oracle = two
    wanted = Scene((ShapeObject("red", "ring"), ShapeObject("blue", "star")), "beside")
    mixed = Scene((ShapeObject("blue", "ring"), ShapeObject("red", "star")), "beside")
    picture = shapes.drawn(shapes.scenes.index(mixed)).picture[None]
    accuracy = oracle_accuracy(oracle, picture, [wanted])
    assert accuracy == {"colours": 1, "shapes": 1, "binding": 0, "count": 1, "arrangement": 1, "joint": 0}


def test_real_pictures_are_nearly_all_read(oracle):
    assert oracle_ceiling(oracle, ShapesDataset(16), count=100)["position"] > 0.95


def test_a_picture_without_a_scene_is_refused(oracle):
    with pytest.raises(ValueError, match="one scene a picture; got 2 pictures and 1 scenes"):
        oracle_accuracy(oracle, torch.zeros(2, 3, 16, 16), ShapesDataset(16).scenes[:1])


def test_offered_captions_are_of_other_meanings():
    meanings = [k // 2 for k in range(60)]
    rows = sample_mismatched_captions(meanings, range(60), count=20)
    assert all(row[0] == k and len(row) == 21 for k, row in enumerate(rows))
    assert all(len({meanings[each] for each in row}) == 21 for row in rows)


def test_a_blind_judge_gets_chance():
    offered = sample_mismatched_captions(range(500), range(500), count=9)
    found = r_precision(drawn(500, 16), drawn(500, 16, seed=1), offered)
    assert found.chance == 0.1
    assert abs(found.value - 0.1) < 4 * found.error


def test_a_judge_that_sees_no_difference_is_wrong():
    assert r_precision(torch.ones(4, 3), torch.ones(9, 3), sample_mismatched_captions(range(9), range(4), count=3)).value == 0


def test_one_meaning_alone_is_refused():
    with pytest.raises(ValueError, match="at least two meanings"):
        sample_mismatched_captions([3, 3, 3], [0])


@pytest.mark.parametrize(
    ("pictures", "offered", "message"),
    [
        (2, [[0, 1]], "one row of captions a picture"),
        (1, [[0]], "two captions or more"),
        (0, [], "one row of captions"),
    ],
)
def test_captions_that_do_not_fit_are_refused(pictures, offered, message):
    with pytest.raises(ValueError, match=message):
        r_precision(torch.ones(pictures, 3), torch.ones(4, 3), offered)


def test_kid_is_its_definition_pair_by_pair():
    """torchmetrics' poly_mmd(degree=3, gamma=None, coef=1.0) gives the same to nine digits."""
    x, y = drawn(12, 5).double(), 0.5 + drawn(12, 5, seed=1).double()

    def kernel(a, b):
        return float((a @ b / 5 + 1) ** 3)

    own = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(12) for j in range(12) if i != j) / (12 * 11)
    across = sum(kernel(a, b) for a in x for b in y) / 12**2
    assert squared_mmd(x, y) == pytest.approx(own - 2 * across)


def test_kid_of_one_distribution_is_nothing_but_noise():
    found = kid(drawn(300, 8), drawn(300, 8, seed=1), size=100)
    assert abs(found.value) < 2 * found.deviation


def test_kid_grows_with_the_shift():
    x, y = drawn(200, 8), drawn(200, 8, seed=1)
    values = [kid(x, y + shift, subsets=10).value for shift in (0.0, 0.5, 1.0)]
    assert values == sorted(values) and values[2] > 10 * abs(values[0])


def test_kid_of_too_few_pictures_is_refused():
    with pytest.raises(ValueError, match="at least 4 pictures a set"):
        kid(drawn(3, 8), drawn(300, 8))


def test_vendi_counts_kinds():
    kinds = torch.eye(5)[torch.arange(20) % 5]
    assert vendi_score(kinds) == pytest.approx(5)


def test_diversity_is_taken_within_each_prompt():
    alike = drawn(6, 1, 4).expand(6, 3, 4)  # the prompts differ, the pictures of each do not
    assert diversity(alike) == pytest.approx({"distance": 0, "vendi": 1}, abs=1e-5)


def test_the_distance_is_the_mean_over_pairs():
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]]])
    assert diversity(points)["distance"] == pytest.approx((5 + 8 + 5) / 3)


def test_one_picture_a_prompt_has_no_diversity():
    with pytest.raises(ValueError, match="at least two pictures"):
        diversity(torch.zeros(4, 1, 3))


def test_copies_are_found():
    train, held = drawn(200, 6), drawn(50, 6, seed=1)
    found = memorisation(train[:40] + 1e-4, train, held)
    assert found["copies"] == 1
    assert found["ratio"] < 0.9


def test_new_pictures_of_the_distribution_are_no_copies():
    found = memorisation(drawn(200, 6, seed=2), drawn(400, 6), drawn(100, 6, seed=1))
    assert found["ratio"] == pytest.approx(1, abs=0.1)
    assert found["copies"] < 0.05


def test_features_are_those_of_the_embedded_network():
    features, digest = compute_image_features(ShapesDataset(16).pictures([0, 100]))
    assert features.shape == (2, 352)
    assert len(digest) == 64
    assert (features[0] - features[1]).norm() > 0.1

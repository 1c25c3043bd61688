import itertools
import random

import pytest
from PIL import Image, ImageChops

from lossmith.report.plane import BEGUN, OTHERS, OURS, Dot, Panel, plane, stairs
from lossmith.report.svg import LINE, common, placed

FRAME = (0.0, 0.0, 400.0, 300.0)


def crowd(seed, count=12):
    chance = random.Random(seed)
    points = [(chance.uniform(100, 300), chance.uniform(60, 240)) for _ in range(count)]
    return points, [(chance.uniform(20, 60), 11.0) for _ in range(count)]


def marks(points, r=4):
    return [(x - r, y - r, x + r, y + r) for x, y in points]


@pytest.mark.parametrize("seed", range(5))
def test_labels_stand_on_no_point_on_no_other_label_and_in_the_frame(seed):
    points, sizes = crowd(seed)
    boxes = placed(points, sizes, FRAME, taken := marks(points), gap=7)
    assert all(common(one, other) == 0 for one, other in itertools.combinations([*boxes, *taken], 2) if one in boxes)
    assert all(0 <= left < right <= 400 and 0 <= top < bottom <= 300 for left, top, right, bottom in boxes)


def test_a_label_stands_to_the_right_of_its_point_where_there_is_room():
    assert placed([(50, 50)], [(30, 10)], FRAME, marks([(50, 50)]), gap=7) == [(57, 45, 87, 55)]


def test_at_the_right_edge_it_stands_to_the_left():
    assert placed([(390, 50)], [(30, 10)], FRAME, [], gap=7) == [(353, 45, 383, 55)]


def test_a_label_that_may_be_left_out_is_where_there_is_no_room():
    points, sizes = [(20, 10)] * 3, [(30.0, 12.0)] * 3
    small = (0, 0, 60, 20)
    assert placed(points, sizes, small, [], gap=7, spare={0, 1, 2}).count(None) == 2
    assert None not in placed(points, sizes, small, [], gap=7)


def test_the_labels_that_must_stand_come_first():
    first, second = placed([(20, 10), (20, 10)], [(30.0, 12.0)] * 2, (0, 0, 60, 20), [], gap=7, spare={0})
    assert first is None and second == (27, 4, 57, 16)


def test_a_front_bounds_what_lies_below_and_left_of_it():
    assert stairs([(10, 50), (30, 80)]) == [(30, 80), (10, 80), (10, 50)]  # places: right is more, up is less
    assert stairs([(1, 2)]) == [(1, 2)] and stairs([]) == []


def painted(path, colour):
    """The places of the pixels of a colour."""
    with Image.open(path) as image:
        image.load()
    return [divmod(i, image.width)[::-1] for i, pixel in enumerate(image.get_flattened_data()) if pixel == colour]


def test_what_is_better_stands_further_right_and_further_up(tmp_path):
    worse, better = Dot(28.0, 0.4, colour=OTHERS), Dot(29.0, 0.2, colour=OURS)
    file = plane([Panel("x4", [worse, better])], tmp_path / "plane.png")
    (left, low), (right, high) = (painted(file, dot.colour)[0] for dot in (worse, better))
    assert left < right and high < low  # rows are counted from above


def test_each_panel_stands_beside_the_others(tmp_path):
    one, other = (Panel(name, [Dot(20.0 + i, 0.7, "bicubic", LINE, ring=True)]) for i, name in enumerate("ab"))
    plane([one], tmp_path / "one.png")
    plane([one, other], tmp_path / "both.png")
    with Image.open(tmp_path / "both.png") as both, Image.open(tmp_path / "one.png") as alone:
        assert both.width == 2 * alone.width
        assert both.crop((0, 0, *alone.size)).tobytes() == alone.tobytes()


def test_an_arrow_leads_from_one_point_to_the_other(tmp_path):
    begun, became = Dot(28.0, 0.4, "start", BEGUN, hollow=True), Dot(29.0, 0.2, "", BEGUN)
    plain = plane([Panel("x4", [begun, became])], tmp_path / "plain.png")
    led = plane([Panel("x4", [begun, became], arrows=[(begun, became)])], tmp_path / "led.png")
    with Image.open(plain) as first, Image.open(led) as second:
        left, top, right, bottom = ImageChops.difference(first, second).getbbox()
    assert (right - left) > 300 and (bottom - top) > 200  # from one corner of the plane to the other


def test_no_nearer_place_is_lost_to_a_rounding_error():
    chance = random.Random(0)
    points = [(chance.uniform(50, 300), chance.uniform(50, 250)) for _ in range(200)]
    boxes = [placed([point], [(9.6, 18.1)], FRAME, [], gap=7.5)[0] for point in points]
    assert [left for left, *_ in boxes] == [x + 7.5 for x, _ in points]

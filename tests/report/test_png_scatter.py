import itertools
import random

import pytest
from PIL import Image, ImageChops

from lossmith.report.plot.labels import overlap_area, place_labels
from lossmith.report.plot.png import LINE
from lossmith.report.plot.png_scatter import (
    HIGHLIGHT,
    MUTED,
    SECOND_HIGHLIGHT,
    ScatterPanel,
    ScatterPoint,
    draw_scatter,
    staircase,
)

FRAME = (0.0, 0.0, 400.0, 300.0)


def random_labels(seed, count=12):
    """Return points and sizes of labels."""
    rng = random.Random(seed)
    points = [(rng.uniform(100, 300), rng.uniform(60, 240)) for _ in range(count)]
    return points, [(rng.uniform(20, 60), 11.0) for _ in range(count)]


def marks(points, r=4):
    return [(x - r, y - r, x + r, y + r) for x, y in points]


@pytest.mark.parametrize("seed", range(5))
def test_labels_overlap_neither_points_nor_each_other_and_lie_in_the_frame(seed):
    points, sizes = random_labels(seed)
    boxes = place_labels(points, sizes, FRAME, occupied := marks(points), gap=7)
    pairs = itertools.combinations([*boxes, *occupied], 2)
    assert all(overlap_area(one, other) == 0 for one, other in pairs if one in boxes)
    assert all(0 <= left < right <= 400 and 0 <= top < bottom <= 300 for left, top, right, bottom in boxes)


def test_a_label_stands_to_the_right_of_its_point_if_there_is_space():
    assert place_labels([(50, 50)], [(30, 10)], FRAME, marks([(50, 50)]), gap=7) == [(57, 45, 87, 55)]


def test_a_label_at_the_right_edge_stands_to_the_left():
    assert place_labels([(390, 50)], [(30, 10)], FRAME, [], gap=7) == [(353, 45, 383, 55)]


def test_an_optional_label_is_left_out_if_there_is_no_space():
    points, sizes = [(20, 10)] * 3, [(30.0, 12.0)] * 3
    small = (0, 0, 60, 20)
    assert place_labels(points, sizes, small, [], gap=7, optional={0, 1, 2}).count(None) == 2
    assert None not in place_labels(points, sizes, small, [], gap=7)


def test_required_labels_are_placed_first():
    first, second = place_labels([(20, 10), (20, 10)], [(30.0, 12.0)] * 2, (0, 0, 60, 20), [], gap=7, optional={0})
    assert first is None and second == (27, 4, 57, 16)


def test_no_nearer_position_is_lost_to_a_rounding_error():
    rng = random.Random(0)
    points = [(rng.uniform(50, 300), rng.uniform(50, 250)) for _ in range(200)]
    boxes = [place_labels([point], [(9.6, 18.1)], FRAME, [], gap=7.5)[0] for point in points]
    assert [left for left, *_ in boxes] == [x + 7.5 for x, _ in points]


def test_a_staircase_bounds_the_region_below_and_to_the_left():
    assert staircase([(10, 50), (30, 80)]) == [(30, 80), (10, 80), (10, 50)]  # x grows to the right, y downwards
    assert staircase([(1, 2)]) == [(1, 2)] and staircase([]) == []


def pixels_of(path, colour):
    """Return the positions of the pixels of a colour."""
    with Image.open(path) as image:
        image.load()
    return [divmod(i, image.width)[::-1] for i, pixel in enumerate(image.get_flattened_data()) if pixel == colour]


def test_a_better_network_is_further_right_and_further_up(tmp_path):
    worse, better = ScatterPoint(28.0, 0.4, colour=MUTED), ScatterPoint(29.0, 0.2, colour=HIGHLIGHT)
    file = draw_scatter([ScatterPanel("x4", [worse, better])], tmp_path / "scatter.png")
    (left, low), (right, high) = (pixels_of(file, point.colour)[0] for point in (worse, better))
    assert left < right and high < low  # rows are counted from the top


def test_panels_stand_side_by_side(tmp_path):
    panels = [
        ScatterPanel(name, [ScatterPoint(20.0 + i, 0.7, "bicubic", LINE, has_ring=True)]) for i, name in enumerate("ab")
    ]
    draw_scatter(panels[:1], tmp_path / "one.png")
    draw_scatter(panels, tmp_path / "both.png")
    with Image.open(tmp_path / "both.png") as both, Image.open(tmp_path / "one.png") as one:
        assert both.width == 2 * one.width
        assert both.crop((0, 0, *one.size)).tobytes() == one.tobytes()


def test_an_arrow_leads_from_one_point_to_the_other(tmp_path):
    begin = ScatterPoint(28.0, 0.4, "start", SECOND_HIGHLIGHT, is_hollow=True)
    end = ScatterPoint(29.0, 0.2, "", SECOND_HIGHLIGHT)
    without = draw_scatter([ScatterPanel("x4", [begin, end])], tmp_path / "without.png")
    with_arrow = draw_scatter([ScatterPanel("x4", [begin, end], arrows=[(begin, end)])], tmp_path / "with.png")
    with Image.open(without) as first, Image.open(with_arrow) as second:
        left, top, right, bottom = ImageChops.difference(first, second).getbbox()
    assert (right - left) > 300 and (bottom - top) > 200  # from one corner of the plot to the other

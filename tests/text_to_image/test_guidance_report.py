import itertools
import json
import random
import re

import pytest

from lossmith.report import write_report
from lossmith.report.folder import read_run
from lossmith.report.plot.labels import overlap_area
from lossmith.report.plot.svg import LEFT, RIGHT
from lossmith.text_to_image.report.caption_evaluations import CaptionEvaluation
from lossmith.text_to_image.report.guidance_plot import plot_guidance

NONE = "\u2013"
LEVELS = {"chance": {"r_precision": 0.01}, "ceiling": {"r_precision": 0.43}, "floor": {"value": 0.002}}
CURVE = ((1, 0.14, 0.06), (2, 0.16, 0.055), (3, 0.15, 0.067), (5, 0.13, 0.1))


def row(weight, aligned, kid, name="r_precision", **more):
    return {"guidance": weight, name: aligned, "kid": {"value": kid, "deviation": 0.005}} | more


def record(curve=CURVE, **more):
    return {"n": 256, "features": "ab", **LEVELS, "guidance": [row(*each) for each in curve]} | more


@pytest.fixture
def appraised(tmp_path):
    """A maker of runs with figures on captions."""

    def make(found, name="run", colour=0):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"loss": "imagen", "task": "text-to-image"}')
        (folder / "captions.json").write_text(json.dumps(found))
        return CaptionEvaluation(read_run(folder), colour, found)

    return make


@pytest.fixture
def section(tmp_path, appraised):
    """The section of the page of some runs."""

    def make(*records):
        runs = [appraised(each, f"run {k}").run.folder for k, each in enumerate(records)]
        text = write_report(runs, tmp_path / "page.html").read_text(encoding="utf-8")
        found = re.search(r"<section><h2>Guidance</h2>.*?</section>", text, re.DOTALL)
        return found[0] if found else ""

    return make


def spots(drawing):
    """The places of the points."""
    found = re.findall(r'<circle class="spot c\d" cx="([\d.]+)" cy="([\d.]+)"', drawing)
    return [(float(x), float(y)) for x, y in found]


def cells(text, head):
    """A row of the table."""
    line = re.search(rf"<tr><th>{head}</th>(.*?)</tr>", text)
    return re.findall(r"<td>(.*?)</td>", line[1])


def test_the_points_are_joined_in_the_order_of_the_weights(appraised):
    drawing = plot_guidance([appraised(record([CURVE[2], CURVE[0], CURVE[3], CURVE[1]]))])
    assert re.findall(r'class="label c0"[^>]*>([^<]*)', drawing) == ["1", "2", "3", "5"]
    joined = re.search(r'class="line c0" d="M([^"]*)"', drawing)[1]
    assert [tuple(map(float, place.split())) for place in joined.split("L")] == spots(drawing)


def test_more_alignment_is_further_right_and_less_distance_further_up(appraised):
    (left, low), (right, high) = spots(plot_guidance([appraised(record([(1, 0.2, 0.09), (2, 0.3, 0.05)]))]))
    assert left < right and high < low  # rows are counted from above


def test_one_weight_is_a_point_without_a_line_between_ceiling_and_chance(appraised):
    drawing = plot_guidance([appraised(record(CURVE[:1]))])
    assert len(spots(drawing)) == 1
    assert 'class="line' not in drawing
    chance, point, ceiling = sorted([spots(drawing)[0][0], *uprights(drawing)])
    assert chance < point == spots(drawing)[0][0] < ceiling


def uprights(drawing):
    """Where levels stand across the plot."""
    return [float(x) for x, other in re.findall(r'class="level" x1="([\d.]+)" x2="([\d.]+)"', drawing) if x == other]


def test_ceiling_chance_and_the_distance_of_real_pictures_are_marked(appraised):
    drawing = plot_guidance([appraised(record())])
    assert re.findall(r'class="tick"[^>]*>([^<]*[a-z][^<]*)<', drawing) == [
        "ceiling 0.430",
        "chance 0.010",
        "KID of real pictures 0.0020",
    ]
    ceiling, chance = uprights(drawing)
    assert chance < min(x for x, _ in spots(drawing)) < max(x for x, _ in spots(drawing)) < ceiling
    (floor,) = re.findall(rf'class="level" x1="{LEFT}" x2="{RIGHT}" y1="([\d.]+)"', drawing)
    assert float(floor) < min(y for _, y in spots(drawing))


def test_a_level_that_would_flatten_the_curve_stands_at_the_edge(appraised):
    curve = [(1, 0.94, 0.011), (2, 0.96, 0.0102), (3, 0.97, 0.012)]
    levels = {"chance": {"r_precision": 0.01}, "ceiling": {"r_precision": 0.99}}
    drawing = plot_guidance([appraised(record(curve, n=10_000, **levels))])
    assert "← chance 0.010" in drawing and "ceiling 0.990<" in drawing
    assert len(uprights(drawing)) == 1
    assert spots(drawing)[2][0] - spots(drawing)[0][0] > (RIGHT - LEFT) / 4


def test_the_bars_are_a_standard_error_and_the_deviation(appraised):
    (point,) = appraised(record([(1, 0.25, 0.06)], n=48)).points
    assert point.error == pytest.approx(0.0625)  # the root of 1/4 * 3/4 / 48
    assert point.deviation == 0.005


def written(drawing):
    """The box of each label in the plot, as wide as its letters are on average in a bold face of 12 units."""
    texts = r'<text class="(?:label c\d|tick)" x="([\d.]+)" y="([\d.]+)" text-anchor="(start|middle|end)">([^<]*)<'
    shift = {"start": 0, "middle": 0.5, "end": 1}
    boxes = []
    for x, y, anchor, text in re.findall(texts, drawing):
        if float(x) > LEFT and float(y) < 270:  # the figures of the axes stand outside
            left = float(x) - shift[anchor] * (wide := 7.6 * len(text))
            boxes.append((left, float(y) - 9, left + wide, float(y) + 1))
    return boxes


@pytest.mark.parametrize("seed", range(6))
def test_labels_overlap_neither_each_other_nor_a_point(appraised, seed):
    chance = random.Random(seed)
    members = []
    for k in range(3):
        a, b = chance.uniform(0.1, 0.3), chance.uniform(0.03, 0.08)
        curve = [(w, a + chance.uniform(0, 0.06), b + chance.uniform(0, 0.04)) for w in (1, 1.5, 2, 3, 5)]
        members.append(appraised(record(curve), f"run {k}", k))
    drawing = plot_guidance(members)
    boxes, points = written(drawing), [(x - 4, y - 4, x + 4, y + 4) for x, y in spots(drawing)]
    assert len(boxes) == 15 + 3 and len(points) == 15
    assert all(overlap_area(one, other) == 0 for one, other in itertools.combinations(boxes, 2))
    assert all(overlap_area(box, point) == 0 for box in boxes for point in points)


def test_of_shapes_the_oracle_is_drawn_even_beside_a_judge(section):
    rows = [row(1, 0.4, 0.05, "joint", r_precision=0.3), row(2, 0.5, 0.04, "joint", r_precision=0.2)]
    text = section({"n": 96, "chance": {"colour": 0.1, "joint": 0.002, "r_precision": 0.01}, "guidance": rows})
    assert "<b>KID against pictures that show all of their caption</b>" in text
    assert text.count("<figure") == 1
    assert "The share that shows all of its caption is highest at guidance 2 (0.500)" in text


def test_without_a_judge_the_table_stands_and_says_how_to_have_one(section):
    text = section({"n": 8, "floor": {"value": 0.01}, "guidance": [{"guidance": 1.0, "kid": {"value": 0.5}}]})
    assert "<figure" not in text
    assert "lossmith evaluate RUN --captions DIR --judge FILE" in text
    assert cells(text, "1")[0] == "0.5000"


def test_without_kid_no_curve_is_drawn(section):
    text = section(record() | {"guidance": [{"guidance": 1, "r_precision": 0.2}]})
    assert "<figure" not in text
    assert "No curve is drawn, because KID was not measured." in text
    assert cells(text, "1")[:2] == ["0.200", NONE]


def test_a_weight_with_a_missing_figure_is_left_out_of_the_curve_and_named(section):
    rows = record()["guidance"]
    del rows[1]["kid"]
    rows[2]["r_precision"] = None
    text = section(record(guidance=rows))
    assert re.findall(r'class="label c0"[^>]*>([^<]*)', text) == ["1", "5"]
    assert "not both axes were measured: guidance 2, 3." in text
    assert cells(text, "3")[:2] == [NONE, "0.0670"]


def test_an_old_record_without_counts_deviations_and_memorisation_is_drawn(section):
    rows = [{"guidance": w, "joint": a, "kid": {"value": k}} for w, a, k in CURVE]
    text = section({"chance": {"joint": 0.01}, "guidance": rows})
    assert len(spots(text)) == 4
    assert "The bars" not in text and "train/held:" not in text
    assert cells(text, "5") == ["0.130", "0.1000", NONE, NONE, NONE]


def test_the_table_says_how_near_samples_lie_to_what_was_trained_on(section):
    more = {"diversity": {"vendi": 1.1}, "memorisation": {"ratio": 0.947, "copies": 0.004}}
    text = section(record() | {"guidance": [row(1, 0.2, 0.06, **more)]})
    assert re.findall(r"<th>([^<]*)</th>", text)[:6] == [
        "guidance",
        "R-precision ↑",
        "KID ↓",
        "Vendi score ↑",
        "train/held → 1",
        "copies ↓",
    ]
    assert cells(text, "1") == ["0.200", "0.0600", "1.10", "0.95", "0.004"]


def test_runs_that_were_judged_alike_share_a_plane(section):
    text = section(record(), record([(w, a + 0.05, k) for w, a, k in CURVE]))
    assert text.count("<figure") == 1
    assert 'class="line c0"' in text and 'class="line c1"' in text
    assert ">5 run 0<" in text and ">5 run 1<" in text
    assert text.count("<table") == 2


@pytest.mark.parametrize("other", [{"features": "cd"}, {"n": 64}, {"floor": {"value": 0.004}}, {"held": "elsewhere"}])
def test_figures_that_were_taken_in_two_ways_share_no_plane(section, other):
    text = section(record(), record(**other))
    assert text.count("<figure") == 2
    assert "taken in different ways" in text


def test_the_figure_is_told_in_words(section):
    label = re.search(r'role="img" aria-label="([^"]*)"', section(record()))[1]
    assert label.startswith("KID against R-precision: run 0: guidance 1 gives 0.140 and 0.0600, guidance 2")


def test_what_must_be_known_of_the_captions_is_said(section):
    assert "Only if it was a." in section(record(remarks=["Only if it was a."]))


@pytest.mark.parametrize(
    "strange",
    [
        {"guidance": [7, None, {"guidance": float("nan")}, {"r_precision": "high", "kid": [1]}]},
        {"chance": [], "ceiling": 3, "floor": None, "n": "many", "remarks": 5, "features": {}},
        {"chance": {"<b>&": 1}, "remarks": ["<i>"]},
    ],
)
def test_strange_records_do_not_stop_the_page(section, strange):
    text = section(record(**strange))
    assert "<table" in text
    assert "<i>" not in text and "<th><b>" not in text


def test_a_record_of_no_weight_has_no_section(section):
    assert section(record(guidance=[])) == ""

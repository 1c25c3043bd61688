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
BOUNDS = {"chance": {"r_precision": 0.01}, "ceiling": {"r_precision": 0.43}, "floor": {"value": 0.002}}
CURVE = ((1, 0.14, 0.06), (2, 0.16, 0.055), (3, 0.15, 0.067), (5, 0.13, 0.1))


def make_row(scale, alignment, kid, name="r_precision", **more):
    return {"guidance": scale, name: alignment, "kid": {"value": kid, "std": 0.005}} | more


def make_record(curve=CURVE, **more):
    return {"n": 256, "features": "ab", **BOUNDS, "guidance": [make_row(*each) for each in curve]} | more


@pytest.fixture
def make_evaluation(tmp_path):
    """Return a function that writes a run with a caption evaluation."""

    def make(record, name="run", colour=0):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"loss": "imagen", "task": "text-to-image"}')
        (folder / "captions.json").write_text(json.dumps(record))
        return CaptionEvaluation(read_run(folder), colour, record)

    return make


@pytest.fixture
def section_of(tmp_path, make_evaluation):
    """Return a function that returns the section on guidance of the report of some runs."""

    def make(*records):
        runs = [make_evaluation(each, f"run {k}").run.folder for k, each in enumerate(records)]
        text = write_report(runs, tmp_path / "page.html").read_text(encoding="utf-8")
        found = re.search(r"<section><h2>Guidance</h2>.*?</section>", text, re.DOTALL)
        return found[0] if found else ""

    return make


def points_of(plot):
    """Return the positions of the points."""
    found = re.findall(r'<circle class="spot c\d" cx="([\d.]+)" cy="([\d.]+)"', plot)
    return [(float(x), float(y)) for x, y in found]


def vertical_lines(plot):
    """Return the positions of the vertical reference lines."""
    return [float(x) for x, other in re.findall(r'class="level" x1="([\d.]+)" x2="([\d.]+)"', plot) if x == other]


def cells_of(text, head):
    """Return the cells of a row of the table."""
    line = re.search(rf"<tr><th>{head}</th>(.*?)</tr>", text)
    return re.findall(r"<td>(.*?)</td>", line[1])


def test_points_are_connected_in_the_order_of_the_scales(make_evaluation):
    plot = plot_guidance([make_evaluation(make_record([CURVE[2], CURVE[0], CURVE[3], CURVE[1]]))])
    assert re.findall(r'class="label c0"[^>]*>([^<]*)', plot) == ["1", "2", "3", "5"]
    line = re.search(r'class="line c0" d="M([^"]*)"', plot)[1]
    assert [tuple(map(float, place.split())) for place in line.split("L")] == points_of(plot)


def test_better_points_are_further_right_and_further_up(make_evaluation):
    plot = plot_guidance([make_evaluation(make_record([(1, 0.2, 0.09), (2, 0.3, 0.05)]))])
    (left, low), (right, high) = points_of(plot)
    assert left < right and high < low  # rows are counted from the top


def test_one_scale_is_a_point_without_a_line_between_chance_and_ceiling(make_evaluation):
    plot = plot_guidance([make_evaluation(make_record(CURVE[:1]))])
    assert len(points_of(plot)) == 1
    assert 'class="line' not in plot
    chance, point, ceiling = sorted([points_of(plot)[0][0], *vertical_lines(plot)])
    assert chance < point == points_of(plot)[0][0] < ceiling


def test_ceiling_chance_and_the_kid_of_real_images_are_marked(make_evaluation):
    plot = plot_guidance([make_evaluation(make_record())])
    assert re.findall(r'class="tick"[^>]*>([^<]*[a-z][^<]*)<', plot) == [
        "ceiling 0.430",
        "chance 0.010",
        "KID of real images 0.0020",
    ]
    ceiling, chance = vertical_lines(plot)
    assert chance < min(x for x, _ in points_of(plot)) < max(x for x, _ in points_of(plot)) < ceiling
    (floor,) = re.findall(rf'class="level" x1="{LEFT}" x2="{RIGHT}" y1="([\d.]+)"', plot)
    assert float(floor) < min(y for _, y in points_of(plot))


def test_a_bound_that_would_flatten_the_curve_stands_at_the_edge(make_evaluation):
    curve = [(1, 0.94, 0.011), (2, 0.96, 0.0102), (3, 0.97, 0.012)]
    bounds = {"chance": {"r_precision": 0.01}, "ceiling": {"r_precision": 0.99}}
    plot = plot_guidance([make_evaluation(make_record(curve, n=10_000, **bounds))])
    assert "← chance 0.010" in plot and "ceiling 0.990<" in plot
    assert len(vertical_lines(plot)) == 1
    assert points_of(plot)[2][0] - points_of(plot)[0][0] > (RIGHT - LEFT) / 4


def test_a_point_has_a_standard_error_and_the_deviation_of_kid(make_evaluation):
    (point,) = make_evaluation(make_record([(1, 0.25, 0.06)], n=48)).points
    assert point.error == pytest.approx(0.0625)  # sqrt(1/4 * 3/4 / 48)
    assert point.kid_std == 0.005


def label_boxes(plot):
    """Return the box of each label in the plot, with the mean width of a letter in a bold face of 12 units."""
    texts = r'<text class="(?:label c\d|tick)" x="([\d.]+)" y="([\d.]+)" text-anchor="(start|middle|end)">([^<]*)<'
    shift = {"start": 0, "middle": 0.5, "end": 1}
    boxes = []
    for x, y, anchor, text in re.findall(texts, plot):
        if float(x) > LEFT and float(y) < 270:  # the tick labels are outside
            left = float(x) - shift[anchor] * (width := 7.6 * len(text))
            boxes.append((left, float(y) - 9, left + width, float(y) + 1))
    return boxes


@pytest.mark.parametrize("seed", range(6))
def test_labels_overlap_neither_each_other_nor_a_point(make_evaluation, seed):
    rng = random.Random(seed)
    evaluations = []
    for k in range(3):
        a, b = rng.uniform(0.1, 0.3), rng.uniform(0.03, 0.08)
        curve = [(scale, a + rng.uniform(0, 0.06), b + rng.uniform(0, 0.04)) for scale in (1, 1.5, 2, 3, 5)]
        evaluations.append(make_evaluation(make_record(curve), f"run {k}", k))
    plot = plot_guidance(evaluations)
    boxes, points = label_boxes(plot), [(x - 4, y - 4, x + 4, y + 4) for x, y in points_of(plot)]
    assert len(boxes) == 15 + 3 and len(points) == 15
    assert all(overlap_area(one, other) == 0 for one, other in itertools.combinations(boxes, 2))
    assert all(overlap_area(box, point) == 0 for box in boxes for point in points)


def test_the_oracle_of_shapes_takes_precedence_over_a_judge(section_of):
    rows = [make_row(1, 0.4, 0.05, "joint", r_precision=0.3), make_row(2, 0.5, 0.04, "joint", r_precision=0.2)]
    text = section_of({"n": 96, "chance": {"colour": 0.1, "joint": 0.002, "r_precision": 0.01}, "guidance": rows})
    assert "<b>KID against images that match their caption</b>" in text
    assert text.count("<figure") == 1
    assert "The fraction of images that match their caption is highest at guidance 2 (0.500)" in text


def test_without_a_judge_the_section_has_a_table_and_the_command_for_a_plot(section_of):
    text = section_of({"n": 8, "floor": {"value": 0.01}, "guidance": [{"guidance": 1.0, "kid": {"value": 0.5}}]})
    assert "<figure" not in text
    assert "lossmith evaluate RUN --captions DIR --judge FILE" in text
    assert cells_of(text, "1")[0] == "0.5000"


def test_without_kid_there_is_no_plot(section_of):
    text = section_of(make_record() | {"guidance": [{"guidance": 1, "r_precision": 0.2}]})
    assert "<figure" not in text
    assert "There is no plot because KID was not measured." in text
    assert cells_of(text, "1")[:2] == ["0.200", NONE]


def test_a_scale_with_a_missing_metric_is_left_out_of_the_plot_and_named(section_of):
    rows = make_record()["guidance"]
    del rows[1]["kid"]
    rows[2]["r_precision"] = None
    text = section_of(make_record(guidance=rows))
    assert re.findall(r'class="label c0"[^>]*>([^<]*)', text) == ["1", "5"]
    assert "Scales without alignment or KID are not in the plot: guidance 2, 3." in text
    assert cells_of(text, "3")[:2] == [NONE, "0.0670"]


def test_an_old_record_without_counts_deviations_and_memorisation_has_a_plot(section_of):
    rows = [{"guidance": scale, "joint": a, "kid": {"value": k}} for scale, a, k in CURVE]
    text = section_of({"chance": {"joint": 0.01}, "guidance": rows})
    assert len(points_of(text)) == 4
    assert "Horizontal bars" not in text and "train/held:" not in text
    assert cells_of(text, "5") == ["0.130", "0.1000", NONE, NONE, NONE]


def test_the_table_has_diversity_and_memorisation(section_of):
    more = {"diversity": {"vendi": 1.1}, "memorisation": {"ratio": 0.947, "copies": 0.004}}
    text = section_of(make_record() | {"guidance": [make_row(1, 0.2, 0.06, **more)]})
    assert re.findall(r"<th>([^<]*)</th>", text)[:6] == [
        "guidance",
        "R-precision ↑",
        "KID ↓",
        "Vendi score ↑",
        "train/held → 1",
        "copies ↓",
    ]
    assert cells_of(text, "1") == ["0.200", "0.0600", "1.10", "0.95", "0.004"]


def test_runs_of_one_protocol_share_a_plot(section_of):
    text = section_of(make_record(), make_record([(scale, a + 0.05, k) for scale, a, k in CURVE]))
    assert text.count("<figure") == 1
    assert 'class="line c0"' in text and 'class="line c1"' in text
    assert ">5 run 0<" in text and ">5 run 1<" in text
    assert text.count("<table") == 2


@pytest.mark.parametrize(
    "other", [{"features": "cd"}, {"n": 64}, {"floor": {"value": 0.004}}, {"val_source": "elsewhere"}]
)
def test_runs_of_different_protocols_have_separate_plots(section_of, other):
    text = section_of(make_record(), make_record(**other))
    assert text.count("<figure") == 2
    assert "Evaluations with different protocols have separate plots." in text


def test_the_plot_has_a_description_for_screen_readers(section_of):
    label = re.search(r'role="img" aria-label="([^"]*)"', section_of(make_record()))[1]
    assert label.startswith("KID against R-precision: run 0: guidance 1 gives 0.140 and 0.0600, guidance 2")


def test_remarks_on_the_captions_appear(section_of):
    assert "Only if it was a." in section_of(make_record(remarks=["Only if it was a."]))


@pytest.mark.parametrize(
    "malformed",
    [
        {"guidance": [7, None, {"guidance": float("nan")}, {"r_precision": "high", "kid": [1]}]},
        {"chance": [], "ceiling": 3, "floor": None, "n": "many", "remarks": 5, "features": {}},
        {"chance": {"<b>&": 1}, "remarks": ["<i>"]},
    ],
)
def test_malformed_records_do_not_stop_the_report(section_of, malformed):
    text = section_of(make_record(**malformed))
    assert "<table" in text
    assert "<i>" not in text and "<th><b>" not in text


def test_a_record_without_scales_has_no_section(section_of):
    assert section_of(make_record(guidance=[])) == ""


def test_a_record_under_former_keys_is_plotted_with_the_same_protocol(section_of):
    new = make_record(captions_source="shapes", val_source="others")
    old = make_record(captions_of="shapes", held="others")
    for row in old["guidance"]:
        row["kid"]["deviation"] = row["kid"].pop("std")
    text = section_of(new, old)
    assert text.count("<figure") == 1
    first, second = (re.findall(rf'class="bar c{k}" d="[^"]*v([\d.]+)"', text) for k in (0, 1))
    assert first == second and len(first) == 4 and float(first[0]) > 1

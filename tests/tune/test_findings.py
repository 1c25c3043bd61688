import csv
import json
import math
import re

import pytest

from lossmith.metrics import describe_protocol
from lossmith.report.plot.axis import PlotAxis
from lossmith.train import Settings
from lossmith.tune.objectives import parse_objectives
from lossmith.tune.findings import read_findings
from lossmith.tune.published_results import PUBLISHED, find_published_results
from lossmith.tune.report import write_study_report

ROWS = [(0.1, 0.1, (25.0, 0.80)), (0.2, 0.1, (26.0, 0.74)), (0.3, 0.1, (24.5, 0.79)), (0.4, 0.1, None)]


def test_the_front_is_what_no_trial_beats(search, written):
    found = read_findings(written(search(), ROWS))
    assert [trial.number for trial in found.front] == [1, 0]
    assert found.hypervolume == pytest.approx(2 * 0.04 + 1 * 0.06)  # above bicubic's 24 dB and 0.7


def test_a_trial_below_a_floor_is_not_on_the_front(search, written):
    found = read_findings(written(search(floors={"psnr_y": 25.5}), ROWS))
    assert [trial.number for trial in found.front] == [1]
    assert found.record["below_floor"] == [0, 2]


def test_the_shares_of_the_knee_are_one_where_all_pictures_agree(search, written):
    found = read_findings(written(search(), ROWS))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.shares[found.knee.number] == 1


def test_the_shares_of_the_knee_do_not_depend_on_how_hard_the_pictures_are(search, written):
    folder = written(search(), ROWS)
    shares = read_findings(folder).shares
    harder = {"p": -9.0, "q": 0.0, "r": 9.0}
    for file in [*folder.glob("trials/*/result.json"), folder / "marks.json"]:
        record = json.loads(file.read_text())
        rows = record["marks"]["bicubic"]["pictures"] if "marks" in record else record["pictures"]
        moved = {name: {**row, "psnr_y": row["psnr_y"] + harder[name]} for name, row in rows.items()}
        (record["marks"]["bicubic"] if "marks" in record else record)["pictures"] = moved
        file.write_text(json.dumps(record))
    assert read_findings(folder).shares == pytest.approx(shares)


def test_a_study_without_a_result_has_findings_too(search, written):
    found = read_findings(written(search(), []))
    assert (found.front, found.knee, found.hypervolume, found.shares) == ([], None, 0, {})
    found.export()


def test_a_result_that_is_half_written_is_left_out(search, written):
    folder = written(search(), ROWS)
    next(folder.glob("trials/*/result.json")).write_text('{"number": 3')
    assert len(read_findings(folder).trials) == 3


def test_all_trials_are_exported(search, written):
    folder = written(search(), ROWS)
    read_findings(folder).export()
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["front"] for row in rows] == ["1", "1", "0", "0"]
    assert rows[3]["why"] == "beaten"
    assert json.loads((folder / "findings.json").read_text())["knee"]["number"] in (0, 1)


LPIPS_PLANE = describe_protocol(4, ["psnr_y", "lpips_alex"])
SET5 = {"val": "Set5", "count": 5, "protocol": LPIPS_PLANE, "bicubic": {"psnr_y": 28.43, "lpips_alex": 0.3435}}
SETTINGS = {"images": "photos/", "loss": "L1", "steps": 1}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"val": "photos/"}, "these pictures are others"),
        ({"count": 4}, "all 5 pictures of set5; 4 were used"),
        ({"settings": {"scale": 2}}, "enlargement by 4"),
        ({"settings": {"task": "denoising", "scale": 1}}, "this is another task"),
        ({"settings": {"options": {"blind": True}}}, "this is another task"),
        ({"protocol": describe_protocol(4, ["psnr_rgb", "lpips_alex"])}, "judged by psnr_y and lpips_alex"),
        ({"protocol": describe_protocol(0, ["psnr_y", "lpips_alex"])}, "border of 4 px left out; here it is .*border of 0 px"),
        ({"bicubic": {"psnr_y": 26.7, "lpips_alex": 0.34}}, "psnr_y 28.42 there and 26.7 here"),
        ({"bicubic": {"psnr_y": 28.4, "lpips_alex": 0.30}}, "lpips_alex 0.3407 there and 0.3 here"),
        ({"bicubic": {"psnr_y": 28.4, "lpips_alex": math.nan}}, "and nan here"),
    ],
)
def test_published_figures_stand_beside_none_of_another_protocol(change, words):
    same, why = find_published_results(Settings(**SETTINGS), **SET5)
    assert same and not why
    given = {**SET5, **change}
    found, why = find_published_results(Settings(**SETTINGS, **given.pop("settings", {})), **given)
    assert not found and re.search(words, why)


def test_figures_of_more_axes_stand_in_no_ones_way():
    assert find_published_results(Settings(**SETTINGS), **SET5 | {"protocol": describe_protocol(4, ["swd", "psnr_y", "lpips_alex"])})[0]


@pytest.fixture
def judged_on_set5(search, written, tmp_path):
    """Writes the folder of a study of three axes whose bicubic is that of Set5, on as many pictures."""

    def make(val="Set5", scale=4, bicubic=28.43):
        one = search(
            axes=parse_objectives("psnr_y,lpips_alex,swd"), val=str(tmp_path / val), training={"scale": scale, "calibrate": False}
        )
        folder = written(search(), [], name=f"{val}_{scale}_{bicubic}")
        (folder / "study.json").write_text(json.dumps(one.record))
        for number, found in enumerate([(29.5, 0.12, 2.0), (30.5, 0.2, 3.0)]):
            settings = one.settings({"a": number + 1.0, "b": 0.1})
            figures = dict(zip(("psnr_y", "lpips_alex", "swd"), found, strict=True))
            record = {"number": number, "run": str(number), "drawn": {"a": number + 1.0, "b": 0.1}, "step": 6}
            record |= {"loss": settings.loss, "seconds": 1.0, "state": "complete", "figures": figures, "why": ""}
            (folder / "trials" / str(number)).mkdir(parents=True)
            file = folder / "trials" / str(number) / "result.json"
            file.write_text(json.dumps(record | {"pictures": dict.fromkeys("abcde", figures)}))
        mark = {"psnr_y": bicubic, "lpips_alex": 0.3435, "swd": 4.0}
        marks = {"bicubic": {"figures": mark, "pictures": dict.fromkeys("abcde", mark)}}
        record = {"marks": marks, "protocol": describe_protocol(scale, list(mark)), "sharing": {}}
        (folder / "marks.json").write_text(json.dumps(record))
        return folder

    return make


def test_published_networks_stand_in_the_plane_of_their_own_figures_alone(judged_on_set5, tmp_path):
    text = write_study_report(judged_on_set5(), tmp_path / "page.html").read_text()
    of_lpips, of_patches = text.split('<figure class="chart"')[1:]
    assert all(f">{name}</text>" in of_lpips for name in ("SFTGAN", "SRGAN", "ESRGAN", "NatSR", "SPSR"))
    assert "ESRGAN" not in of_patches and "bicubic</text>" in of_patches
    assert "Ma et al., 2020" in text


def test_published_networks_stand_at_their_published_figures(judged_on_set5, tmp_path):
    text = write_study_report(judged_on_set5(), tmp_path / "page.html").read_text().split('<figure class="chart"')[1]
    data = json.loads(text.split('<script type="application/json">')[1].split("</script>")[0])
    x, y = (PlotAxis(**data[name]) for name in "xy")
    places = [f"M{x.at(psnr):.1f} {y.at(lpips) - 5:.1f}" for psnr, lpips in ((30.454, 0.0748), (29.168, 0.0882))]
    assert all(place in text for place in places)  # ESRGAN's and SRGAN's


def test_a_network_beyond_the_plane_says_so_inside_of_it(judged_on_set5, tmp_path):
    folder = judged_on_set5()
    for file, psnr in zip(sorted(folder.glob("trials/*/result.json")), (28.5, 28.6), strict=True):
        record = json.loads(file.read_text())
        record["figures"]["psnr_y"] = psnr
        file.write_text(json.dumps(record))
    text = write_study_report(folder, tmp_path / "page.html").read_text().split('<figure class="chart"')[1]
    assert re.search(r'x="4\d\d\.\d" text-anchor="end" y="[\d.]+">NatSR lies outside: 30\.99', text)


@pytest.mark.parametrize(
    "other, why",
    [
        ({"val": "mine"}, "these pictures are others"),
        ({"scale": 2}, "enlargement by 4"),
        ({"bicubic": 26.70}, "psnr_y 28.42 there and 26.7 here"),
    ],
)
def test_no_published_network_stands_in_the_plane_of_another_protocol(other, why, judged_on_set5, tmp_path):
    text = write_study_report(judged_on_set5(**other), tmp_path / "page.html").read_text()
    assert "GAN" not in text and why in text


def test_every_published_network_has_figures_of_every_set():
    assert {len(rows) for rows in PUBLISHED.values()} == {6}


def test_the_page_shows_the_plane_and_names_the_knee(search, written, tmp_path):
    text = write_study_report(written(search(), ROWS), tmp_path / "page.html").read_text()
    assert "L1 + a*TV + b*SSIM" in text and text.count("data-trial=") == 3 + 2 + 4  # points, front, all trials
    assert "knee</text>" in text and "bicubic</text>" in text
    assert "http" not in text.split("<body>")[1].replace("http://www.w3.org/2000/svg", "")


def test_the_line_of_the_front_bounds_what_it_dominates_and_no_more():
    from lossmith.tune.report.study_plot import staircase

    assert 'd="M30.0 80.0H10.0V50.0"' in staircase([(10, 50), (30, 80)])  # places: right is more, up is less


def test_the_page_keeps_a_formula_from_being_markup(search, written, tmp_path):
    folder = written(search(), ROWS)
    record = json.loads((folder / "study.json").read_text())
    record["images"] = "/x/<script>alert(1)</script>"
    (folder / "study.json").write_text(json.dumps(record))
    assert "<script>alert" not in write_study_report(folder, tmp_path / "page.html").read_text()


def test_a_page_of_three_axes_has_two_planes(search, written, tmp_path):
    one = search(axes=parse_objectives("psnr_y,ssim_y,swd"))
    folder = written(search(), [])
    (folder / "study.json").write_text(json.dumps(one.record))
    marks = json.loads((folder / "marks.json").read_text())
    marks["marks"]["bicubic"]["figures"]["swd"] = 3.0
    (folder / "marks.json").write_text(json.dumps(marks))
    assert write_study_report(folder, tmp_path / "page.html").read_text().count('<figure class="chart"') == 2


def test_a_folder_that_is_no_study_says_so(tmp_path):
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no study"):
        read_findings(tmp_path)

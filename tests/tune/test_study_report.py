import json
import math
import re

import pytest
from report.browser import CHROMIUM, measure_page

from lossmith.metrics import describe_protocol
from lossmith.report.plot.axis import PlotAxis
from lossmith.train import Settings
from lossmith.tune.objectives import parse_objectives
from lossmith.tune.published_results import PUBLISHED, find_published_results
from lossmith.tune.report import write_study_report
from lossmith.tune.report.study_plot import _front_line

from .test_findings import ROWS

PROTOCOL = describe_protocol(4, ["psnr_y", "lpips_alex"])
BICUBIC = {"psnr_y": 28.43, "lpips_alex": 0.3435}
SET5 = {"val": "Set5", "count": 5, "protocol": PROTOCOL, "bicubic": BICUBIC}
SETTINGS = {"images": "photos/", "loss": "L1", "steps": 1}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"val": "photos/"}, "these are other images"),
        ({"count": 4}, "all 5 images of set5; 4 were used"),
        ({"settings": {"scale": 2}}, "exist for scale 4"),
        ({"settings": {"task": "denoising", "scale": 1}}, "this is another task"),
        ({"settings": {"options": {"blind": True}}}, "this is another task"),
        ({"protocol": describe_protocol(4, ["psnr_rgb", "lpips_alex"])}, "the metrics psnr_y and lpips_alex"),
        ({"protocol": describe_protocol(0, ["psnr_y", "lpips_alex"])}, r"have psnr_y as .*4 px.*; here it is .*0 px"),
        ({"bicubic": {"psnr_y": 26.7, "lpips_alex": 0.34}}, "psnr_y 28.42 there and 26.7 here"),
        ({"bicubic": {"psnr_y": 28.4, "lpips_alex": 0.30}}, "lpips_alex 0.3407 there and 0.3 here"),
        ({"bicubic": {"psnr_y": 28.4, "lpips_alex": math.nan}}, "and nan here"),
    ],
)
def test_published_results_of_another_protocol_are_not_comparable(change, message):
    results, reason = find_published_results(Settings(**SETTINGS), **SET5)
    assert results and not reason
    given = {**SET5, **change}
    results, reason = find_published_results(Settings(**SETTINGS, **given.pop("settings", {})), **given)
    assert not results and re.search(message, reason)


def test_published_results_are_comparable_if_more_metrics_are_measured():
    protocol = describe_protocol(4, ["swd", "psnr_y", "lpips_alex"])
    assert find_published_results(Settings(**SETTINGS), **SET5 | {"protocol": protocol})[0]


def test_every_published_network_has_results_on_every_set():
    assert {len(rows) for rows in PUBLISHED.values()} == {6}


@pytest.fixture
def write_set5_study(make_search, write_study, tmp_path):
    """Return a function that writes a study of three objectives with Set5's number of images and bicubic metrics."""

    def write(val="Set5", scale=4, psnr=28.43):
        search = make_search(
            objectives=parse_objectives("psnr_y,lpips_alex,swd"),
            val=str(tmp_path / val),
            training={"scale": scale, "calibrate": False},
        )
        folder = write_study(make_search(), [], name=f"{val}_{scale}_{psnr}")
        (folder / "study.json").write_text(json.dumps(search.to_record()))
        for number, values in enumerate([(29.5, 0.12, 2.0), (30.5, 0.2, 3.0)]):
            params = {"a": number + 1.0, "b": 0.1}
            metrics = dict(zip(("psnr_y", "lpips_alex", "swd"), values, strict=True))
            record = {"number": number, "run": str(number), "params": params, "loss": search.settings(params).loss}
            record |= {"step": 6, "seconds": 1.0, "state": "complete", "metrics": metrics, "reason": ""}
            record |= {"image_metrics": dict.fromkeys("abcde", metrics)}
            (folder / "trials" / str(number)).mkdir(parents=True)
            (folder / "trials" / str(number) / "result.json").write_text(json.dumps(record))
        bicubic = {"psnr_y": psnr, "lpips_alex": 0.3435, "swd": 4.0}
        baselines = {"bicubic": {"metrics": bicubic, "image_metrics": dict.fromkeys("abcde", bicubic)}}
        record = {"baselines": baselines, "protocol": describe_protocol(scale, list(bicubic)), "shared_networks": {}}
        (folder / "baselines.json").write_text(json.dumps(record))
        return folder

    return write


def test_published_networks_appear_in_the_plot_of_their_metrics_only(write_set5_study, tmp_path):
    text = write_study_report(write_set5_study(), tmp_path / "page.html").read_text()
    lpips_plot, swd_plot = text.split('<figure class="chart"')[1:]
    assert all(f">{name}</text>" in lpips_plot for name in ("SFTGAN", "SRGAN", "ESRGAN", "NatSR", "SPSR"))
    assert "ESRGAN" not in swd_plot and "bicubic</text>" in swd_plot
    assert "Ma et al., 2020" in text


def test_published_networks_stand_at_their_published_metrics(write_set5_study, tmp_path):
    plot = write_study_report(write_set5_study(), tmp_path / "page.html").read_text().split('<figure class="chart"')[1]
    data = json.loads(plot.split('<script type="application/json">')[1].split("</script>")[0])
    x, y = (PlotAxis(**data[name]) for name in "xy")
    esrgan, srgan = (30.454, 0.0748), (29.168, 0.0882)
    assert all(f"M{x.position(psnr):.1f} {y.position(lpips) - 5:.1f}" in plot for psnr, lpips in (esrgan, srgan))


def test_networks_outside_the_plot_are_named_in_one_sentence_below_the_plot(write_set5_study, tmp_path):
    folder = write_set5_study()
    for file, psnr in zip(sorted(folder.glob("trials/*/result.json")), (28.5, 28.6), strict=True):
        record = json.loads(file.read_text())
        record["metrics"]["psnr_y"] = psnr
        file.write_text(json.dumps(record))
    plot = write_study_report(folder, tmp_path / "page.html").read_text().split('<figure class="chart"')[1]
    drawing, _, below = plot.partition("</figure>")
    outside = ("SFTGAN", "SRGAN", "ESRGAN", "NatSR", "SPSR")
    assert not [name for name in outside if f"{name}" in drawing]
    (sentence,) = re.findall(r'<p class="hint">(Outside the plot: .*?)</p>', below)
    assert re.search(r"NatSR \(PSNR-Y 30\.99 dB, LPIPS 0\.094\)", sentence)
    assert all(name in sentence for name in outside)


def test_a_plot_with_every_reference_inside_has_no_sentence_below(write_set5_study, tmp_path):
    swd_plot = (
        write_study_report(write_set5_study(), tmp_path / "page.html").read_text().split('<figure class="chart"')[2]
    )
    assert "bicubic</text>" in swd_plot and "Outside the plot" not in swd_plot


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_of_a_study_is_as_wide_as_the_screen_of_a_phone(write_set5_study, tmp_path):
    width, wide = measure_page(write_study_report(write_set5_study(), tmp_path / "page.html"), 390)
    assert (width <= 390, wide) == (True, [])


def test_a_study_of_a_task_that_keeps_the_size_has_no_scale(make_search, write_study, tmp_path):
    search = make_search(training={"task": "denoising", "scale": 1, "calibrate": False, "model": {"name": "x/y/m.pth"}})
    text = write_study_report(write_study(search, ROWS), tmp_path / "page.html").read_text()
    heading = text.partition("</header>")[0].partition("<body>")[2]
    assert "denoising · initialized from y/m.pth" in heading


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"val": "mine"}, "these are other images"),
        ({"scale": 2}, "exist for scale 4"),
        ({"psnr": 26.70}, "psnr_y 28.42 there and 26.7 here"),
    ],
)
def test_no_published_network_appears_under_another_protocol(change, reason, write_set5_study, tmp_path):
    text = write_study_report(write_set5_study(**change), tmp_path / "page.html").read_text()
    assert "GAN" not in text and reason in text


def test_the_report_shows_the_plot_and_the_knee(make_search, write_study, tmp_path):
    text = write_study_report(write_study(make_search(), ROWS), tmp_path / "page.html").read_text()
    assert "L1 + a*TV + b*SSIM" in text
    assert text.count("data-trial=") == 3 + 2 + 4  # points, rows of the front, rows of all trials
    assert "knee</text>" in text and "bicubic</text>" in text
    assert "http" not in text.split("<body>")[1].replace("http://www.w3.org/2000/svg", "")


def test_the_front_line_bounds_the_dominated_region():
    assert 'd="M30.0 80.0H10.0V50.0"' in _front_line([(10, 50), (30, 80)])  # x grows to the right, y downwards


def test_texts_of_a_study_are_escaped(make_search, write_study, tmp_path):
    folder = write_study(make_search(), ROWS)
    record = json.loads((folder / "study.json").read_text())
    record["images"] = "/x/<script>alert(1)</script>"
    (folder / "study.json").write_text(json.dumps(record))
    assert "<script>alert" not in write_study_report(folder, tmp_path / "page.html").read_text()


def test_a_study_of_three_objectives_has_two_plots(make_search, write_study, tmp_path):
    folder = write_study(make_search(), [])
    search = make_search(objectives=parse_objectives("psnr_y,ssim_y,swd"))
    (folder / "study.json").write_text(json.dumps(search.to_record()))
    record = json.loads((folder / "baselines.json").read_text())
    record["baselines"]["bicubic"]["metrics"]["swd"] = 3.0
    (folder / "baselines.json").write_text(json.dumps(record))
    assert write_study_report(folder, tmp_path / "page.html").read_text().count('<figure class="chart"') == 2

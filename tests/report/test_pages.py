"""What a reader of a page sees: on a phone, of tasks other than super-resolution, of knobs, and of weak runs."""

import json
import re
from html.parser import HTMLParser

import pytest
import torch

from lossmith.report import write_report
from lossmith.report.document import write_document
from lossmith.report.groups import path_tail
from lossmith.report.slider_section import SLIDER_ASSETS, SliderPhoto, slider_section

from .browser import CHROMIUM, measure_page

PHONE = 390
"""The width of a phone's screen, in CSS pixels."""


def edit_validation(run, edit):
    """Apply a function to each validation record of a run."""
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    (run / "validation.jsonl").write_text("".join(json.dumps(line | edit(line)) + "\n" for line in lines))
    return run


def add_wide_tables(run):
    """Add a cost table of many columns, a long citation and a long file name to a run."""
    row = {"network": "vgg19", "inputs": "pred, target", "layers": [f"relu{i}_2" for i in range(1, 6)]}
    row |= {"terms": ["perceptual", "style"], "passes": 2, "GFLOP": 46.44, "MB kept": 120.2, "parameters": 20_024_384}
    (run / "plan.json").write_text(json.dumps({"rows": [row, row], "citations": ["@article{j, title={" + "x" * 300]}))
    (run / "skipped.json").write_text(json.dumps([{"file": "photos/" + "long" * 40 + ".jpg", "reason": "truncated"}]))
    return run


def text_of(page):
    """Return the text of a page without tags, for one run of white space one space."""
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def report_of(runs, tmp_path):
    return write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8")


class TableParser(HTMLParser):
    """The tables of a page that no scrolling box contains."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.loose = [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.count += 1
            if "scroll" not in self.open[-1]:
                self.loose.append(self.get_starttag_text())
        if tag == "div" or tag == "details":
            self.open.append(dict(attrs).get("class") or "")

    def handle_endtag(self, tag):
        if tag == "div" or tag == "details":
            self.open.pop()


def test_every_table_is_in_a_box_that_scrolls(make_run, tmp_path):
    page = report_of([add_wide_tables(make_run("a")), add_wide_tables(make_run("b", val="Set14"))], tmp_path)
    parser = TableParser(page)
    assert parser.count > 5
    assert parser.loose == []
    assert re.search(r"^\.scroll \{[^}]*overflow-x: auto", page, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("count", [1, 3])
def test_a_page_is_as_wide_as_the_screen_of_a_phone(make_run, tmp_path, count):
    name, loss = "r" * 60, "L1 + 0.1 * perceptual('vgg19', ['relu3_3', 'relu4_3', 'relu5_3'])"
    knobs = {"lambda_of_a_long_name": [0.03, 30.0]}
    for i in range(count):
        edit_validation(
            add_wide_tables(make_run(f"{name}{i}", loss=loss, knobs=knobs)), lambda line: {"at": {"low": line}}
        )
    page = write_report([tmp_path / f"{name}{i}" for i in range(count)], tmp_path / "report.html")
    width, wide = measure_page(page, PHONE)
    assert (width <= PHONE, wide) == (True, [])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("screen", [PHONE, 1280])
@pytest.mark.parametrize("size", [(4, 4), (120, 40), (40, 120)])
def test_the_slider_of_a_photograph_of_any_shape_fits_the_screen(tmp_path, screen, size):
    ends = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    photo = SliderPhoto("photo_of_a_long_name.jpg", ends[0, :, ::4, ::4], *ends, note="4000x3000 px, reduced " * 3)
    section = slider_section("title", "lead", [photo, photo], {"slider 0": {"psnr_y": 1.0}})
    page = write_document("title", section, tmp_path / "page.html", **SLIDER_ASSETS)
    width, wide = measure_page(page, screen)
    assert (width <= screen, wide) == (True, [])


@pytest.mark.parametrize("task", ["text-to-image", "denoising", "inpainting", "autoencoding", "direct-text-to-image"])
def test_a_task_that_keeps_the_size_of_images_has_neither_a_scale_nor_a_border(make_run, tmp_path, task):
    page = report_of([make_run(task=task, scale=1, bicubic=False)], tmp_path)
    assert "\u00d71" not in page
    assert "px border" not in page
    assert f">{task} · compact" in page


@pytest.mark.parametrize("task, border", [("super-resolution", 4), ("paired", 4), ("text-to-image", 0)])
def test_the_border_of_the_metrics_is_that_of_the_task(make_run, tmp_path, task, border):
    page = report_of([make_run(task=task, scale=4)], tmp_path)
    assert f"{task} \u00d74" in page
    assert re.findall(r"(\d+) px border left out", page) == ([str(border)] if border else [])


def test_samples_have_their_captions_in_the_columns_of_their_images(make_run, tmp_path):
    captions = [f"a red <square> {i}" for i in range(6)]
    run = make_run(task="text-to-image", scale=1, photographs=("coffee",), bicubic=False)
    (run / "sheets" / "coffee").rename(run / "sheets" / "samples")
    (run / "samples.json").write_text(json.dumps({"captions": captions}))
    page = report_of([run], tmp_path)
    grid = re.search(r'<ol class="captions"[^>]* style="grid-template-columns: repeat\(4, .*?</ol>', page)[0]
    cells = re.findall("<li>(.*?)</li>", grid)
    assert cells == [text.replace("<", "&lt;").replace(">", "&gt;") for text in captions] + ["", ""]


@pytest.mark.parametrize("content", ["[1, {", "[]", "7", '{"captions": 5}', '{"captions": []}', None])
def test_a_run_without_readable_captions_has_none(make_run, tmp_path, content):
    run = make_run(task="text-to-image", scale=1, photographs=("coffee",))
    (run / "sheets" / "coffee").rename(run / "sheets" / "samples")
    if content is not None:
        (run / "samples.json").write_text(content)
    assert '<ol class="captions"' not in report_of([run], tmp_path)


def test_the_report_of_a_knob_says_where_the_knob_stood(make_run, tmp_path):
    run = edit_validation(
        make_run("knob", loss="L1 + lam*perceptual", knobs={"lam": [0.25, 4.0]}, photographs=("coffee",)),
        lambda line: {"at": {"low": line | {"psnr_y": 31.5}, "high": line | {"psnr_y": 27.25}}},
    )
    page = report_of([run], tmp_path)
    text = text_of(page)
    assert "knob lam from 0.25 to 4" in text
    assert "with lam = 1, PSNR-Y" in text
    assert re.search(r"lam = 0\.25 31\.50 dB", text)
    assert re.search(r"lam = 4 27\.25 dB", text)
    assert 'data-name="knob, lam = 1"' in page


def test_malformed_knobs_do_not_stop_the_report(make_run, tmp_path):
    for i, knobs in enumerate(
        [5, {"lam": 3}, {"lam": [1]}, {"lam": [-1, 2]}, {"lam": ["a", None]}, {"lam": [1, 2, 3]}]
    ):
        assert "with lam" not in report_of([make_run(f"{i}", knobs=knobs, photographs=())], tmp_path)


def runs_below_bicubic(make_run):
    """Return two runs that bicubic interpolation surpasses in PSNR-Y and that surpass it in LPIPS."""
    return [
        edit_validation(
            make_run(f"r{i}", photographs=(), seed=i), lambda line, i=i: {"psnr_y": 26.0 + i, "lpips_alex": 0.2}
        )
        for i in range(2)
    ]


def test_a_run_that_bicubic_surpasses_is_not_called_the_best(make_run, tmp_path):
    page = report_of(runs_below_bicubic(make_run), tmp_path)
    assert "bicubic surpasses every run in PSNR-Y: 28.43 dB; the best run, r1, has 27.00 dB." in page
    assert "is the most accurate" not in page
    assert '<b class="best">28.43 dB</b>' in page
    assert '<b class="best">27.00 dB</b>' not in page


def test_runs_that_surpass_bicubic_are_ranked_as_without_it(make_run, tmp_path):
    page = report_of([make_run("a", sharpness=0, photographs=()), make_run("b", sharpness=1, photographs=())], tmp_path)
    assert "a is the most accurate" in page
    assert '<b class="best">28.43 dB</b>' not in page


@pytest.mark.parametrize(
    "task, name", [("denoising", "input"), ("inpainting", "mean"), ("super-resolution", "bicubic")]
)
def test_the_baseline_is_that_of_the_task(make_run, tmp_path, task, name):
    run = make_run(task=task, scale=4 if name == "bicubic" else 1, photographs=("coffee",))
    (run / "bicubic.json").rename(run / f"{name}.json")
    (run / "sheets" / "coffee" / "bicubic.png").rename(run / "sheets" / "coffee" / f"{name}.png")
    page = report_of([run], tmp_path)
    assert f"better than {name}" in page
    assert f'<th class="plain">{name}</th>' in page
    assert f'data-side="{name}"' in page
    assert ("bicubic" in text_of(page)) == (name == "bicubic")


def test_a_network_that_was_read_from_a_file_has_no_long_path_in_the_heading(make_run, tmp_path):
    files = {"/home/me/x/start/model.safetensors": "start/model.safetensors", r"C:\me\x\start\m.pth": "start/m.pth"}
    for i, (file, tail) in enumerate(files.items()):
        page = report_of([make_run(f"{i}", model={"name": file}, photographs=())], tmp_path)
        assert f"initialized from {tail}" in page.partition("</header>")[0]
        assert "me" not in re.split(r"\W", page.partition("</header>")[0].partition("<body>")[2])


@pytest.mark.parametrize(
    "path, tail",
    [
        ("/data/benchmark/Set5/HR/", "Set5/HR"),
        (r"D:\data\Set5\HR", "Set5/HR"),
        ("Set5", "Set5"),
        ("/Set5", "Set5"),
        ("C:\\Set5", "Set5"),
        (".", "."),
        ("/", "/"),
    ],
)
def test_the_tail_of_a_path_has_at_most_two_parts_on_any_system(path, tail):
    assert path_tail(path) == tail

import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser

import pytest

from lossmith.report import write_report


def report_of(runs, tmp_path):
    return write_report(runs, tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def charts_of(text):
    """Return the data of the charts."""
    return [json.loads(part) for part in re.findall(r'<script type="application/json">(.*?)</script>', text)]


class PageParser(HTMLParser):
    """The unclosed tags, the URIs and the number of scripts of a page."""

    VOID = ("meta", "img", "input", "br", "link", "hr")
    SHAPES = ("path", "line", "circle")

    def __init__(self, text):
        super().__init__()
        self.open, self.uris, self.scripts = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.uris += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        self.scripts += tag == "script" and ("type", "application/json") not in attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.SHAPES

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_has_the_formula_the_results_and_every_chart(make_run, tmp_path):
    text = report_of([make_run()], tmp_path)
    assert "L1 + 0.1 * perceptual" in text
    assert re.search(r"PSNR-Y [\d.]+ dB \([\d.]+ dB better than bicubic", text)
    for title in ("PSNR-Y, dB", "PSNR-RGB, dB", "SSIM", "LPIPS", "L1", "perceptual", "Share of the loss value"):
        assert f"<figcaption><b>{title}</b>" in text, title
    assert "Perception-distortion trade-off" in text


def test_the_report_loads_nothing(make_run, tmp_path):
    text = report_of([make_run()], tmp_path)
    assert {uri.split(",")[0] for uri in PageParser(text).uris} == {"data:image/webp;base64"}
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_every_tag_is_closed(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", scale=2, bicubic=False), make_run("c", done=0, photographs=())]
    assert PageParser(report_of(runs, tmp_path)).open == []


def test_texts_of_a_run_are_escaped(make_run, tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"$body"
    run = make_run(loss=evil, terms=((evil, 1.0), ("L1", 1.0)), images=evil, task=evil, val=evil)
    (run / "skipped.json").write_text(json.dumps([{"file": evil, "why": evil}]))
    (run / "plan.json").write_text(json.dumps({"rows": [{"term": evil, evil: evil}], "citations": [evil]}))
    (run / "sheets" / "coffee").rename(run / "sheets" / "<img src=x onerror=alert(1)>'\"$body")
    parser = PageParser(report_of([run], tmp_path))
    assert parser.open == []
    assert parser.scripts == 1
    assert "x" not in parser.uris


def test_the_security_policy_admits_only_the_report_script(make_run, tmp_path):
    text = report_of([make_run()], tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_runs_of_one_protocol_share_plots_and_images_with_a_colour_each(make_run, tmp_path):
    runs = [make_run("alone", loss="L1", terms=(("L1", 1.0),), sharpness=0), make_run("both", sharpness=1, seed=1)]
    text = report_of(runs, tmp_path)
    assert text.count("<b>PSNR-Y, dB</b>") == 1
    assert 'class="line c0"' in text
    assert 'class="line c1"' in text
    assert "alone is the most accurate" in text
    assert "both is perceptually closest to the ground truth" in text
    assert text.count('class="gallery"') == 3


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"scale": 2}, {"val": "Set14"}, {"border": 0}])
def test_metrics_of_different_protocols_never_share_a_plot(make_run, tmp_path, other):
    text = report_of([make_run("a"), make_run("b", **other)], tmp_path)
    assert "validated under 2 protocols" in text
    assert text.count("<b>PSNR-Y, dB</b>") == 2
    assert "is the most accurate" not in text
    for chart in charts_of(text):
        assert len({line["name"] for line in chart["series"]} & {"a", "b"}) < 2


def test_validation_folders_with_equal_ends_have_their_whole_paths(make_run, tmp_path):
    text = report_of([make_run("a", val="/x/Set5/HR"), make_run("b", val="/y/Set5/HR")], tmp_path)
    assert "/x/Set5/HR, 4 px" in text
    assert "/y/Set5/HR, 4 px" in text


def test_a_run_without_validation_joins_the_runs_of_its_protocol(make_run, tmp_path):
    text = report_of([make_run("a"), make_run("b", done=400)], tmp_path)
    assert "protocols" not in text
    assert "b: 400 of 2\u202f000 steps in 36 s (not finished); no validation yet" in text


def test_a_run_that_has_just_begun_has_a_report(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"loss": "L1"}')
    text = report_of([run], tmp_path)
    for note in ("No step has been logged yet", "No image has been written yet", "No validation yet"):
        assert note in text


def test_an_incomplete_line_is_left_out_with_a_note(make_run, tmp_path):
    run = make_run(photographs=())
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 2020, "loss": 0.1, "ter')
    text = report_of([run], tmp_path)
    assert "log.jsonl: 1 line is not readable" in text
    assert "2\u202f000 steps" in text


def test_malformed_lines_and_files_do_not_stop_the_report(make_run, tmp_path):
    run = make_run()
    malformed = [
        "[]",
        "7",
        "null",
        '{"step": "x"}',
        '{"step": 3, "terms": 4, "weights": []}',
        '{"step": NaN}',
        "\x00",
        "[" * 9999,
    ]
    (run / "log.jsonl").write_text("\n".join(malformed))
    (run / "validation.jsonl").write_bytes(b'\xff\xfe{"step": 1}\n{"step": 2, "psnr_y": Infinity, "ssim_y": "high"}\n')
    for name in ("loss.json", "plan.json", "skipped.json", "bicubic.json"):
        (run / name).write_text("[1, {")
    (run / "sheets" / "coffee" / "truth.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    text = report_of([run], tmp_path)
    assert "plan.json is not readable and was left out" in text
    assert "coffee/truth.png is not readable and was left out" in text


def test_non_finite_values_of_a_term_are_counted(make_run, tmp_path):
    run = make_run(photographs=())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line, value in zip(lines, (None, float("nan"), float("inf")), strict=False):
        line["terms"]["perceptual"] = value
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "perceptual was not finite at 3 of 100 logged steps" in report_of([run], tmp_path)


def with_diagnostics(run, record_of):
    """Add to the log line with the index i the record `record_of(i)`."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (run / "log.jsonl").write_text("\n".join(json.dumps(line | record_of(i)) for i, line in enumerate(lines)))
    return run


@pytest.mark.parametrize("keys", [("discriminators", "extra_metrics"), ("critics", "observed")])  # now, and in 0.1
def test_what_is_logged_beside_the_terms_has_charts(make_run, tmp_path, keys):
    def record_of(i):
        shares = {"share.L1": 0.75, "share.perceptual": 0.25}
        weights = {"weight.L1": 1.0, "weight.perceptual": 0.1 + 0.01 * i}
        quantities = {"Adversarial.real": 0.9, "Adversarial.fake": None if i == 2 else 0.4, "Adversarial.strange": 1.0}
        extra = {"perplexity": 300.0, "own": 1.0 + i}
        return {"balance": shares | weights, keys[0]: quantities, keys[1]: extra}

    run = make_run(photographs=(), steps=200, task="autoencoding")
    text = report_of([with_diagnostics(run, record_of)], tmp_path)
    section = text[text.index("<h2>Training diagnostics</h2>") :]
    titles = re.findall(r"<figcaption><b>(.*?)</b>", section)
    assert titles == [
        "Weight of perceptual",  # and not of L1, which is constant
        "Adversarial: accuracy on real images",
        "Adversarial: accuracy on generated images",
        "Perplexity of the codes",
        "own",
    ]
    assert "<figcaption><b>Share of the gradient at the prediction</b>" in text
    assert "perceptual 25%" in text


def test_a_run_without_diagnostics_has_no_such_section(make_run, tmp_path):
    malformed = {"critics": {}, "observed": "broken", "balance": None}
    run = with_diagnostics(make_run(photographs=(), steps=100), lambda i: malformed)
    assert "Training diagnostics" not in report_of([run], tmp_path)


def test_a_line_that_a_resumed_run_repeats_counts_once(make_run, tmp_path):
    run = make_run(photographs=(), steps=40)
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 20, "terms": {"L1": 5.0}}) + "\n")
    points = charts_of(report_of([run], tmp_path))[0]["series"][0]["points"]
    assert [20, 5.0] in points
    assert len(points) == 2


def test_cost_citations_and_skipped_images_appear_only_if_they_are_recorded(make_run, tmp_path):
    run = make_run(photographs=())
    without = report_of([run], tmp_path)
    assert not any(part in without for part in ("Cost of a step", "Citations", "Skipped images"))
    row = {
        "network": "vgg19",
        "view": "pred",
        "layers": ["conv3_4", "conv5_4"],
        "terms": ["perceptual"],
        "GFLOP": 46.44,
    }
    (run / "plan.json").write_text(json.dumps({"rows": [row], "citations": ["@article{johnson2016}"]}))
    (run / "skipped.json").write_text(json.dumps([{"file": "photos/half.jpg", "why": "truncated"}]))
    text = report_of([run], tmp_path)
    for part in ("conv3_4, conv5_4", "46.44", "@article{johnson2016}", "photos/half.jpg", "Skipped images (1)"):
        assert part in text, part


def test_one_name_for_two_networks_has_two_charts(make_run, tmp_path):
    runs = [make_run("a", photographs=()), make_run("b", photographs=())]
    for run, network in zip(runs, ("vgg16", "vgg19"), strict=True):
        formula = f"L1 + 0.1 * perceptual('{network}', 'relu3_3')"
        (run / "loss.json").write_text(json.dumps({"text": formula, "weights": {}}))
    text = report_of(runs, tmp_path)
    assert "<b>perceptual (a)</b>" in text
    assert "<b>perceptual (b)</b>" in text
    assert text.count("<b>L1</b>") == 1


def test_one_term_under_two_weights_has_one_chart(make_run, tmp_path):
    runs = [make_run("a", photographs=()), make_run("b", photographs=(), loss="0.5 * L1 + 7 * perceptual")]
    assert report_of(runs, tmp_path).count("<b>perceptual</b>") == 1


def test_the_best_texture_is_the_nearest_to_one(make_run, tmp_path):
    run = make_run(photographs=())
    lines = [{"step": i, "texture": value} for i, value in ((1, 0.2), (2, 0.9), (3, 1.6))]
    (run / "validation.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "first 0.200 at 1<br>best 0.900 at 2" in report_of([run], tmp_path)


def test_a_metric_that_shares_a_network_with_the_loss_is_marked(make_run, tmp_path):
    run = make_run(photographs=())
    assert "not independent" not in report_of([run], tmp_path)
    (run / "loss.json").write_text(json.dumps({"weights": {"alexnet": "ab"}}))
    assert "LPIPS uses a network that the loss of run uses too, so it is not independent" in report_of([run], tmp_path)


def test_the_results_name_an_earlier_best_value(make_run, tmp_path):
    run = make_run(photographs=(), bicubic=False)
    lines = [{"step": 500, "psnr_y": 30.0}, {"step": 1000, "psnr_y": 29.0}]
    (run / "validation.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "PSNR-Y 29.00 dB (best was 30.00 dB at step 500)" in report_of([run], tmp_path)


def test_one_folder_given_twice_is_one_run(make_run, tmp_path):
    run = make_run(photographs=())
    assert "Comparison of" not in report_of([run, run], tmp_path)


def test_folders_of_one_name_are_told_apart_by_their_parents(make_run, tmp_path):
    text = report_of([make_run("first/run", photographs=()), make_run("second/run", photographs=())], tmp_path)
    assert "<span>first/run</span>" in text
    assert "<span>second/run</span>" in text


def test_a_folder_that_is_no_run_is_rejected_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^'.*' is not a run folder: it has no config\.json\. [^\n]*$"):
        write_report([tmp_path], tmp_path / "report.html")


def test_a_missing_folder_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere' is not a folder"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")


def test_unreadable_settings_are_rejected(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="does not hold the settings of a run"):
        write_report([tmp_path], tmp_path / "report.html")


def test_an_empty_list_of_runs_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="at least one run folder"):
        write_report([], tmp_path / "report.html")


def test_a_folder_as_output_is_rejected(make_run, tmp_path):
    with pytest.raises(ValueError, match="out must be a file"):
        write_report([make_run(photographs=())], tmp_path)


def test_a_failing_report_keeps_the_old_page(make_run, tmp_path):
    out = write_report([make_run(photographs=())], tmp_path / "report.html")
    before = out.read_bytes()
    with pytest.raises(ValueError, match="is not a folder"):
        write_report([tmp_path / "nowhere"], out)
    assert out.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_a_log_of_fifty_thousand_lines_takes_seconds_and_a_small_page(make_run, tmp_path):
    run = make_run(photographs=(), steps=50_000, log_every=1, val_every=1000)
    started = time.perf_counter()
    assert len(report_of([run], tmp_path)) < 300_000
    assert time.perf_counter() - started < 30  # it takes 2 s; quadratic time in the log would take minutes


def test_without_lpips_the_trade_off_shows_the_distance_of_texture_from_one(make_run, tmp_path):
    run = make_run()
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    for line in lines:
        del line["lpips_alex"]
    (run / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = report_of([run], tmp_path)
    assert "distance of Texture from 1, lower ↑" in text
    scatter = next(chart for chart in charts_of(text) if "axis_names" in chart)
    distances = [distance for _, distance in scatter["series"][0]["points"]]
    assert distances == pytest.approx([1 - line["texture"] for line in lines], rel=1e-3)
    assert distances == sorted(distances, reverse=True)

import json
import re
import time
from html.parser import HTMLParser

import pytest

from lossmith.report import page


def text_of(runs, tmp_path):
    return page(runs, tmp_path / "out" / "report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Tags that opened and never closed, and everything that would be fetched."""

    VOID = ("meta", "img", "input", "br", "link", "hr")
    DRAWN = ("path", "line", "circle")

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.scripts = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        self.scripts += tag == "script" and ("type", "application/json") not in attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.DRAWN

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_has_the_formula_the_verdict_and_every_curve(make_run, tmp_path):
    text = text_of([make_run()], tmp_path)
    assert "L1 + 0.1 * perceptual" in text
    assert re.search(r"PSNR-Y [\d.]+ dB \([\d.]+ dB better than bicubic", text)
    for title in ("PSNR-Y, dB", "PSNR-RGB, dB", "SSIM", "LPIPS", "L1", "perceptual", "Share of each weighted term"):
        assert f"<figcaption><b>{title}</b>" in text, title
    assert "Accuracy against realism" in text


def test_the_page_fetches_nothing(make_run, tmp_path):
    text = text_of([make_run()], tmp_path)
    assert {uri.split(",")[0] for uri in Outline(text).fetched} == {"data:image/webp;base64"}
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_every_tag_is_closed(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", scale=2, bicubic=False), make_run("c", done=0, photographs=())]
    assert Outline(text_of(runs, tmp_path)).open == []


def test_texts_of_a_run_are_escaped(make_run, tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"$body"
    run = make_run(loss=evil, terms=((evil, 1.0), ("L1", 1.0)), images=evil, task=evil, val=evil)
    (run / "skipped.json").write_text(json.dumps([{"file": evil, "why": evil}]))
    (run / "plan.json").write_text(json.dumps({"rows": [{"term": evil, evil: evil}], "citations": [evil]}))
    (run / "sheets" / "coffee").rename(run / "sheets" / "<img src=x onerror=alert(1)>'\"$body")
    outline = Outline(text_of([run], tmp_path))
    assert outline.open == []
    assert outline.scripts == 1
    assert "x" not in outline.fetched


def test_the_only_script_that_may_run_is_our_own(make_run, tmp_path):
    import base64
    import hashlib

    text = text_of([make_run()], tmp_path)
    own = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_several_runs_share_plots_and_pictures_with_a_colour_each(make_run, tmp_path):
    runs = [make_run("alone", loss="L1", terms=(("L1", 1.0),), realism=0), make_run("both", realism=1, seed=1)]
    text = text_of(runs, tmp_path)
    assert text.count("<b>PSNR-Y, dB</b>") == 1
    assert 'class="line c0"' in text
    assert 'class="line c1"' in text
    assert "alone is the most accurate" in text
    assert "both looks closest to the truth" in text
    assert text.count('class="gallery"') == 3


@pytest.mark.parametrize("other", [{"scale": 2}, {"val": "Set14"}, {"border": 0}])
def test_figures_of_different_protocols_never_share_a_plot(make_run, tmp_path, other):
    text = text_of([make_run("a"), make_run("b", **other)], tmp_path)
    assert "judged in 2 different ways" in text
    assert text.count("<b>PSNR-Y, dB</b>") == 2
    assert "is the most accurate" not in text
    for data in re.findall(r'<script type="application/json">(.*?)</script>', text):
        assert len({line["name"] for line in json.loads(data)["series"]} & {"a", "b"}) < 2


def test_two_folders_that_end_alike_are_told_apart(make_run, tmp_path):
    text = text_of([make_run("a", val="/x/Set5/HR"), make_run("b", val="/y/Set5/HR")], tmp_path)
    assert "/x/Set5/HR, 4 px" in text
    assert "/y/Set5/HR, 4 px" in text


def test_a_run_without_validation_joins_the_runs_of_its_protocol(make_run, tmp_path):
    text = text_of([make_run("a"), make_run("b", done=400)], tmp_path)
    assert "different ways" not in text
    assert "b: 400 of 2\u202f000 steps in 36 s (not finished); no validation yet" in text


def test_a_run_that_has_just_begun_still_has_a_page(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"loss": "L1"}')
    text = text_of([run], tmp_path)
    for remark in ("No step has been logged yet", "No picture has been written yet", "No validation yet"):
        assert remark in text


def test_a_half_written_line_is_left_out_and_said(make_run, tmp_path):
    run = make_run(photographs=())
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 2020, "loss": 0.1, "ter')
    text = text_of([run], tmp_path)
    assert "log.jsonl: one line not readable" in text
    assert "2\u202f000 steps" in text


def test_strange_lines_and_files_do_not_stop_the_page(make_run, tmp_path):
    run = make_run()
    strange = [
        "[]",
        "7",
        "null",
        '{"step": "x"}',
        '{"step": 3, "terms": 4, "weights": []}',
        '{"step": NaN}',
        "\x00",
        "[" * 9999,
    ]
    (run / "log.jsonl").write_text("\n".join(strange))
    (run / "validation.jsonl").write_bytes(b'\xff\xfe{"step": 1}\n{"step": 2, "psnr_y": Infinity, "ssim_y": "high"}\n')
    for name in ("loss.json", "plan.json", "skipped.json", "bicubic.json"):
        (run / name).write_text("[1, {")
    (run / "sheets" / "coffee" / "truth.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    text = text_of([run], tmp_path)
    assert "plan.json is not readable and was left out" in text
    assert "coffee/truth.png is not readable and was left out" in text


def test_a_term_that_was_not_finite_is_named_and_counted(make_run, tmp_path):
    run = make_run(photographs=())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line, value in zip(lines, (None, float("nan"), float("inf")), strict=False):
        line["terms"]["perceptual"] = value
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "perceptual was not a finite number in 3 of 100 logged steps" in text_of([run], tmp_path)


def noted(run, notes):
    """Writes what was noticed beside the terms into a run's log: of each step, a line's parts from its number."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (run / "log.jsonl").write_text("\n".join(json.dumps(line | notes(i)) for i, line in enumerate(lines)))
    return run


def test_what_was_noticed_beside_the_terms_is_drawn(make_run, tmp_path):
    def notes(i):
        shares = {"share.L1": 0.75, "share.perceptual": 0.25}
        weights = {"weight.L1": 1.0, "weight.perceptual": 0.1 + 0.01 * i}
        critics = {"Adversarial.real": 0.9, "Adversarial.fake": None if i == 2 else 0.4, "Adversarial.strange": 1.0}
        return {"balance": shares | weights, "critics": critics, "observed": {"perplexity": 300.0, "own": 1.0 + i}}

    text = text_of([noted(make_run(photographs=(), steps=200), notes)], tmp_path)
    section = text[text.index("<h2>Beside the terms</h2>") :]
    titles = re.findall(r"<figcaption><b>(.*?)</b>", section)
    assert titles == [
        "Measured share of the gradient",
        "Weight of perceptual",  # and not of L1, which stays 1
        "Adversarial: right about real pictures",
        "Adversarial: right about what was made",
        "Codes in use, as the exponential of their entropy",
        "own",
    ]
    assert "perceptual 25%" in section


def test_a_run_that_noticed_nothing_has_no_such_section(make_run, tmp_path):
    run = noted(make_run(photographs=(), steps=100), lambda i: {"critics": {}, "observed": "broken", "balance": None})
    assert "Beside the terms" not in text_of([run], tmp_path)


def test_a_line_that_a_resumed_run_wrote_again_counts_once(make_run, tmp_path):
    run = make_run(photographs=(), steps=40)
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 20, "terms": {"L1": 5.0}}) + "\n")
    text = text_of([run], tmp_path)
    data = [json.loads(part) for part in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert [20, 5.0] in data[0]["series"][0]["points"]
    assert len(data[0]["series"][0]["points"]) == 2


def test_plan_citations_and_skipped_pictures_show_only_where_they_are(make_run, tmp_path):
    run = make_run(photographs=())
    bare = text_of([run], tmp_path)
    assert not any(part in bare for part in ("What a step costs", "To cite", "Skipped pictures"))
    row = {
        "network": "vgg19",
        "view": "pred",
        "layers": ["conv3_4", "conv5_4"],
        "terms": ["perceptual"],
        "GFLOP": 46.44,
    }
    (run / "plan.json").write_text(json.dumps({"rows": [row], "citations": ["@article{johnson2016}"]}))
    (run / "skipped.json").write_text(json.dumps([{"file": "photos/half.jpg", "why": "truncated"}]))
    full = text_of([run], tmp_path)
    for part in ("conv3_4, conv5_4", "46.44", "@article{johnson2016}", "photos/half.jpg", "Skipped pictures (1)"):
        assert part in full, part


def test_one_name_for_two_networks_is_not_one_curve(make_run, tmp_path):
    runs = [make_run("a", photographs=()), make_run("b", photographs=())]
    for run, network in zip(runs, ("vgg16", "vgg19"), strict=True):
        text = f"L1 + 0.1 * perceptual('{network}', 'relu3_3')"
        (run / "loss.json").write_text(json.dumps({"text": text, "weights": {}}))
    text = text_of(runs, tmp_path)
    assert "<b>perceptual (a)</b>" in text
    assert "<b>perceptual (b)</b>" in text
    assert text.count("<b>L1</b>") == 1


def test_one_term_under_two_weights_is_one_plot(make_run, tmp_path):
    runs = [make_run("a", photographs=()), make_run("b", photographs=(), loss="0.5 * L1 + 7 * perceptual")]
    assert text_of(runs, tmp_path).count("<b>perceptual</b>") == 1


def test_the_best_texture_is_the_nearest_to_one(make_run, tmp_path):
    run = make_run(photographs=())
    lines = [{"step": i, "texture": value} for i, value in ((1, 0.2), (2, 0.9), (3, 1.6))]
    (run / "validation.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "first 0.200 at 1<br>best 0.900 at 2" in text_of([run], tmp_path)


def test_a_judge_that_also_taught_is_marked(make_run, tmp_path):
    run = make_run(photographs=())
    assert "no independent judge" not in text_of([run], tmp_path)
    (run / "loss.json").write_text(json.dumps({"weights": {"alexnet": "ab"}}))
    assert "it is no independent judge there" in text_of([run], tmp_path)


def test_the_verdict_tells_when_the_best_has_passed(make_run, tmp_path):
    run = make_run(photographs=(), bicubic=False)
    lines = [{"step": 500, "psnr_y": 30.0}, {"step": 1000, "psnr_y": 29.0}]
    (run / "validation.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "PSNR-Y 29.00 dB (best was 30.00 dB at step 500)" in text_of([run], tmp_path)


def test_the_same_folder_twice_is_one_run(make_run, tmp_path):
    run = make_run(photographs=())
    assert "Comparison of" not in text_of([run, run], tmp_path)


def test_two_folders_of_one_name_are_told_apart(make_run, tmp_path):
    text = text_of([make_run("first/run", photographs=()), make_run("second/run", photographs=())], tmp_path)
    assert "<span>first/run</span>" in text
    assert "<span>second/run</span>" in text


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path):
    with pytest.raises(
        ValueError, match=r"^report wants a run folder, which has a config\.json; .* has none\. [^\n]*$"
    ):
        page([tmp_path], tmp_path / "report.html")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder '.*nowhere'"):
        page([tmp_path / "nowhere"], tmp_path / "report.html")


def test_unreadable_settings_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not readable as such"):
        page([tmp_path], tmp_path / "report.html")


def test_no_run_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one run folder"):
        page([], tmp_path / "report.html")


def test_a_folder_to_write_to_is_refused(make_run, tmp_path):
    with pytest.raises(ValueError, match="wants a file to write the page to"):
        page([make_run(photographs=())], tmp_path)


def test_a_failing_report_leaves_the_old_page(make_run, tmp_path):
    out = page([make_run(photographs=())], tmp_path / "report.html")
    before = out.read_bytes()
    with pytest.raises(ValueError, match="run folder"):
        page([tmp_path / "nowhere"], out)
    assert out.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_log_of_fifty_thousand_lines_takes_seconds_and_little_room(make_run, tmp_path):
    run = make_run(photographs=(), steps=50_000, log_every=1, val_every=1000)
    began = time.perf_counter()
    assert len(text_of([run], tmp_path)) < 300_000
    assert time.perf_counter() - began < 30  # it takes 2; a loop over the log in a loop over the log takes minutes


def test_where_texture_stands_for_realism_more_of_it_is_further_up(make_run, tmp_path):
    run = make_run()
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    for line in lines:
        del line["lpips_alex"]
    (run / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = text_of([run], tmp_path)
    assert "Texture off 1, turned over: more like the truth" in text
    data = [json.loads(part) for part in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    plane = next(each for each in data if "plane" in each)
    drawn = [distance for _, distance in plane["series"][0]["points"]]
    assert drawn == pytest.approx([1 - line["texture"] for line in lines], rel=1e-3)
    assert drawn == sorted(drawn, reverse=True)

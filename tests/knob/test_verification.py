import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from lossmith import parse
from lossmith.knob.baselines import list_baselines, fix_knobs, log_spaced
from lossmith.knob.certificate import OWN_ENDS
from lossmith.knob.report.certificate import draw_certificate, format_certificate
from lossmith.knob.verification import check_realism_metrics, verify_knob
from lossmith.train import Settings, train

PLAIN = {"realism": ["swd"]}  # which needs no weights


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four pictures of noise under a ramp, which a network can do something about."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        ramp = Image.linear_gradient("L").resize((48, 48)).rotate(90 * i)
        Image.merge("RGB", [Image.blend(ramp, Image.effect_noise((48, 48), 40), 0.3)] * 3).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A finished run with a knob."""
    out = tmp_path_factory.mktemp("runs") / "knob"
    settings = Settings(
        images=str(pictures), loss="L1 + lam*TV", knobs={"lam": (0.03, 3.0)}, steps=4, scale=2, batch=2, crop=16,
        val=str(pictures), val_count=1, model={"name": "edsr", "channels": 4, "blocks": 1},
    )  # fmt: skip
    train(settings, out, accelerator="cpu", workers=0)
    return out


@pytest.fixture(scope="module")
def certified(run, pictures):
    """Its certificate, and what it was drawn from; whoever asks has the networks trained too."""
    return verify_knob(run, pictures, values=2, training=True, **PLAIN)


def test_alone_a_run_gives_its_curve(run, pictures):
    record, series = verify_knob(run, pictures, **PLAIN)
    assert record["certified"] is None and set(series) == {"plain", "knob", OWN_ENDS}
    assert [point["at"] for point in record["curve"]] == pytest.approx(log_spaced(0.03, 3.0, 7))
    assert "nothing is certified" in format_certificate(record) and "--train trains them" in format_certificate(record)
    assert not (run / "verify").exists()


def test_the_networks_take_the_knobs_steps_together(run):
    separate = list_baselines(run, values=2)
    assert [rival.at for rival in separate] == [0.03, 3.0]
    assert sum(rival.settings.steps for rival in separate) == 4


def test_but_for_the_loss_they_are_trained_as_the_knob_was(run):
    knob = Settings.read(run / "config.json")
    for rival in list_baselines(run, values=2):
        asked = replace(rival.settings, loss=knob.loss, knobs=knob.knobs, steps=4, val_every=knob.val_every)
        assert asked == knob


def test_their_losses_are_those_of_their_places(run):
    low, high = list_baselines(run, values=2)
    assert parse(high.settings.loss).weights[0].scale == pytest.approx(0.25)
    assert low.settings.loss.startswith("0.97")


def test_shorter_knobs_and_networks_of_equal_length_are_asked_for(run):
    *_, equal, shorter = list_baselines(run, values=2, equal=[0.5], shorter=[1])
    assert equal.settings.steps == 4 and not equal.settings.knobs and equal.folder.name == "lam=0.5"
    assert shorter.settings.steps == 2 and shorter.settings.knobs == {"lam": (0.03, 3.0)}


def test_places_beyond_the_range_and_too_few_steps_are_refused(run):
    with pytest.raises(ValueError, match=r"trained from 0\.03 to 3; 5 is beyond"):
        list_baselines(run, equal=[5.0], values=2)
    with pytest.raises(ValueError, match="4 steps are shared out"):
        list_baselines(run, values=5)


def test_a_settled_loss_is_what_a_knob_is_trained_on_at_that_place():
    loss = fix_knobs(parse("2*L1 + lam * 3 * TV"), {"lam": 2.0})
    assert [weight.scale for weight in loss.weights] == [0.25, 0.75]


def test_a_schedule_keeps_its_place_in_a_settled_loss():
    assert repr(fix_knobs(parse("L1 + lam * OnFrom(10) * TV"), {"lam": 2.0})) == "L1() + 2.0 * OnFrom(10) * TV()"


def test_a_certificate_compares_what_was_trained(certified):
    record, series = certified
    assert record["certified"] in (True, False) and record["not_trained"] == []
    assert record["networks"] == {"separate": 2}
    assert [len(series[name]) for name in ("separate", "knob")] == [2, 3]


def test_the_knobs_own_ends_are_mixed_at_as_many_places_as_its_curve_has(certified):
    series = certified.series
    assert [point.at for point in series[OWN_ENDS]] == [point.at for point in series["knob"]]
    assert series[OWN_ENDS][::2] == series["knob"][::2]
    assert series[OWN_ENDS][1].figures != series["knob"][1].figures


def test_both_ways_of_turning_are_compared_and_said(certified):
    record = json.loads(json.dumps(certified.record))
    mixed = record["ends_mixed"]
    assert [point["at"] for point in mixed["curve"]] == [point["at"] for point in record["curve"]]
    assert [check["name"] for check in mixed["checks"]] == [check["name"] for check in record["checks"]]
    mixed["certified"], mixed["meets_bars"] = False, True
    assert "Turned by its mixed ends: meets the bars, but in swd two networks mixed cover more." in format_certificate(record)
    mixed["certified"] = True
    assert "Turned by its layers: NO, not certified.\nTurned by its mixed ends: certified." in format_certificate(record)


def test_ends_that_are_no_mix_of_losses_are_told(certified, run, pictures, monkeypatch):
    monkeypatch.setattr("lossmith.knob.verification.load_loss", lambda file: parse("L1 + lam*lam*TV"))
    record, series = verify_knob(run, pictures, values=2, **PLAIN)
    assert "ends_mixed" not in record and OWN_ENDS not in series
    assert "Its ends were not mixed. Answers are mixed as losses are" in format_certificate(record)


def test_published_networks_stand_in_the_plane_of_their_figures_alone(certified, tmp_path):
    record = json.loads(json.dumps(certified.record))
    assert record["published"] == {"networks": {}, "words": "Published figures are of set5, set14, bsd100, urban100; "
                                   "these pictures are others."}  # fmt: skip
    without = draw_certificate(record, certified.series, tmp_path / "without.png").read_bytes()
    record["published"] = {"networks": {"SRGAN": {"psnr_y": 26.2, "lpips_alex": 0.17}}, "words": "SPSR"}
    assert draw_certificate(record, certified.series, tmp_path / "other.png").read_bytes() == without  # a plane of swd
    assert "Published figures in the plane: SPSR." in format_certificate(record)
    record["published"]["networks"]["SRGAN"]["swd"] = 3.0
    assert draw_certificate(record, certified.series, tmp_path / "with.png").read_bytes() != without


@pytest.mark.parametrize(("scale", "drawn"), [(4, True), (2, False)])
def test_a_certificate_on_a_benchmark_has_the_published_networks_of_its_protocol(
    scale, drawn, pictures, tmp_path, monkeypatch
):
    folder = tmp_path / "Set5"
    folder.mkdir()
    for i in range(5):
        Image.open(pictures / f"{i % 4}.png").rotate(90 * i).save(folder / f"{i}.png")
    settings = Settings(
        images=str(pictures), loss="L1 + lam*TV", knobs={"lam": (0.03, 3.0)}, steps=1, scale=scale, batch=2, crop=16,
        val=str(pictures), val_count=1, model={"name": "edsr", "channels": 4, "blocks": 1},
    )  # fmt: skip
    train(settings, tmp_path / "run", accelerator="cpu", workers=0)
    figures = {"psnr_y": 28.43, "lpips_alex": 0.3435}  # what bicubic has on the pictures of that name
    row = SimpleNamespace(figures=figures)
    monkeypatch.setattr("lossmith.knob.evaluation_cache.judge", lambda *given, **other: [row])
    monkeypatch.setattr("lossmith.knob.verification.find_missing_metrics", lambda axes: {})
    monkeypatch.setattr("lossmith.knob.verification.find_shared_backbones", lambda loss, axes: {})
    found = verify_knob(tmp_path / "run", folder, realism=["lpips_alex"]).record["published"]
    assert ("ESRGAN" in found["networks"]) is drawn
    assert ("Ma et al., 2020" if drawn else "enlargement by 4") in found["words"]


def test_what_is_there_is_not_trained_or_judged_again(certified, run, pictures, monkeypatch):
    monkeypatch.setattr("lossmith.knob.verification.train", lambda *a, **k: pytest.fail("it trained again"))
    monkeypatch.setattr("lossmith.knob.evaluation_cache.judge", lambda *a, **k: pytest.fail("it judged again"))
    assert verify_knob(run, pictures, training=True, **PLAIN).record == certified.record


def test_other_pictures_of_the_same_name_are_judged_anew(certified, run, pictures, tmp_path):
    for file in pictures.iterdir():
        Image.open(file).rotate(180).save(tmp_path / file.name)
    assert verify_knob(run, tmp_path, **PLAIN).record["plain"] != certified.record["plain"]


def test_pictures_that_the_run_was_trained_on_are_counted(certified):
    assert certified.record["trained_on"] == 4
    assert "trained on 4 of the pictures" in format_certificate(certified.record)


def test_a_record_is_json_and_its_text_gives_the_verdict_first(certified):
    record = json.loads(json.dumps(certified.record, allow_nan=False))
    assert format_certificate(record).splitlines()[:2] == [
        "The knob lam, 0.03 to 3, on 4 pictures.",
        "Turned by its layers: NO, not certified.",
    ]


def test_a_grid_with_a_network_missing_is_none(certified, run, pictures):
    record, series = verify_knob(run, pictures, values=2, realism=["swd"])
    file = run / "verify" / "separate_2" / "lam=3" / "model.safetensors"
    hidden = file.rename(file.with_name("hidden"))
    try:
        record, series = verify_knob(run, pictures, values=2, **PLAIN)
    finally:
        hidden.rename(file)
    assert record["certified"] is None and "separate" not in series
    assert record["not_trained"] == ["verify/separate_2/lam=3"]


def test_the_planes_are_drawn(certified, tmp_path):
    drawn = Image.open(draw_certificate(certified.record, certified.series, tmp_path / "planes.png"))
    assert drawn.width == 400 and len(set(drawn.get_flattened_data())) > 5


def test_a_run_without_one_knob_has_nothing_to_certify(run, pictures, tmp_path):
    Settings.read(run / "config.json").write(tmp_path / "config.json", "0")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"knobs": {}}))
    with pytest.raises(ValueError, match=r"a run with one knob, --knob lam=0\.03:30; this one has none"):
        verify_knob(tmp_path, pictures, **PLAIN)


def test_an_unfinished_run_is_sent_back(run, pictures):
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(json.dumps(json.loads(config) | {"steps": 40}))
    try:
        with pytest.raises(ValueError, match="stands at step 4 of 40; let it end first"):
            verify_knob(run, pictures, **PLAIN)
    finally:
        (run / "config.json").write_text(config)


def test_an_unknown_axis_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="no axis of realism 'fid'; there are lpips_alex, dists, swd"):
        check_realism_metrics(["swd", "fid"])


def test_places_are_spread_evenly_in_their_logarithm():
    assert log_spaced(0.01, 1.0, 3) == [0.01, pytest.approx(0.1), 1.0]
    assert all(math.isclose(b / a, 10**0.5) for a, b in [log_spaced(1.0, 10**0.5, 2)])

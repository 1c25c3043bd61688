import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from lossmith import parse
from lossmith.knob.baselines import fix_knobs, list_baselines, log_spaced
from lossmith.knob.certificate import INTERPOLATED_OUTPUTS
from lossmith.knob.report.certificate import format_certificate
from lossmith.knob.report.certificate_plot import draw_certificate
from lossmith.knob.verification import check_realism_metrics, verify_knob
from lossmith.train import Settings, train

SWD = {"realism": ["swd"]}  # the metric without pretrained weights


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Four images of noise on a gradient, which a network can denoise."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(4):
        gradient = Image.linear_gradient("L").resize((48, 48)).rotate(90 * i)
        Image.merge("RGB", [Image.blend(gradient, Image.effect_noise((48, 48), 40), 0.3)] * 3).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """A complete run with a knob."""
    out = tmp_path_factory.mktemp("runs") / "knob"
    settings = Settings(
        images=str(images), loss="L1 + lam*TV", knobs={"lam": (0.03, 3.0)}, steps=4, scale=2, batch=2, crop=16,
        val=str(images), val_count=1, model={"name": "edsr", "channels": 4, "blocks": 1},
    )  # fmt: skip
    train(settings, out, device="cpu", workers=0)
    return out


@pytest.fixture(scope="module")
def verified(run, images):
    """The certificate of the run with trained baselines, and its points."""
    return verify_knob(run, images, values=2, train_missing=True, **SWD)


@pytest.mark.slow
def test_a_run_without_baselines_has_a_curve(run, images):
    record, series = verify_knob(run, images, **SWD)
    assert record["certified"] is None and set(series) == {"no network", "knob", INTERPOLATED_OUTPUTS}
    assert [point["knob_value"] for point in record["curve"]] == pytest.approx(log_spaced(0.03, 3.0, 7))
    text = format_certificate(record)
    assert "nothing is certified" in text and "--train trains them" in text
    assert not (run / "verify").exists()


def test_the_separate_networks_take_as_many_steps_as_the_knob(run):
    separate = list_baselines(run, values=2)
    assert [baseline.knob_value for baseline in separate] == [0.03, 3.0]
    assert sum(baseline.settings.steps for baseline in separate) == 4


def test_baselines_have_the_settings_of_the_run_except_for_the_loss(run):
    settings = Settings.read(run / "config.json")
    for baseline in list_baselines(run, values=2):
        own = replace(
            baseline.settings, loss=settings.loss, knobs=settings.knobs, steps=4, val_every=settings.val_every
        )
        assert own == settings


def test_baselines_are_trained_on_the_loss_at_their_knob_values(run):
    low, high = list_baselines(run, values=2)
    assert parse(high.settings.loss).weights[0].scale == pytest.approx(0.25)
    assert low.settings.loss.startswith("0.97")


def test_shorter_knobs_and_networks_of_equal_length_are_baselines_too(run):
    *_, equal, shorter = list_baselines(run, values=2, equal=[0.5], shorter=[1])
    assert equal.settings.steps == 4 and not equal.settings.knobs and equal.folder.name == "lam=0.5"
    assert shorter.settings.steps == 2 and shorter.settings.knobs == {"lam": (0.03, 3.0)}


def test_a_knob_value_out_of_range_and_too_few_steps_are_rejected(run):
    with pytest.raises(ValueError, match=r"trained from 0\.03 to 3; got 5"):
        list_baselines(run, equal=[5.0], values=2)
    with pytest.raises(ValueError, match="at most the run's 4 steps; got 5"):
        list_baselines(run, values=5)


def test_a_loss_with_fixed_knobs_has_weights_of_sum_one():
    loss = fix_knobs(parse("2*L1 + lam * 3 * TV"), {"lam": 2.0})
    assert [weight.scale for weight in loss.weights] == [0.25, 0.75]


def test_a_loss_with_fixed_knobs_keeps_its_schedules():
    fixed = fix_knobs(parse("L1 + lam * OnFrom(10) * TV"), {"lam": 2.0})
    assert repr(fixed) == "L1() + 2.0 * OnFrom(10) * TV()"


@pytest.mark.slow
def test_a_certificate_compares_the_trained_networks(verified):
    record, series = verified
    assert record["certified"] in (True, False) and record["untrained"] == []
    assert record["baseline_steps"] == {"separate": 2}
    assert [len(series[name]) for name in ("separate", "knob")] == [2, 3]


def test_interpolated_outputs_are_evaluated_at_the_knob_values_of_the_curve(verified):
    series = verified.series
    knob, interpolated = series["knob"], series[INTERPOLATED_OUTPUTS]
    assert [point.knob_value for point in interpolated] == [point.knob_value for point in knob]
    assert interpolated[::2] == knob[::2]
    assert interpolated[1].image_metrics != knob[1].image_metrics


def test_the_text_has_the_results_of_both_ways_to_use_the_knob(verified):
    record = json.loads(json.dumps(verified.record))
    interpolated = record["interpolated_outputs"]
    values, names = (
        [each[key] for each in record[part]] for part, key in (("curve", "knob_value"), ("checks", "name"))
    )
    assert [point["knob_value"] for point in interpolated["curve"]] == values
    assert [check["name"] for check in interpolated["checks"]] == names
    interpolated["certified"], interpolated["meets_thresholds"] = False, True
    result = "Interpolated outputs: meets the thresholds, but in swd interpolation between two networks covers more."
    assert result in format_certificate(record)
    interpolated["certified"] = True
    assert "Conditioned layers: NOT certified.\nInterpolated outputs: certified." in format_certificate(record)


def test_the_text_says_why_outputs_were_not_interpolated(verified, run, images, monkeypatch):
    monkeypatch.setattr("lossmith.knob.verification.load", lambda file: parse("L1 + lam*lam*TV"))
    record, series = verify_knob(run, images, values=2, **SWD)
    assert "interpolated_outputs" not in record and INTERPOLATED_OUTPUTS not in series
    assert "The outputs were not interpolated. Outputs are interpolated as losses are" in format_certificate(record)


def test_published_networks_appear_in_the_plot_of_their_metrics_only(verified, tmp_path):
    record = json.loads(json.dumps(verified.record))
    note = "Published results exist for set5, set14, bsd100, urban100; these are other images."
    assert record["published"] == {"networks": {}, "note": note}
    without = draw_certificate(record, verified.series, tmp_path / "without.png").read_bytes()
    record["published"] = {"networks": {"SRGAN": {"psnr_y": 26.2, "lpips_alex": 0.17}}, "note": "SPSR"}
    assert draw_certificate(record, verified.series, tmp_path / "other.png").read_bytes() == without  # a plot of swd
    assert "Published results in the figure: SPSR." in format_certificate(record)
    record["published"]["networks"]["SRGAN"]["swd"] = 3.0
    assert draw_certificate(record, verified.series, tmp_path / "with.png").read_bytes() != without


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "has_published"), [(4, True), (2, False)])
def test_a_certificate_on_a_benchmark_has_the_published_networks_of_its_protocol(
    scale, has_published, images, tmp_path, monkeypatch
):
    folder = tmp_path / "Set5"
    folder.mkdir()
    for i in range(5):
        Image.open(images / f"{i % 4}.png").rotate(90 * i).save(folder / f"{i}.png")
    settings = Settings(
        images=str(images), loss="L1 + lam*TV", knobs={"lam": (0.03, 3.0)}, steps=1, scale=scale, batch=2, crop=16,
        val=str(images), val_count=1, model={"name": "edsr", "channels": 4, "blocks": 1},
    )  # fmt: skip
    train(settings, tmp_path / "run", device="cpu", workers=0)
    evaluated = SimpleNamespace(metrics={"psnr_y": 28.43, "lpips_alex": 0.3435})  # bicubic interpolation on Set5
    monkeypatch.setattr("lossmith.knob.evaluation_cache.evaluate_images", lambda *args, **kwargs: [evaluated])
    monkeypatch.setattr("lossmith.knob.verification.find_missing_metrics", lambda metrics, **_: {})
    monkeypatch.setattr("lossmith.knob.verification.find_shared_backbones", lambda loss, metrics: {})
    published = verify_knob(tmp_path / "run", folder, realism=["lpips_alex"]).record["published"]
    assert ("ESRGAN" in published["networks"]) is has_published
    assert ("Ma et al., 2020" if has_published else "exist for scale 4") in published["note"]


def test_existing_baselines_and_metrics_are_reused(verified, run, images, monkeypatch):
    monkeypatch.setattr("lossmith.knob.verification.train", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(
        "lossmith.knob.evaluation_cache.evaluate_images", lambda *a, **k: pytest.fail("evaluated again")
    )
    assert verify_knob(run, images, train_missing=True, **SWD).record == verified.record


@pytest.mark.slow
def test_other_images_of_the_same_names_are_evaluated(verified, run, images, tmp_path):
    for file in images.iterdir():
        Image.open(file).rotate(180).save(tmp_path / file.name)
    assert verify_knob(run, tmp_path, **SWD).record["no_network"] != verified.record["no_network"]


def test_training_images_among_the_images_are_counted(verified):
    assert verified.record["training_images"] == 4
    assert "trained on 4 of the images" in format_certificate(verified.record)


def test_the_record_is_json_and_its_text_begins_with_the_results(verified):
    record = json.loads(json.dumps(verified.record, allow_nan=False))
    assert format_certificate(record).splitlines()[:2] == [
        "The knob lam, 0.03 to 3, on 4 images.",
        "Conditioned layers: NOT certified.",
    ]


def test_an_incomplete_set_of_separate_networks_is_left_out(verified, run, images):
    file = run / "verify" / "separate_2" / "lam=3" / "model.safetensors"
    hidden = file.rename(file.with_name("hidden"))
    try:
        record, series = verify_knob(run, images, values=2, **SWD)
    finally:
        hidden.rename(file)
    assert record["certified"] is None and "separate" not in series
    assert record["untrained"] == ["verify/separate_2/lam=3"]


def test_the_certificate_is_drawn(verified, tmp_path):
    drawn = Image.open(draw_certificate(verified.record, verified.series, tmp_path / "certificate.png"))
    assert drawn.width == 400 and len(set(drawn.get_flattened_data())) > 5


def test_a_run_without_a_knob_is_rejected(run, images, tmp_path):
    Settings.read(run / "config.json").write(tmp_path / "config.json", "0")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"knobs": {}}))
    with pytest.raises(ValueError, match=r"a run with one knob, --knob lam=0\.03:30; this run has none"):
        verify_knob(tmp_path, images, **SWD)


def test_an_incomplete_run_is_rejected(run, images):
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(json.dumps(json.loads(config) | {"steps": 40}))
    try:
        with pytest.raises(ValueError, match="is at step 4 of 40; complete it first"):
            verify_knob(run, images, **SWD)
    finally:
        (run / "config.json").write_text(config)


def test_an_unknown_realism_metric_is_rejected_with_the_known_ones():
    with pytest.raises(ValueError, match="realism must be one of 'lpips_alex', 'dists', 'swd'; got 'fid'"):
        check_realism_metrics(["swd", "fid"])


def test_log_spaced_values_have_a_constant_ratio():
    assert log_spaced(0.01, 1.0, 3) == [0.01, pytest.approx(0.1), 1.0]
    assert all(math.isclose(b / a, 10**0.5) for a, b in [log_spaced(1.0, 10**0.5, 2)])

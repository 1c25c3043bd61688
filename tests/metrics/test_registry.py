import math
import re
from pathlib import Path

import pytest
import torch

from lossmith import parse
from lossmith.image import quantize_8bit
from lossmith.losses import dists
from lossmith.metrics import (
    DEFAULT_METRICS,
    METRICS,
    compute_metrics,
    describe_protocol,
    find_missing_metrics,
    find_shared_backbones,
    psnr,
    swd,
)
from lossmith.pretrained.locate import MissingWeightsError
from lossmith.tasks import SuperResolution

WITHOUT_NETWORK = ("psnr_y", "psnr_rgb", "ssim_y", "texture")


@pytest.fixture
def pair(image_pair):
    return image_pair(1, 40)


@pytest.fixture
def no_weights(monkeypatch):
    def raise_missing(*images):
        raise MissingWeightsError("No weights for alexnet were found.")

    monkeypatch.setattr("lossmith.metrics.network_metrics.network_loss", lambda key: raise_missing)


def test_the_requested_metrics_are_returned_in_order(pair):
    assert tuple(compute_metrics(*pair, border=4, metrics=WITHOUT_NETWORK)) == WITHOUT_NETWORK


def test_the_border_does_not_affect_the_metrics(pair):
    pred, target = pair
    changed = pred.clone()
    changed[..., :4, :] = 1 - changed[..., :4, :]
    assert compute_metrics(changed, target, border=4, metrics=WITHOUT_NETWORK) == compute_metrics(
        pred, target, border=4, metrics=WITHOUT_NETWORK
    )


def test_without_a_border_all_pixels_count(pair):
    pred, target = pair
    assert compute_metrics(pred, target, border=0, metrics=["psnr_rgb"])["psnr_rgb"] == psnr(
        quantize_8bit(pred), quantize_8bit(target)
    )


def test_predictions_are_clipped_and_rounded_to_8_bits(pair):
    _, target = pair
    target = quantize_8bit(target)
    almost = torch.where(target == 1, 1.3, target + 0.4 / 255)
    assert compute_metrics(almost, target, border=2, metrics=["psnr_y"])["psnr_y"] == math.inf


def test_a_metric_with_missing_weights_is_left_out_and_reported(pair, no_weights):
    assert "lpips_alex" not in compute_metrics(*pair, border=2)
    assert find_missing_metrics() == {"lpips_alex": "No weights for alexnet were found."}


def test_metrics_that_were_not_requested_are_not_reported_as_missing(no_weights):
    assert find_missing_metrics(WITHOUT_NETWORK) == {}


def test_every_metric_has_a_protocol():
    protocol = describe_protocol(4)
    assert tuple(protocol) == DEFAULT_METRICS and all(
        text.endswith("8 bits, border of 4 px left out") for text in protocol.values()
    )


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 36), "equal shape"),
        (torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32), r"\(1, C, H, W\); got \(2, 3, 32, 32\)"),
        (torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32), r"psnr needs .* \(N, 3, H, W\); got \(1, 4, 24, 24\)"),
        (
            torch.zeros(1, 3, 32, 18),
            torch.zeros(1, 3, 32, 18),
            "at least 19 px for a border of 4 px and psnr_y, .*; got 32x18",
        ),
        (torch.full((1, 3, 32, 32), torch.nan), torch.zeros(1, 3, 32, 32), "NaN or infinite"),
    ],
)
def test_invalid_images_raise_a_value_error(pred, target, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(pred, target, border=4, metrics=WITHOUT_NETWORK)


def test_dists_is_left_out_without_weights_and_swd_is_not(pair, no_weights):
    assert tuple(compute_metrics(*pair, border=2, metrics=["dists", "swd"])) == ("swd",)
    assert tuple(find_missing_metrics(["dists", "swd"])) == ("dists",)


def test_swd_uses_the_rounded_image_without_its_border(pair):
    inner = [quantize_8bit(image)[..., 4:-4, 4:-4] for image in pair]
    assert compute_metrics(*pair, border=4, metrics=["swd"]) == {"swd": swd(*inner)}


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("L1", {}),
        ("L1 + 0.1 * perceptual('vgg19')", {}),
        ("L1 + lam * perceptual('vgg16')", {"dists": "vgg16"}),
        ("dists()", {"dists": "vgg16"}),
        ("lpips('vgg')", {"dists": "vgg16"}),
        ("L1 + lpips('alex') + style('vgg16')", {"lpips_alex": "alexnet", "dists": "vgg16"}),
    ],
)
def test_metrics_that_share_a_backbone_with_the_loss_are_found(text, shared):
    assert find_shared_backbones(parse(text), ["lpips_alex", "dists", "swd"]) == shared


def test_an_unknown_metric_raises_a_value_error_with_the_known_ones(pair):
    with pytest.raises(ValueError, match="There is no metric 'ssim'; the metrics are psnr_y, psnr_rgb, ssim_y, "):
        compute_metrics(*pair, border=4, metrics=["ssim"])


NO_REFERENCE = {"grid", "grid_p90"}
"""Metrics of a prediction alone, for which the target is not always the best image."""


@pytest.mark.parametrize("name", [name for name in METRICS if name not in NO_REFERENCE])
def test_a_metric_is_best_for_the_target_itself(name, image_pair, assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    pred, target = image_pair(1, 176)
    of_pred, of_target = (compute_metrics(x, target, border=0, metrics=[name])[name] for x in (pred, target))
    metric = METRICS[name]
    assert metric.quality(of_target) > metric.quality(of_pred)
    assert metric.ideal is None or of_target == pytest.approx(metric.ideal, abs=1e-6)


def test_metrics_of_rgb_are_reported_as_missing_for_other_channels():
    missing = find_missing_metrics(["psnr_y", "psnr_rgb", "dists"], channels=8)
    assert missing == dict.fromkeys(("psnr_y", "dists"), "It needs RGB images; these have 8 channels.")


@pytest.mark.parametrize("channels", [1, 8])
def test_metrics_that_need_no_rgb_are_computed_for_any_channels(channels):
    names = [metric.key for metric in METRICS.values() if not metric.needs_rgb and channels >= metric.min_channels]
    pair = torch.rand(2, 1, channels, 48, 48, generator=torch.Generator().manual_seed(0))
    assert list(compute_metrics(*pair, border=2, metrics=names)) == names


def test_the_page_on_metrics_lists_every_metric():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == list(METRICS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "psnr_y", "lpips_alex"), [("Set5", 28.43, 0.3435), ("Set14", 26.09, 0.4397)])
def test_bicubic_reaches_its_published_metrics(name, psnr_y, lpips_alex, assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    task = SuperResolution(4)
    rows = [
        compute_metrics(
            task.baseline_output(example.batch), example.batch["target"], border=4, metrics=["psnr_y", "lpips_alex"]
        )
        for example in task.evaluation_set(assets / "images" / "benchmark" / name)
    ]
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    assert mean["psnr_y"] == pytest.approx(psnr_y, abs=0.01)
    assert mean["lpips_alex"] == pytest.approx(lpips_alex, abs=0.002)


def test_dists_equals_the_loss_without_the_border(pair, assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    inner = [quantize_8bit(image)[..., 4:-4, 4:-4] for image in pair]
    assert compute_metrics(*pair, border=4, metrics=["dists"])["dists"] == pytest.approx(dists()(*inner).item())

import math

import pytest
import torch

from lossmith import parse
from lossmith.image import quantize_8bit
from lossmith.losses import dists
from lossmith.metrics import DEFAULT_METRICS, find_missing_metrics, describe_protocol, psnr, compute_metrics, find_shared_backbones, swd
from lossmith.pretrained.locate import MissingWeightsError
from lossmith.tasks import SuperResolution

PLAIN = ("psnr_y", "psnr_rgb", "ssim_y", "texture")


@pytest.fixture
def pair(image_pair):
    return image_pair(1, 40)


@pytest.fixture
def no_weights(monkeypatch):
    def absent(*images):
        raise MissingWeightsError("No weights for alexnet were found.")

    monkeypatch.setattr("lossmith.metrics.registry._judge", lambda name: absent)


def test_every_metric_asked_for_is_given_in_order(pair):
    assert tuple(compute_metrics(*pair, border=4, which=PLAIN)) == PLAIN


def test_the_border_is_left_out(pair):
    pred, target = pair
    spoilt = pred.clone()
    spoilt[..., :4, :] = 1 - spoilt[..., :4, :]
    assert compute_metrics(spoilt, target, border=4, which=PLAIN) == compute_metrics(pred, target, border=4, which=PLAIN)


def test_without_a_border_everything_counts(pair):
    pred, target = pair
    assert compute_metrics(pred, target, border=0, which=["psnr_rgb"])["psnr_rgb"] == psnr(quantize_8bit(pred), quantize_8bit(target))


def test_predictions_are_clipped_and_rounded_as_in_a_file(pair):
    _, target = pair
    target = quantize_8bit(target)
    almost = torch.where(target == 1, 1.3, target + 0.4 / 255)
    assert compute_metrics(almost, target, border=2, which=["psnr_y"])["psnr_y"] == math.inf


def test_a_metric_without_its_weights_is_left_out_and_named(pair, no_weights):
    assert "lpips_alex" not in compute_metrics(*pair, border=2)
    assert find_missing_metrics() == {"lpips_alex": "No weights for alexnet were found."}


def test_nothing_is_missing_that_was_not_asked_for(no_weights):
    assert find_missing_metrics(PLAIN) == {}


def test_every_figure_has_its_protocol():
    words = describe_protocol(4)
    assert tuple(words) == DEFAULT_METRICS and all(text.endswith("8 bits, border of 4 px left out") for text in words.values())


@pytest.mark.parametrize(
    ("pred", "target", "words"),
    [
        (torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 36), "one shape"),
        (torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32), r"\(1, 3, H, W\); got \(2, 3, 32, 32\)"),
        (torch.zeros(1, 3, 32, 18), torch.zeros(1, 3, 32, 18), "at least 19 px a side with a border of 4; got 32x18"),
        (torch.full((1, 3, 32, 32), torch.nan), torch.zeros(1, 3, 32, 32), "NaN or infinite"),
    ],
)
def test_pictures_that_cannot_be_scored_are_refused(pred, target, words):
    with pytest.raises(ValueError, match=words):
        compute_metrics(pred, target, border=4, which=PLAIN)


def test_both_distances_of_textures_are_left_out_and_named_without_their_weights(pair, no_weights):
    assert tuple(compute_metrics(*pair, border=2, which=["dists", "swd"])) == ("swd",)
    assert tuple(find_missing_metrics(["dists", "swd"])) == ("dists",)


def test_the_patches_are_those_of_the_rounded_picture_inside_the_border(pair):
    inner = [quantize_8bit(image)[..., 4:-4, 4:-4] for image in pair]
    assert compute_metrics(*pair, border=4, which=["swd"]) == {"swd": swd(*inner)}


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
def test_a_metric_that_looks_through_a_network_of_the_loss_is_named(text, shared):
    assert find_shared_backbones(parse(text), ["lpips_alex", "dists", "swd"]) == shared


def test_an_unknown_metric_is_named_with_those_that_there_are(pair):
    with pytest.raises(ValueError, match="no metric 'ssim'; there are psnr_y, "):
        compute_metrics(*pair, border=4, which=["ssim"])


@pytest.mark.parametrize(("name", "psnr_y", "lpips_alex"), [("Set5", 28.43, 0.3435), ("Set14", 26.09, 0.4397)])
def test_bicubic_gives_its_published_figures(name, psnr_y, lpips_alex, assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    task = SuperResolution(4)
    figures = [
        compute_metrics(task.baseline_output(example.batch), example.batch["target"], border=4, which=["psnr_y", "lpips_alex"])
        for example in task.evaluation_set(assets / "images" / "benchmark" / name)
    ]
    mean = {key: sum(figure[key] for figure in figures) / len(figures) for key in figures[0]}
    assert mean["psnr_y"] == pytest.approx(psnr_y, abs=0.01)
    assert mean["lpips_alex"] == pytest.approx(lpips_alex, abs=0.002)


def test_dists_is_the_loss_of_that_name_inside_the_border(pair, assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    inner = [quantize_8bit(image)[..., 4:-4, 4:-4] for image in pair]
    assert compute_metrics(*pair, border=4, which=["dists"])["dists"] == pytest.approx(dists()(*inner).item())

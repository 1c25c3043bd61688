"""An evaluation: its means, and its batches of images of equal size."""

import math

import pytest
import torch

from lossmith.data import Example
from lossmith.metrics import METRICS
from lossmith.train.evaluation import evaluate_images, mean_metrics


def test_every_metric_of_the_registry_is_averaged():
    assert mean_metrics([dict.fromkeys(METRICS, 1.0), dict.fromkeys(METRICS, 3.0)]) == dict.fromkeys(METRICS, 2.0)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_values_that_are_not_finite_are_left_out(value):
    assert mean_metrics([{"psnr_y": value, "dists": 1.0}, {"psnr_y": 30.0}]) == {"psnr_y": 30.0, "dists": 1.0}


SIDES = [(48, 64), (64, 48), (48, 64), (48, 64), (64, 48), (48, 64), (56, 56)]


def examples():
    """Return images of three sizes."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 3, *side, generator=generator) for side in SIDES]
    return [Example(str(i), {"input": image * 0.9, "target": image}) for i, image in enumerate(images)]


def evaluate(**options):
    """Return the evaluated images, and the number of images in each call of the network."""
    counts = []

    def restore(batch):
        counts.append(len(batch["input"]))
        return batch["input"]

    metrics = ["psnr_y", "ssim_y", "texture", "swd"]
    return list(evaluate_images(examples(), restore, border=2, which=metrics, **options)), counts


def test_images_are_restored_one_by_one_on_a_cpu():
    assert evaluate()[1] == [1] * 7


def test_images_of_equal_size_are_restored_together():
    assert evaluate(batch_pixels=48 * 64 * 3)[1] == [3, 1, 2, 1]


def test_batches_change_neither_order_nor_metrics():
    alone, together = evaluate()[0], evaluate(batch_pixels=48 * 64 * 3)[0]
    assert [(each.name, each.metrics) for each in together] == [(each.name, each.metrics) for each in alone]
    torch.testing.assert_close([each.pred for each in together], [each.pred for each in alone], rtol=0, atol=0)


def test_a_prediction_that_is_not_finite_raises():
    with pytest.raises(ValueError, match="finite"):
        list(evaluate_images(examples(), lambda batch: batch["input"] * torch.nan, border=0, which=["psnr_y"]))


def test_an_evaluation_that_is_not_finished_ends_its_threads():
    images = evaluate_images(examples(), lambda batch: batch["input"], border=0, which=["psnr_y"])
    assert next(images).name == "0"
    images.close()

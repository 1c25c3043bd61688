"""The means of an evaluation: of the metrics that were computed, whichever they are."""

import math

import pytest

from lossmith.metrics import METRICS
from lossmith.train.evaluation import mean_metrics


def test_every_metric_of_the_registry_is_averaged():
    assert mean_metrics([dict.fromkeys(METRICS, 1.0), dict.fromkeys(METRICS, 3.0)]) == dict.fromkeys(METRICS, 2.0)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_values_that_are_not_finite_are_left_out(value):
    assert mean_metrics([{"psnr_y": value, "dists": 1.0}, {"psnr_y": 30.0}]) == {"psnr_y": 30.0, "dists": 1.0}

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith import parse
from lossmith.models import EDSR
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.monitor.step_weights import normalized_weighted_sum
from lossmith.train.knob_sampling import KnobSampler

VALUES = {"L1": torch.tensor([0.1, 0.3]), "TV": torch.tensor([0.5, 0.7])}


def sample_knobs(count=16, ends=0.125, seed=0, **ranges):
    return KnobSampler(ranges or {"lam": (0.03, 30.0)}, ends)(count, generator=torch.Generator().manual_seed(seed))


def test_a_batch_covers_the_range_evenly_in_the_logarithm():
    positions = (sample_knobs(ends=0.0)["lam"] / 0.03).log() / math.log(1000)
    assert (positions.sort().values * 16).floor().tolist() == list(range(16))


def test_the_given_fraction_of_images_is_at_an_end():
    lam = torch.cat([sample_knobs(seed=seed)["lam"] for seed in range(100)])
    for end in (0.03, 30.0):
        assert (lam / end - 1).abs().lt(1e-6).float().mean().item() == pytest.approx(0.0625, abs=0.005)


def test_all_values_lie_in_the_range():
    lam = torch.cat([sample_knobs(seed=seed)["lam"] for seed in range(50)])
    assert lam.min() >= 0.03 * (1 - 1e-6) and lam.max() <= 30 * (1 + 1e-6)


def test_a_batch_of_one_covers_the_range_over_many_batches():
    values = torch.cat([sample_knobs(1, seed=seed)["lam"] for seed in range(300)]).log()
    assert values.median().item() == pytest.approx(math.log(0.03 * 30) / 2, abs=0.6)


def test_two_knobs_are_sampled_independently():
    both = sample_knobs(64, lam=(0.1, 10.0), mu=(0.1, 10.0))
    assert torch.stack([both["lam"].log(), both["mu"].log()]).corrcoef()[0, 1].abs() < 0.3


def test_the_same_seed_gives_the_same_values():
    assert_close(sample_knobs(), sample_knobs(), rtol=0, atol=0)


def test_a_fraction_of_one_raises():
    with pytest.raises(ValueError, match="ends must be at least 0 and less than 1; got 1"):
        KnobSampler({"lam": (0.1, 1.0)}, ends=1)


def test_the_weight_of_an_image_does_not_depend_on_its_knob():
    loss, lam = parse("L1 + lam*TV"), torch.tensor([0.25, 4.0])
    expected = ((0.1 + 0.25 * 0.5) / 1.25 + (0.3 + 4 * 0.7) / 5) / 2
    assert_close(normalized_weighted_sum(loss, VALUES, 0, {"lam": lam}), torch.tensor(expected))


def test_a_common_factor_of_all_weights_has_no_effect():
    lam = {"lam": torch.tensor([0.25, 4.0])}
    assert_close(
        normalized_weighted_sum(parse("7*L1 + 7*lam*TV"), VALUES, 0, lam),
        normalized_weighted_sum(parse("L1 + lam*TV"), VALUES, 0, lam),
    )


def test_a_negative_weight_counts_with_its_magnitude():
    assert_close(normalized_weighted_sum(parse("L1 - lam*TV"), VALUES, 0, {"lam": 1.0}), torch.tensor(-0.2))


def test_a_term_with_weight_zero_may_be_absent():
    assert_close(
        normalized_weighted_sum(parse("lam*L1 + OnFrom(9)*TV"), {"L1": VALUES["L1"]}, 0, {"lam": 3.0}),
        torch.tensor(0.2),
    )


def test_a_map_as_weight_raises():
    with pytest.raises(ValueError, match=r"weight of 'TV' must be .* \(2,\); a knob has shape \(2, 1, 4, 4\)"):
        normalized_weighted_sum(parse("L1 + lam*TV"), VALUES, 0, {"lam": torch.ones(2, 1, 4, 4)})


@pytest.fixture(scope="module")
def terms_over_range():
    """Train a small network with L1 + lam * TV over the whole range, and return the terms at seven values."""
    generator = torch.Generator().manual_seed(0)
    row = torch.arange(24.0)
    angles = torch.rand(8, 3, 2, 1, 1, generator=generator) * 2
    stripes = (angles[:, :, 0] * row[:, None] + angles[:, :, 1] * row).sin().gt(0).float()
    target = (0.6 * stripes + 0.4 * torch.rand(stripes.shape, generator=generator)).clamp(0, 1)
    small = F.avg_pool2d(target, 2)
    loss, sampler = parse("L1 + lam*TV"), KnobSampler({"lam": (0.03, 3.0)})
    torch.manual_seed(0)
    model = ConditionedNetwork(EDSR(2, channels=8, blocks=2), sampler.ranges)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(150):
        knobs = sampler(len(small))
        values = loss.evaluate({"pred": model(small, **knobs), "target": target})
        optimizer.zero_grad()
        normalized_weighted_sum(loss, values, step, knobs).backward()
        optimizer.step()
    with torch.no_grad():
        outputs = [model.eval()(small, lam=0.03 * 100 ** (i / 6)) for i in range(7)]
    return [
        {name: value.mean().item() for name, value in loss.evaluate({"pred": y, "target": target}).items()}
        for y in outputs
    ]


def test_a_trained_knob_trades_one_term_for_the_other(terms_over_range):
    variations, errors = [row["TV"] for row in terms_over_range], [row["L1"] for row in terms_over_range]
    assert variations == sorted(variations, reverse=True)
    assert errors == sorted(errors)


def test_a_trained_knob_has_a_wide_range(terms_over_range):
    assert terms_over_range[-1]["TV"] < 0.5 * terms_over_range[0]["TV"]

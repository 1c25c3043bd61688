import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith import parse
from lossmith.models import EDSR
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.train.knob_sampling import KnobSampler, normalized_weighted_sum

VALUES = {"L1": torch.tensor([0.1, 0.3]), "TV": torch.tensor([0.5, 0.7])}


def drawn(count=16, ends=0.125, seed=0, **ranges):
    return KnobSampler(ranges or {"lam": (0.03, 30.0)}, ends)(count, generator=torch.Generator().manual_seed(seed))


def test_a_batch_is_spread_evenly_over_the_logarithm():
    places = (drawn(ends=0.0)["lam"] / 0.03).log() / math.log(1000)
    assert (places.sort().values * 16).floor().tolist() == list(range(16))


def test_an_eighth_of_the_pictures_stands_on_an_end():
    lam = torch.cat([drawn(seed=seed)["lam"] for seed in range(100)])
    for end in (0.03, 30.0):
        assert (lam / end - 1).abs().lt(1e-6).float().mean().item() == pytest.approx(0.0625, abs=0.005)


def test_nothing_lies_outside_of_the_range():
    lam = torch.cat([drawn(seed=seed)["lam"] for seed in range(50)])
    assert lam.min() >= 0.03 * (1 - 1e-6) and lam.max() <= 30 * (1 + 1e-6)


def test_one_picture_still_gets_every_place():
    places = torch.cat([drawn(1, seed=seed)["lam"] for seed in range(300)]).log()
    assert places.median().item() == pytest.approx(math.log(0.03 * 30) / 2, abs=0.6)


def test_two_knobs_are_drawn_apart():
    both = drawn(64, lam=(0.1, 10.0), mu=(0.1, 10.0))
    assert torch.stack([both["lam"].log(), both["mu"].log()]).corrcoef()[0, 1].abs() < 0.3


def test_the_same_seed_draws_the_same():
    assert_close(drawn(), drawn(), rtol=0, atol=0)


def test_a_part_on_the_ends_is_less_than_all():
    with pytest.raises(ValueError, match=r"on the ends in \[0, 1\); got 1"):
        KnobSampler({"lam": (0.1, 1.0)}, ends=1)


def test_a_picture_counts_as_much_whatever_its_knob():
    loss, lam = parse("L1 + lam*TV"), torch.tensor([0.25, 4.0])
    wanted = ((0.1 + 0.25 * 0.5) / 1.25 + (0.3 + 4 * 0.7) / 5) / 2
    assert_close(normalized_weighted_sum(loss, VALUES, 0, {"lam": lam}), torch.tensor(wanted))


def test_scaling_all_weights_changes_nothing():
    lam = {"lam": torch.tensor([0.25, 4.0])}
    assert_close(normalized_weighted_sum(parse("7*L1 + 7*lam*TV"), VALUES, 0, lam), normalized_weighted_sum(parse("L1 + lam*TV"), VALUES, 0, lam))


def test_a_rewarded_term_does_not_shrink_the_sum_of_weights():
    assert_close(normalized_weighted_sum(parse("L1 - lam*TV"), VALUES, 0, {"lam": 1.0}), torch.tensor(-0.2))


def test_a_term_whose_weight_is_zero_may_be_absent():
    assert_close(normalized_weighted_sum(parse("lam*L1 + OnFrom(9)*TV"), {"L1": VALUES["L1"]}, 0, {"lam": 3.0}), torch.tensor(0.2))


def test_a_map_is_no_weight():
    with pytest.raises(ValueError, match=r"weight of 'TV' wants .* \(2,\); a knob gave \(2, 1, 4, 4\)"):
        normalized_weighted_sum(parse("L1 + lam*TV"), VALUES, 0, {"lam": torch.ones(2, 1, 4, 4)})


@pytest.fixture(scope="module")
def turned():
    """Noisy stripes, and a small network trained to enlarge them with L1 + lam * TV over the whole range."""
    chance = torch.Generator().manual_seed(0)
    row = torch.arange(24.0)
    angles = torch.rand(8, 3, 2, 1, 1, generator=chance) * 2
    stripes = (angles[:, :, 0] * row[:, None] + angles[:, :, 1] * row).sin().gt(0).float()
    target = (0.6 * stripes + 0.4 * torch.rand(stripes.shape, generator=chance)).clamp(0, 1)
    small = F.avg_pool2d(target, 2)
    loss, draw = parse("L1 + lam*TV"), KnobSampler({"lam": (0.03, 3.0)})
    torch.manual_seed(0)
    model = ConditionedNetwork(EDSR(2, channels=8, blocks=2), draw.ranges)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(150):
        knobs = draw(len(small))
        values = loss.evaluate({"pred": model(small, **knobs), "target": target})
        optimizer.zero_grad()
        normalized_weighted_sum(loss, values, step, knobs).backward()
        optimizer.step()
    with torch.no_grad():
        answers = [model.eval()(small, lam=0.03 * 100 ** (i / 6)) for i in range(7)]
    return [
        {name: value.mean().item() for name, value in loss.evaluate({"pred": y, "target": target}).items()}
        for y in answers
    ]


def test_a_trained_knob_turns_the_picture_from_one_term_to_the_other(turned):
    variations, errors = [row["TV"] for row in turned], [row["L1"] for row in turned]
    assert variations == sorted(variations, reverse=True)
    assert errors == sorted(errors)


def test_a_trained_knob_goes_far(turned):
    assert turned[-1]["TV"] < 0.5 * turned[0]["TV"]

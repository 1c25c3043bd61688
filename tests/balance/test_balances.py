"""Balancers as functions of numbers: invariants, limits and text."""

import pytest
import torch
from torch.testing import assert_close

from lossmith.balance import Adaptive, GradNorm, Share, TorchJD, Uncertainty, parse_balance

NAMES = ["L1", "perceptual", "style"]
REQUESTED = torch.tensor([0.5, -0.3, 0.2])
pytest.importorskip("torchjd")


def simulate(steps=6, m=3):
    """Yield values and Gramians of a simulated training."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randn(m, 50, generator=generator) * torch.tensor([1.0, 90.0, 1e-3])[:m, None]
        yield torch.rand(m, generator=generator) + 0.1, rows @ rows.T / 50


def run(balance, scale=(1.0, 1.0, 1.0)):
    balance.initialize(NAMES)
    scale = torch.tensor(scale)
    return [balance(REQUESTED, values * scale, scale[:, None] * g * scale) for values, g in simulate()]


@pytest.mark.parametrize("text", ["share", "gradnorm", "gradnorm(alpha=0.5)", "torchjd('UPGrad')", "torchjd('MGDA')"])
def test_a_term_multiplied_by_1000_trains_the_same_network(text):
    original, scaled = run(parse_balance(text)), run(parse_balance(text), scale=(1.0, 1000.0, 1.0))
    for weights, other in zip(original, scaled, strict=True):
        assert_close(other * torch.tensor([1.0, 1000.0, 1.0]), weights, rtol=1e-5, atol=0)


def test_gradient_norms_are_the_requested_shares_of_l1s():
    balance = Share(ema=0)
    for (_, g), weights in zip(simulate(), run(balance), strict=True):
        norms = weights.abs() * g.diagonal().sqrt()
        assert_close(norms, REQUESTED.abs(), rtol=1e-5, atol=0)


def test_a_weight_keeps_its_sign():
    assert (run(Share())[-1].sign() == REQUESTED.sign()).all()


def test_the_running_mean_is_corrected_for_the_bias_of_its_start():
    balance = Share(ema=0.5)
    balance.initialize(["L1"])
    first = balance(torch.ones(1), torch.ones(1), torch.tensor([[4.0]]))
    second = balance(torch.ones(1), torch.ones(1), torch.tensor([[1.0]]))
    assert_close(first, torch.tensor([1 / 2]))
    assert_close(second, torch.tensor([1 / ((0.5 * 2 + 1) / 1.5)]))


def test_a_term_that_is_nearly_solved_is_amplified_up_to_the_cap():
    balance = Share(ema=0, cap=10)
    balance.initialize(["L1", "solved"])
    requested = torch.tensor([0.5, 0.5])
    for norm in (2.0, 0.2, 2e-3, 2e-9):
        weights = balance(requested, torch.ones(2), torch.diag(torch.tensor([1.0, norm**2])))
    assert_close(weights, torch.tensor([0.5, 0.5 / 2.0 * 10]))


def test_a_term_without_a_gradient_has_weight_zero_at_first_and_later_keeps_its_weight():
    balance = Share(ema=0.9)
    balance.initialize(["L1", "adversarial"])
    without, with_gradient = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([1.0, 4.0]))
    assert balance(torch.ones(2), torch.ones(2), without)[1] == 0
    weights = balance(torch.ones(2), torch.ones(2), with_gradient)
    assert_close(weights, torch.tensor([0.5, 0.25]))
    assert_close(balance(torch.ones(2), torch.ones(2), without), weights)


def test_a_term_that_is_switched_off_has_no_share():
    balance = Share()
    balance.initialize(NAMES)
    weights = balance(torch.tensor([0.5, 0.0, 0.5]), torch.ones(3), torch.eye(3))
    assert_close(weights, torch.tensor([0.5, 0.0, 0.5]))


@pytest.mark.parametrize("text", ["share", "gradnorm", "adaptive", "uncertainty", "fixed", "torchjd('UPGrad')"])
def test_requested_weights_of_zero_give_zero(text):
    balance = parse_balance(text)
    balance.initialize(NAMES)
    assert_close(balance(torch.zeros(3), torch.ones(3), torch.zeros(3, 3)), torch.zeros(3))


@pytest.mark.parametrize("text", ["share", "gradnorm", "adaptive", "uncertainty", "torchjd('IMTLG')"])
def test_a_loaded_state_resumes_bit_for_bit(text):
    whole, first, second = parse_balance(text), parse_balance(text), parse_balance(text)
    for balance in (whole, first, second):
        balance.initialize(NAMES)
    uninterrupted = [whole(REQUESTED, values, g) for values, g in simulate()]
    early, late = list(simulate())[:3], list(simulate())[3:]
    for values, g in early:
        first(REQUESTED, values, g)
    second.load_state_dict(first.state_dict())
    for (values, g), weights in zip(late, uninterrupted[3:], strict=True):
        assert torch.equal(second(REQUESTED, values, g), weights)


def test_gradnorm_favours_slow_terms_and_is_share_with_alpha_zero():
    values, eye = (torch.tensor([1.0, 1.0]), torch.tensor([0.1, 1.0])), torch.eye(2)
    balance, even = GradNorm(alpha=2, ema=0), GradNorm(alpha=0, ema=0)
    for each in (balance, even):
        each.initialize(["fast", "slow"])
        each(torch.ones(2), values[0], eye)
    rates = torch.tensor([0.1, 1.0]) / 0.55
    assert_close(balance(torch.ones(2), values[1], eye), rates**2 / (rates**2).sum())
    assert_close(even(torch.ones(2), values[1], eye), torch.tensor([0.5, 0.5]))


def test_gradnorm_gives_rate_one_to_a_value_that_changed_its_sign():
    balance = GradNorm(alpha=1, ema=0)
    balance.initialize(["L1", "adversarial"])
    balance(torch.ones(2), torch.tensor([1.0, 1.0]), torch.eye(2))
    assert_close(balance(torch.ones(2), torch.tensor([1.0, -3.0]), torch.eye(2)), torch.tensor([0.5, 0.5]))


def test_adaptive_scales_by_the_norm_of_the_sum_of_the_others_as_in_vqgan():
    rows = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [0.5, 0.5, 0.0]])
    requested = torch.tensor([1.0, 0.2, 0.8])
    balance = Adaptive(ema=0)
    balance.initialize(NAMES)
    expected = (rows[0] + 0.2 * rows[1]).norm() / rows[2].norm()
    assert_close(balance(requested, torch.ones(3), rows @ rows.T), torch.tensor([1.0, 0.2, 0.8 * float(expected)]))


def test_adaptive_is_clamped_at_its_cap():
    balance = Adaptive("style", cap=50)
    balance.initialize(NAMES)
    weak = torch.diag(torch.tensor([1.0, 1.0, 1e-12]))
    assert balance(torch.ones(3), torch.ones(3), weak)[2] == 50


@pytest.mark.parametrize(
    ("names", "index"),
    [
        (["L1", "Adversarial", "VQCommitment"], 1),
        (["L1", "Adversarial.pred", "Adversarial.filled"], 2),
        (["L1", "perceptual"], 1),
    ],
)
def test_adaptive_selects_the_only_adversarial_term_or_else_the_last(names, index):
    balance = Adaptive()
    balance.initialize(names)
    assert balance.is_adapted.tolist() == [i == index for i in range(len(names))]


def test_adaptive_with_an_unknown_term_or_without_others_raises():
    with pytest.raises(ValueError, match="adaptive needs a term named 'gan'; the loss has L1, perceptual, style"):
        Adaptive("gan").initialize(NAMES)
    with pytest.raises(ValueError, match="adaptive needs at least two terms; the loss has only L1"):
        Adaptive().initialize(["L1"])


def test_uncertainty_minimises_kendalls_objective():
    balance = Uncertainty(ema=0)
    balance.initialize(["L1"])
    value = torch.tensor([0.3])
    weight = balance(torch.ones(1), value, torch.zeros(1, 1))
    s = -(2 * weight).log()
    objective = lambda s: value / (2 * s.exp()) + s / 2  # noqa: E731
    assert objective(s) < min(objective(s - 0.01), objective(s + 0.01))


def test_uncertainty_keeps_the_weight_of_a_term_that_is_not_positive():
    balance = Uncertainty()
    balance.initialize(["L1", "adversarial"])
    assert_close(balance(torch.ones(2), torch.tensor([0.5, -2.0]), torch.zeros(2, 2)), torch.tensor([1.0, 1.0]))


def test_upgrad_without_conflict_is_share():
    pytest.importorskip("quadprog")
    gramian, requested = torch.tensor([[1.0, 0.3], [0.3, 4.0]]), torch.tensor([0.7, 0.3])
    balance, share = TorchJD("UPGrad"), Share()
    for each in (balance, share):
        each.initialize(["L1", "perceptual"])
    assert_close(
        balance(requested, torch.ones(2), gramian), share(requested, torch.ones(2), gramian), rtol=1e-5, atol=0
    )


def test_upgrad_of_conflicting_terms_increases_neither():
    pytest.importorskip("quadprog")
    rows = torch.tensor([[1.0, 0.0], [-0.9, 0.2]])
    balance = TorchJD("UPGrad")
    balance.initialize(["L1", "perceptual"])
    weights = balance(torch.ones(2), torch.ones(2), rows @ rows.T)
    assert (rows @ (weights @ rows) > -1e-4).all()


def test_torchjd_ignores_terms_without_a_gradient():
    balance = TorchJD("MGDA")
    balance.initialize(NAMES)
    weights = balance(torch.ones(3), torch.ones(3), torch.diag(torch.tensor([1.0, 0.0, 1.0])))
    assert weights[1] == 0
    assert weights[0] == weights[2] > 0


@pytest.mark.parametrize(
    "text",
    [
        "share",
        "share(ema=0.9, cap=5.0)",
        "gradnorm(alpha=0.0)",
        "adaptive",
        'adaptive("GAN", every=1)',
        "uncertainty",
        "fixed",
        'torchjd("MGDA", every=3)',
    ],
)
def test_the_repr_is_the_text(text):
    assert repr(parse_balance(text)) == text
    assert repr(parse_balance(repr(parse_balance(text)))) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shares", "Unknown balancer 'shares'; did you mean 'share'"),
        ("pcgrad", "Unknown balancer 'pcgrad'; known are fixed, share, uncertainty"),
        ("share(emma=1)", "share has no option 'emma'; did you mean 'ema'"),
        ("fixed(ema=1)", "fixed has no option 'ema'; known are none"),
        ("share(0.9)", "share takes options by name"),
        ("share(ema=1)", "share ema must be at least 0 and below 1"),
        ("share(ema='x')", "share ema must be a finite number.*; got 'x'"),
        ("share(cap=0.5)", "share cap must be at least 1"),
        ("share(every=0)", "share every must be an integer at least 1; got 0"),
        ("share(every=2.5)", "share every must be an integer"),
        ("torchjd('UPGrat')", "torchjd method must be one of .* Did you mean 'UPGrad'"),
        ("torchjd('PCGrad')", "torchjd method must be one of .* got 'PCGrad'"),
        ("share(ema=print())", "A balancer is a name with options"),
        ("__import__('os')", "Unknown balancer '__import__'"),
        ("", "A balancer is a name with options"),
        ("share +", "A balancer is a name with options"),
        ("share(**{})", "share has no option 'None'"),
    ],
)
def test_an_invalid_text_raises_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_balance(text)
    assert "\n" not in str(caught.value)

"""Balances as maps of numbers: what they keep, what they do not mind, where they stop."""

import pytest
import torch
from torch.testing import assert_close

from lossmith.balance import Adaptive, Fixed, GradNorm, Share, TorchJD, Uncertainty, parse_balance

NAMES = ["L1", "perceptual", "style"]
ASKED = torch.tensor([0.5, -0.3, 0.2])
KINDS = [Share(), GradNorm(), Adaptive(), Uncertainty(), Fixed(), TorchJD("MGDA")]

pytest.importorskip("torchjd")


def course(steps=6, m=3):
    """Values and Gramians of a made-up training."""
    chance = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randn(m, 50, generator=chance) * torch.tensor([1.0, 90.0, 1e-3])[:m, None]
        yield torch.rand(m, generator=chance) + 0.1, rows @ rows.T / 50


def run(balance, scale=(1.0, 1.0, 1.0), asked=ASKED):
    balance.initialize(NAMES)
    scale = torch.tensor(scale)
    return [balance(asked, values * scale, scale[:, None] * g * scale) for values, g in course()]


@pytest.mark.parametrize("kind", ["share", "gradnorm", "gradnorm(alpha=0.5)", "torchjd('UPGrad')", "torchjd('MGDA')"])
def test_a_term_multiplied_by_1000_trains_the_same_network(kind):
    plain, larger = run(parse_balance(kind)), run(parse_balance(kind), scale=(1.0, 1000.0, 1.0))
    for weights, other in zip(plain, larger, strict=True):
        assert_close(other * torch.tensor([1.0, 1000.0, 1.0]), weights, rtol=1e-5, atol=0)


def test_shares_are_what_was_asked_for_and_together_as_large_as_l1():
    balance = Share(ema=0)
    for (_, g), weights in zip(course(), run(balance), strict=True):
        pulls = weights.abs() * g.diagonal().sqrt()
        assert_close(pulls, ASKED.abs(), rtol=1e-5, atol=0)


def test_a_weight_keeps_its_sign():
    assert (run(Share())[-1].sign() == ASKED.sign()).all()


def test_the_mean_forgets_slowly_and_does_not_begin_at_zero():
    balance = Share(ema=0.5)
    balance.initialize(["L1"])
    first = balance(torch.ones(1), torch.ones(1), torch.tensor([[4.0]]))
    second = balance(torch.ones(1), torch.ones(1), torch.tensor([[1.0]]))
    assert_close(first, torch.tensor([1 / 2]))
    assert_close(second, torch.tensor([1 / ((0.5 * 2 + 1) / 1.5)]))


def test_a_term_that_is_nearly_solved_is_amplified_up_to_the_cap_alone():
    balance = Share(ema=0, cap=10)
    balance.initialize(["L1", "solved"])
    asked = torch.tensor([0.5, 0.5])
    for norm in (2.0, 0.2, 2e-3, 2e-9):
        weights = balance(asked, torch.ones(2), torch.diag(torch.tensor([1.0, norm**2])))
    assert_close(weights, torch.tensor([0.5, 0.5 / 2.0 * 10]))


def test_a_term_without_a_gradient_yet_has_no_weight_and_keeps_it_while_it_rests():
    balance = Share(ema=0.9)
    balance.initialize(["L1", "critic"])
    silent, loud = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([1.0, 4.0]))
    assert balance(torch.ones(2), torch.ones(2), silent)[1] == 0
    heard = balance(torch.ones(2), torch.ones(2), loud)
    assert_close(heard, torch.tensor([0.5, 0.25]))
    assert_close(balance(torch.ones(2), torch.ones(2), silent), heard)


def test_a_term_that_is_off_takes_no_share():
    balance = Share()
    balance.initialize(NAMES)
    weights = balance(torch.tensor([0.5, 0.0, 0.5]), torch.ones(3), torch.eye(3))
    assert_close(weights, torch.tensor([0.5, 0.0, 0.5]))


@pytest.mark.parametrize("kind", ["share", "gradnorm", "adaptive", "uncertainty", "fixed", "torchjd('UPGrad')"])
def test_nothing_asked_for_gives_nothing(kind):
    balance = parse_balance(kind)
    balance.initialize(NAMES)
    assert_close(balance(torch.zeros(3), torch.ones(3), torch.zeros(3, 3)), torch.zeros(3))


@pytest.mark.parametrize("kind", ["share", "gradnorm", "adaptive", "uncertainty", "torchjd('IMTLG')"])
def test_a_state_that_is_loaded_goes_on_to_the_bit(kind):
    whole, first, second = parse_balance(kind), parse_balance(kind), parse_balance(kind)
    for balance in (whole, first, second):
        balance.initialize(NAMES)
    unbroken = [whole(ASKED, values, g) for values, g in course()]
    early, late = list(course())[:3], list(course())[3:]
    for values, g in early:
        first(ASKED, values, g)
    second.load_state_dict(first.state_dict())
    for (values, g), weights in zip(late, unbroken[3:], strict=True):
        assert torch.equal(second(ASKED, values, g), weights)


def test_gradnorm_favours_what_lags_and_is_share_with_alpha_0():
    values, eye = (torch.tensor([1.0, 1.0]), torch.tensor([0.1, 1.0])), torch.eye(2)
    balance, even = GradNorm(alpha=2, ema=0), GradNorm(alpha=0, ema=0)
    for each in (balance, even):
        each.initialize(["fast", "slow"])
        each(torch.ones(2), values[0], eye)
    rates = torch.tensor([0.1, 1.0]) / 0.55
    assert_close(balance(torch.ones(2), values[1], eye), rates**2 / (rates**2).sum())
    assert_close(even(torch.ones(2), values[1], eye), torch.tensor([0.5, 0.5]))


def test_gradnorm_gives_a_value_that_changed_its_sign_the_rate_1():
    balance = GradNorm(alpha=1, ema=0)
    balance.initialize(["L1", "critic"])
    balance(torch.ones(2), torch.tensor([1.0, 1.0]), torch.eye(2))
    assert_close(balance(torch.ones(2), torch.tensor([1.0, -3.0]), torch.eye(2)), torch.tensor([0.5, 0.5]))


def test_adaptive_follows_the_sum_of_the_others_as_vqgan_does():
    rows = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [0.5, 0.5, 0.0]])
    asked = torch.tensor([1.0, 0.2, 0.8])
    balance = Adaptive(ema=0)
    balance.initialize(NAMES)
    wanted = (rows[0] + 0.2 * rows[1]).norm() / rows[2].norm()
    assert_close(balance(asked, torch.ones(3), rows @ rows.T), torch.tensor([1.0, 0.2, 0.8 * float(wanted)]))


def test_adaptive_stops_at_its_cap():
    balance = Adaptive("style", cap=50)
    balance.initialize(NAMES)
    weak = torch.diag(torch.tensor([1.0, 1.0, 1e-12]))
    assert balance(torch.ones(3), torch.ones(3), weak)[2] == 50


@pytest.mark.parametrize(
    ("names", "followed"),
    [
        (["L1", "Adversarial", "VQCommitment"], 1),
        (["L1", "Adversarial.pred", "Adversarial.filled"], 2),
        (["L1", "perceptual"], 1),
    ],
)
def test_adaptive_follows_the_one_adversarial_term_by_itself_or_else_the_last(names, followed):
    balance = Adaptive()
    balance.initialize(names)
    assert balance.follows.tolist() == [i == followed for i in range(len(names))]


def test_adaptive_names_the_terms_that_there_are():
    with pytest.raises(ValueError, match="adaptive follows the term 'gan'; the loss has L1, perceptual, style"):
        Adaptive("gan").initialize(NAMES)
    with pytest.raises(ValueError, match="adaptive lets one term follow the others; the loss has L1 alone"):
        Adaptive().initialize(["L1"])


def test_uncertainty_minimises_kendalls_objective():
    balance = Uncertainty(ema=0)
    balance.initialize(["L1"])
    value = torch.tensor([0.3])
    weight = balance(torch.ones(1), value, torch.zeros(1, 1))
    s = -(2 * weight).log()
    objective = lambda s: value / (2 * s.exp()) + s / 2  # noqa: E731
    assert objective(s) < min(objective(s - 0.01), objective(s + 0.01))


def test_uncertainty_leaves_a_term_that_is_not_positive():
    balance = Uncertainty()
    balance.initialize(["L1", "critic"])
    assert_close(balance(torch.ones(2), torch.tensor([0.5, -2.0]), torch.zeros(2, 2)), torch.tensor([1.0, 1.0]))


def test_upgrad_without_conflict_is_share():
    pytest.importorskip("quadprog")
    gramian, asked = torch.tensor([[1.0, 0.3], [0.3, 4.0]]), torch.tensor([0.7, 0.3])
    balance, share = TorchJD("UPGrad"), Share()
    for each in (balance, share):
        each.initialize(["L1", "perceptual"])
    assert_close(balance(asked, torch.ones(2), gramian), share(asked, torch.ones(2), gramian), rtol=1e-5, atol=0)


def test_upgrad_of_terms_that_conflict_hurts_neither():
    pytest.importorskip("quadprog")
    rows = torch.tensor([[1.0, 0.0], [-0.9, 0.2]])
    balance = TorchJD("UPGrad")
    balance.initialize(["L1", "perceptual"])
    weights = balance(torch.ones(2), torch.ones(2), rows @ rows.T)
    assert (rows @ (weights @ rows) > -1e-4).all()


def test_torchjd_sets_what_has_no_gradient_aside():
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
def test_a_balance_reads_back(text):
    assert repr(parse_balance(text)) == text
    assert repr(parse_balance(repr(parse_balance(text)))) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shares", "There is no balance 'shares'; did you mean 'share'"),
        ("pcgrad", "There is no balance 'pcgrad'; there are fixed, share, uncertainty"),
        ("share(emma=1)", "share has no option 'emma'; did you mean 'ema'"),
        ("fixed(ema=1)", "fixed has no option 'ema'; there are none"),
        ("share(0.9)", "share takes its options by name"),
        ("share(ema=1)", r"share's ema wants to be in \[0, 1\)"),
        ("share(ema='x')", "share's ema wants a finite number; got 'x'"),
        ("share(cap=0.5)", "share's cap wants to be at least 1"),
        ("share(every=0)", "share's every wants whole steps of at least 1; got 0"),
        ("share(every=2.5)", "share's every wants whole steps"),
        ("torchjd('UPGrat')", "torchjd has no method 'UPGrat' here; did you mean 'UPGrad'"),
        ("torchjd('PCGrad')", "torchjd has no method 'PCGrad' here"),
        ("share(ema=print())", "A balance is a name with options"),
        ("__import__('os')", "There is no balance '__import__'"),
        ("", "A balance is a name with options"),
        ("share +", "A balance is a name with options"),
        ("share(**{})", "share has no option 'None'"),
    ],
)
def test_what_cannot_be_read_gets_one_line(text, said):
    with pytest.raises(ValueError, match=said) as caught:
        parse_balance(text)
    assert "\n" not in str(caught.value)

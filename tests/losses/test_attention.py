"""Attention losses: divergences compared with torch's, normalisation, and regions."""

import pytest
import torch
import torch.nn.functional as F

from lossmith.losses.attention import AttentionConsistency, AttentionMask


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, 3, 5, 7, generator=generator, dtype=torch.float64).softmax(dim=-1).unbind()


def kl(q, p):
    return F.kl_div(p.log(), q, reduction="none").sum(dim=-1)


EXACT = 1e-12
"""An eps without effect in float64."""


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("kl", lambda a, b: kl(b, a)),
        ("js", lambda a, b: (kl(a, (a + b) / 2) + kl(b, (a + b) / 2)) / 2),
        ("l2", lambda a, b: (a - b).square().sum(dim=-1)),
    ],
)
def test_each_divergence_agrees_with_its_formula_on_torchs_kl(divergence, expected, maps, assert_parity):
    logits, other = (
        maps[0].log(),
        maps[1],
    )  # the loss normalises its maps, so that only logits are independent variables

    def ours(logits, other):
        return AttentionConsistency(divergence, eps=EXACT).measure(logits.softmax(dim=-1), other)

    assert_parity(ours, lambda x, other: expected(x.softmax(dim=-1), other).flatten(1).mean(dim=1), logits, other)


def test_opposite_maps_give_the_upper_bounds_of_js_and_l2():
    left, right = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    near = {"rtol": 1e-4, "atol": 0}
    torch.testing.assert_close(AttentionConsistency("js")(attention=left, other=right), torch.tensor(2.0).log(), **near)
    torch.testing.assert_close(AttentionConsistency("l2")(attention=left, other=right), torch.tensor(2.0), **near)


@pytest.mark.parametrize("divergence", ["kl", "js", "l2"])
def test_equal_maps_give_zero_whatever_their_sum(divergence, maps):
    value = AttentionConsistency(divergence)(attention=maps[0], other=3 * maps[0])
    assert abs(value) < 1e-12


def test_over_queries_normalises_the_column_of_each_key(maps):
    a, b = maps
    column = [m / m.sum(dim=-2, keepdim=True) for m in maps]
    expected = kl(column[1].transpose(-1, -2), column[0].transpose(-1, -2)).mean()
    torch.testing.assert_close(AttentionConsistency(over="queries", eps=EXACT)(attention=a, other=b), expected)


def test_over_map_normalises_the_last_two_axes(maps):
    a, b = (m[:, 0] for m in maps)
    flat = [(m / m.sum(dim=(1, 2), keepdim=True)).flatten(1) for m in (a, b)]
    expected = kl(flat[1], flat[0]).mean()
    torch.testing.assert_close(AttentionConsistency(over="map", eps=EXACT)(attention=a, other=b), expected)


def test_the_mean_over_heads_compares_layers_with_different_numbers_of_heads(maps):
    a, b = maps
    loss = AttentionConsistency(heads="mean")
    value = loss(attention=a, other=torch.cat([b, b.roll(1, 0)], dim=1)[:, :4])
    expected = AttentionConsistency()(attention=a.mean(1, keepdim=True), other=b.mean(1, keepdim=True))
    assert value != expected
    torch.testing.assert_close(loss(attention=a, other=torch.cat([b, b], dim=1)), expected)


def test_both_maps_receive_a_gradient(maps):
    a, b = (m.clone().requires_grad_() for m in maps)
    AttentionConsistency()(attention=a, other=b).backward()
    assert a.grad.any()
    assert b.grad.any()


@pytest.mark.parametrize("loss", [AttentionConsistency(), AttentionConsistency("js"), AttentionConsistency("l2")])
def test_an_empty_map_is_uniform(loss):
    empty, uniform = torch.zeros(1, 2, 4, requires_grad=True), torch.full((1, 2, 4), 0.25)
    value = loss(attention=empty, other=uniform)
    value.backward()
    assert abs(value) < 1e-6
    assert empty.grad.isfinite().all()


def test_the_value_is_the_attention_outside_the_region():
    attention = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]])
    region = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    for kind, expected in (("outside", 0.25), ("squared", 0.0625)):
        value = AttentionMask(kind, eps=1e-9)(attention=attention, region=region)
        torch.testing.assert_close(value, torch.tensor(expected))


def test_kl_is_zero_for_uniform_attention_in_the_region():
    region = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    uneven = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]])
    assert AttentionMask()(attention=uneven, region=region) < 1e-5
    value = AttentionMask("kl", eps=1e-9)(attention=uneven, region=region)
    torch.testing.assert_close(value, 0.5 * torch.tensor(4 / 3).log())  # half of log(.5 / .75) and of log(.5 / .25)
    assert AttentionMask("kl")(attention=region, region=region) < 1e-6


def test_tokens_have_regions_of_their_own_or_share_one(maps):
    attention = maps[0]
    region = (torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    alone = [AttentionMask().measure(attention[:, i], region[:, i]) for i in range(3)]
    torch.testing.assert_close(AttentionMask().measure(attention, region), torch.stack(alone).mean(dim=0))
    shared = [AttentionMask().measure(attention[:, i], region[:, 0]) for i in range(3)]
    torch.testing.assert_close(AttentionMask().measure(attention, region[:, 0]), torch.stack(shared).mean(dim=0))


def test_a_region_of_higher_resolution_is_averaged(maps):
    attention = maps[0]
    region = (torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    fine = region.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    loss = AttentionMask()
    torch.testing.assert_close(loss(attention=attention, region=fine), loss(attention=attention, region=region))
    assert loss(attention=attention, region=fine > 0.5) == loss(attention=attention, region=fine)


@pytest.mark.parametrize("kind", ["outside", "squared", "kl"])
def test_an_empty_region_gives_0(kind, maps):
    attention = maps[0].clone().requires_grad_()
    value = AttentionMask(kind)(attention=attention, region=torch.zeros(2, 5, 7))
    value.backward()
    assert value == 0
    assert not attention.grad.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: AttentionConsistency("mse"),
            "AttentionConsistency divergence must be one of 'kl', 'js', 'l2'; got 'mse'.",
        ),
        (lambda: AttentionConsistency(over="heads"), "AttentionConsistency over must be one of"),
        (lambda: AttentionConsistency(heads=2), "AttentionConsistency heads must be one of 'each', 'mean'; got 2."),
        (lambda: AttentionConsistency(eps=0), "AttentionConsistency eps must be between 0 and 1; got 0."),
        (lambda: AttentionMask("inside"), "AttentionMask kind must be one of"),
        (
            lambda: AttentionConsistency().measure(torch.ones(2, 4), torch.ones(2, 4)),
            r"needs two maps \(N, heads, Q, K\) or \(N, H, W\) of one shape; got \(2, 4\) and \(2, 4\).",
        ),
        (
            lambda: AttentionMask().measure(torch.ones(2, 4), torch.ones(2, 4)),
            r"needs a map \(N, H, W\) or \(N, tokens, H, W\) and its region; got \(2, 4\) and \(2, 4\).",
        ),
        (
            lambda: AttentionMask().measure(torch.ones(2, 3, 4, 4), torch.ones(2, 2, 4, 4)),
            r"and its region; got \(2, 3, 4, 4\) and \(2, 2, 4, 4\).",
        ),
        (
            lambda: AttentionMask().measure(torch.ones(2, 4, 4), torch.ones(2, 2, 4)),
            r"AttentionMask\(\) needs a region of at least 4x4; got 2x4.",
        ),
    ],
)
def test_invalid_arguments_and_inputs_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Losses on latents: parity with torch's divergence, free bits, and the gradients of latents and codes."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from lossmith.losses.vae import KL, VQCommitment


@pytest.fixture
def latents():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 2, 3, 3, generator=generator, dtype=torch.float64).unbind()


def exact(mu, logvar):
    return kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).flatten(1)


def test_it_agrees_with_torchs_divergence(latents):
    mu, logvar = latents
    torch.testing.assert_close(KL().measure(mu, logvar), exact(mu, logvar).sum(dim=1))
    torch.testing.assert_close(KL("dimension").measure(mu, logvar), exact(mu, logvar).mean(dim=1))


def test_a_standard_normal_has_value_and_gradient_zero():
    mu, logvar = (torch.zeros(2, 5, requires_grad=True) for _ in range(2))
    value = KL()(mu=mu, logvar=logvar)
    value.backward()
    assert value == 0
    assert not mu.grad.any()
    assert not logvar.grad.any()


def test_it_is_accurate_near_the_standard_normal():
    logvar = torch.full((1, 1), 1e-3)
    value = KL()(mu=torch.zeros(1, 1), logvar=logvar)
    torch.testing.assert_close(
        value.double(), exact(torch.zeros(1, 1).double(), logvar.double()).sum(), rtol=1e-3, atol=0
    )


def test_free_bits_are_the_papers_maximum_of_batch_means(latents):
    mu, logvar = (0.5 * v for v in latents)
    expected = exact(mu, logvar).mean(dim=0).clamp_min(0.2).sum()
    assert (exact(mu, logvar).mean(dim=0) < 0.2).any()
    assert (exact(mu, logvar).mean(dim=0) > 0.2).any()
    torch.testing.assert_close(KL(free_bits=0.2)(mu=mu, logvar=logvar), expected)


def test_a_dimension_below_the_free_bits_has_no_gradient():
    mu = torch.tensor([[0.1, 2.0], [0.2, 2.0]], requires_grad=True)
    KL(free_bits=0.1)(mu=mu, logvar=torch.zeros(2, 2)).backward()
    assert not mu.grad[:, 0].any()
    assert mu.grad[:, 1].all()


def test_a_huge_variance_has_a_finite_value_and_gradient():
    logvar = torch.tensor([[25.0, 1e4]], requires_grad=True)
    value = KL()(mu=torch.zeros(1, 2), logvar=logvar)
    value.backward()
    assert value.isfinite()
    assert logvar.grad.isfinite().all()
    assert (logvar.grad > 1e8).all()


def test_the_gradient_is_continuous_where_the_tangent_starts():
    logvar = torch.tensor([20 - 1e-4, 20 + 1e-4], dtype=torch.float64, requires_grad=True)
    KL()(mu=torch.zeros_like(logvar)[:, None], logvar=logvar[:, None]).backward()
    torch.testing.assert_close(logvar.grad[0], logvar.grad[1], rtol=1e-3, atol=0)


def test_codes_and_latents_receive_their_gradients(latents):
    z, e = (v.clone().requires_grad_() for v in latents)
    loss = VQCommitment(0.3)
    value = loss(latents=z, codes=e)
    value.backward()
    torch.testing.assert_close(value, 1.3 * F.mse_loss(*latents))
    difference = 2 * (latents[0] - latents[1]) / z.numel()
    torch.testing.assert_close(z.grad, 0.3 * difference)
    torch.testing.assert_close(e.grad, -difference)


def test_without_the_codebook_term_codes_have_no_gradient(latents):
    z, e = (v.clone().requires_grad_() for v in latents)
    value = VQCommitment(codebook=False)(latents=z, codes=e)
    value.backward()
    torch.testing.assert_close(value, 0.25 * F.mse_loss(*latents))
    assert e.grad is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KL("batch"), "KL per must be one of 'image', 'dimension'; got 'batch'."),
        (lambda: KL(free_bits=-0.1), "KL free_bits must be at least 0; got -0.1."),
        (lambda: VQCommitment(0), "VQCommitment beta must be positive; got 0."),
        (lambda: VQCommitment(codebook=1.0), "VQCommitment codebook must be True or False; got 1.0."),
        (
            lambda: KL()(mu=torch.ones(2, 3), logvar=torch.ones(2, 1)),
            r"KL\(\) needs mu and logvar of one shape; got \(2, 3\) and \(2, 1\).",
        ),
        (
            lambda: VQCommitment()(latents=torch.ones(2, 3), codes=torch.ones(3)),
            r"VQCommitment\(\) needs latents and codes of one shape; got \(2, 3\) and \(3,\).",
        ),
    ],
)
def test_invalid_arguments_and_inputs_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()

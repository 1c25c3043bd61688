"""Diversity losses: which samples are pushed apart, and where the value is 0."""

import pytest
import torch

from lossmith.losses.diversity import MemoryDiversity, ModeSeeking, PairwiseDiversity


@pytest.fixture
def samples(image_pair):
    generator = torch.Generator().manual_seed(1)
    z, z_other = torch.randn(2, 2, 8, generator=generator, dtype=torch.float64).unbind()
    pred, other = image_pair(side=8, dtype=torch.float64)
    return {"pred": pred, "other": other, "z": z, "z_other": z_other}


def test_mode_seeking_agrees_with_the_authors_formula_on_one_image(samples):
    one = {name: tensor[:1] for name, tensor in samples.items()}
    ratio = (one["pred"] - one["other"]).abs().mean() / (one["z"] - one["z_other"]).abs().mean()
    torch.testing.assert_close(ModeSeeking()(**one), 1 / (ratio + 1e-5))


def test_mode_seeking_sends_no_gradient_to_the_noise(samples):
    z = samples["z"].requires_grad_()
    samples["pred"].requires_grad_()
    ModeSeeking()(**samples).backward()
    assert z.grad is None
    assert samples["pred"].grad.any()


@pytest.mark.parametrize("margin", [None, 0.5])
def test_equal_noise_gives_zero(margin, samples):
    samples["z_other"] = samples["z"]
    assert ModeSeeking(margin)(**samples) == 0
    assert ModeSeeking(margin)(**{**samples, "other": samples["pred"]}) == 0


def test_collapsed_samples_cost_one_over_eps(samples):
    samples["other"] = samples["pred"]
    torch.testing.assert_close(ModeSeeking(eps=1e-3)(**samples), torch.tensor(1e3, dtype=torch.float64))


def test_with_a_margin_mode_seeking_is_zero_for_distant_samples(samples):
    assert 0 < ModeSeeking(margin=1.0)(**samples) < 1
    samples["pred"] = (samples["pred"] + 10).requires_grad_()
    value = ModeSeeking(margin=1.0)(**samples)
    value.backward()
    assert value == 0
    assert not samples["pred"].grad.any()


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        ("l1", lambda x, y: (x - y).abs().mean()),
        ("l2", lambda x, y: (x - y).square().mean().sqrt()),
        ("cosine", lambda x, y: 1 - torch.cosine_similarity(x.flatten(), y.flatten(), dim=0)),
    ],
)
def test_pairwise_diversity_is_the_mean_hinge_over_the_others(distance, expected, image_pair):
    x = torch.cat(image_pair(side=8, dtype=torch.float64))
    hinges = [[0.3 - expected(a, b) for b in x] for a in x]
    values = [sum(max(0, hinge) for j, hinge in enumerate(row) if j != i) / 3 for i, row in enumerate(hinges)]
    torch.testing.assert_close(PairwiseDiversity(0.3, distance=distance).measure(x), torch.stack(values))


def test_only_images_of_one_group_are_pushed_apart(image_pair):
    x = torch.cat(image_pair(side=8)).requires_grad_()
    groups = torch.tensor([0.0, 1.0, 0.0, 2.0])
    values = PairwiseDiversity(1.0).on(groups="captions").evaluate({"pred": x, "captions": groups})
    (values,) = values.values()
    pair = PairwiseDiversity(1.0).measure(x[[0, 2]])
    torch.testing.assert_close(values, torch.stack([pair[0], torch.tensor(0.0), pair[1], torch.tensor(0.0)]))
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert not gradient[[1, 3]].any()


def test_a_single_image_gives_zero(image_pair):
    assert PairwiseDiversity(1.0)(image_pair(n=1)[0]) == 0


def test_a_gradient_step_increases_the_distance_of_two_images(image_pair):
    x = torch.cat(image_pair(n=1)).requires_grad_()
    loss = PairwiseDiversity(0.5)
    (gradient,) = torch.autograd.grad(loss(x), x)
    moved = (x - 100 * gradient).detach()
    assert (moved[0] - moved[1]).abs().mean() > (x[0] - x[1]).abs().mean()


def test_the_nearest_item_of_the_memory_determines_the_value(image_pair):
    pred, memory = image_pair(n=3, side=8)
    nearest = torch.stack([min((p - m).abs().mean() for m in memory) for p in pred])
    torch.testing.assert_close(MemoryDiversity(0.5).measure(pred, memory), 0.5 - nearest)
    torch.testing.assert_close(MemoryDiversity(0.5).measure(pred[:2], memory[:1]).shape, torch.Size([2]))


def test_far_from_the_memory_value_and_gradient_are_zero(image_pair):
    pred, memory = image_pair(side=8)
    distant = (pred + 2).requires_grad_()
    memory.requires_grad_()
    value = MemoryDiversity(0.5)(pred=distant, memory=memory)
    value.backward()
    assert value == 0
    assert not distant.grad.any()
    assert memory.grad is None


X = torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModeSeeking(0), "ModeSeeking margin must be positive; got 0."),
        (lambda: ModeSeeking(eps=-1), "ModeSeeking eps must be positive; got -1."),
        (lambda: PairwiseDiversity(float("inf")), "PairwiseDiversity margin must be a positive finite number"),
        (lambda: PairwiseDiversity(1, distance="lpips"), "distance must be one of 'l1', 'l2', 'cosine'; got 'lpips'."),
        (lambda: MemoryDiversity(True), "MemoryDiversity margin must be a positive finite number"),
        (
            lambda: ModeSeeking()(pred=X, other=X, z=X[:, 0, 0], z_other=X[:1, 0, 0]),
            r"ModeSeeking\(\) needs pairs of one shape; got \(2, 4\) and \(1, 4\).",
        ),
        (
            lambda: PairwiseDiversity(1.0).measure(X, torch.zeros(3)),
            r"PairwiseDiversity\(1.0\) needs groups \(2,\), a number per image; got \(3,\).",
        ),
        (
            lambda: MemoryDiversity(1.0).measure(X, X[:0]),
            r"MemoryDiversity\(1.0\) needs a non-empty memory \(K, ...\) of \(3, 4, 4\); got \(0, 3, 4, 4\).",
        ),
    ],
)
def test_invalid_arguments_and_inputs_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_repr_omits_the_default_margin():
    assert repr(PairwiseDiversity(0.1)) == "PairwiseDiversity()"
    assert repr(MemoryDiversity(0.2, distance="l2")) == 'MemoryDiversity(0.2, distance="l2")'

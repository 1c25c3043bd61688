"""Contrastive losses: compared with cross-entropy, and the choice of negatives."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from lossmith.losses._similarity import Temperature
from lossmith.losses.contrastive import CLIPLoss, InfoNCE
from lossmith.losses.patchnce import PatchNCE, _fixed_permutation


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 6, 5, generator=generator, dtype=torch.float64).unbind()


def cosines(x, y):
    return F.cosine_similarity(x[:, None], y[None], dim=2)


def test_each_direction_is_a_cross_entropy_over_the_batch(vectors, assert_parity):
    x, y, _ = vectors
    own = torch.arange(6)
    assert_parity(InfoNCE(directions="pred"), lambda x, y: F.cross_entropy(cosines(x, y) / 0.1, own), x, y)
    assert_parity(InfoNCE(directions="target"), lambda x, y: F.cross_entropy(cosines(y, x) / 0.1, own), x, y)


def test_both_directions_are_the_mean_of_each(vectors):
    x, y, _ = vectors
    each = [InfoNCE(0.3, directions=d).measure(x, y) for d in ("pred", "target")]
    torch.testing.assert_close(InfoNCE(0.3).measure(x, y), (each[0] + each[1]) / 2)


def test_the_worked_value_of_an_orthogonal_pair():
    torch.testing.assert_close(InfoNCE(1.0)(torch.eye(2), torch.eye(2)), torch.tensor(math.log(1 + math.exp(-1))))


def test_without_the_positive_the_denominator_contains_only_negatives():
    value = InfoNCE(1.0, include_positive=False)(torch.eye(3), torch.eye(3))
    torch.testing.assert_close(value, torch.tensor(math.log(2) - 1))


def test_the_length_of_a_vector_does_not_matter(vectors):
    x, y, _ = vectors
    torch.testing.assert_close(InfoNCE()(5 * x, 0.1 * y), InfoNCE()(x, y))


def test_extra_negatives_are_added_to_the_targets(vectors):
    x, y, z = vectors
    expected = F.cross_entropy(torch.cat([cosines(x, y), cosines(x, z[:4])], dim=1) / 0.1, torch.arange(6))
    loss = InfoNCE(directions="pred").on(negatives="bank")
    torch.testing.assert_close(loss(x, y, bank=z[:4]), expected)


def test_negatives_per_image_affect_only_their_image(vectors):
    x, y, z = vectors
    own = z[:, None].repeat(1, 2, 1)
    own[3:] = -x[3:, None]  # as far away as possible
    loss = InfoNCE(directions="pred").on(negatives="hard")
    without = InfoNCE(directions="pred").measure(x, y)
    values = loss.evaluate({"pred": x, "target": y, "hard": own})["InfoNCE"]
    assert (values[:3] > without[:3] + 1e-3).all()
    assert (values[3:] < without[3:] + 1e-2).all()


def test_an_image_of_the_same_group_is_not_a_negative(vectors):
    x, y, _ = vectors
    repeated, groups = [torch.cat([v, v[:1]]) for v in (x, y)], torch.tensor([0, 1, 2, 3, 4, 5, 0])
    values = InfoNCE().measure(*repeated, groups=groups)
    torch.testing.assert_close(values[[0, 6]], InfoNCE().measure(x, y)[[0, 0]])
    assert (InfoNCE().measure(*repeated)[0] > values[0] + 0.1).all()


@pytest.mark.parametrize("include_positive", [True, False])
def test_an_image_without_negatives_gives_0_and_no_gradient(include_positive, vectors):
    x, y = vectors[0].clone().requires_grad_(), vectors[1]
    loss = InfoNCE(include_positive=include_positive).on(groups="ids")
    loss(x, y, ids=torch.zeros(6, dtype=torch.long)).backward()
    assert not x.grad.any()
    assert InfoNCE(include_positive=include_positive)(x[:1], y[:1]) == 0


def test_maps_of_a_lens_are_flattened(vectors):
    x, y, z = vectors
    shape = (6, 5, 1, 1)
    loss = InfoNCE().on(negatives="bank")
    torch.testing.assert_close(loss(x.view(shape), y.view(shape), bank=z.view(shape)), loss(x, y, bank=z))


def test_both_encoders_receive_a_gradient(vectors):
    x, y = (v.clone().requires_grad_() for v in vectors[:2])
    CLIPLoss()(image=x, text=y).backward()
    assert x.grad.any()
    assert y.grad.any()


def test_clip_loss_agrees_with_clips_formula(vectors):
    x, y, _ = vectors
    logits = cosines(x, y) / 0.07
    own = torch.arange(6)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(CLIPLoss()(image=x, text=y), expected, rtol=1e-6, atol=0)
    one = CLIPLoss(directions="text")(image=x, text=y)
    torch.testing.assert_close(one, F.cross_entropy(logits.T, own), rtol=1e-6, atol=0)


def test_a_learnable_temperature_has_the_gradient_of_its_logarithm(vectors):
    x, y, _ = vectors
    loss = CLIPLoss(temperature=0.5).double()
    loss(image=x, text=y).backward()
    step = 1e-5
    above, below = (CLIPLoss(0.5 * math.exp(s), learnable=False)(image=x, text=y) for s in (-step, step))
    expected = (above - below) / (2 * step)
    torch.testing.assert_close(loss.temperature.log_scale.grad, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("loss", "names", "fraction"),
    [
        (CLIPLoss(0.5, learnable=False), ("image", "text"), 1.0),
        (InfoNCE(0.5), ("pred", "target"), 0.5),
        (InfoNCE(0.5, directions="pred"), ("pred", "target"), None),
    ],
)
def test_two_views_in_exchanged_order_give_the_nt_xent_loss(vectors, loss, names, fraction):
    leaves = [each.clone().requires_grad_() for each in vectors[:2]]
    z = F.normalize(torch.cat(leaves), dim=1)
    logits = (z @ z.T / 0.5).fill_diagonal_(-math.inf)
    expected = F.cross_entropy(logits, torch.arange(12).roll(6))  # as in SimCLR
    inputs = dict(zip(names, (torch.cat(leaves), torch.cat(leaves[::-1])), strict=True))
    value = loss.on(groups="samples")(**inputs, samples=torch.arange(6).repeat(2))
    torch.testing.assert_close(value, expected)
    if fraction is not None:
        gradients, wanted = (torch.autograd.grad(each, leaves) for each in (value, expected))
        torch.testing.assert_close(gradients, tuple(fraction * each for each in wanted))


def test_a_learnable_temperature_is_clamped_at_a_hundredth_and_can_rise_again():
    temperature = Temperature("loss", 0.07, True)
    temperature.log_scale.data.fill_(9.0)
    torch.testing.assert_close(temperature(), torch.tensor(100.0))
    temperature().backward()
    assert temperature.log_scale.grad > 0  # gradient descent lowers it
    temperature.log_scale.grad = None
    (-temperature()).backward()
    assert temperature.log_scale.grad == 0


def test_a_batch_is_compiled_in_one_graph(vectors):
    x, y, z = (v.float() for v in vectors)
    loss = CLIPLoss()
    compiled = torch.compile(loss.measure, fullgraph=True, backend="eager")
    groups = torch.tensor([0, 0, 1, 2, 3, 3])
    torch.testing.assert_close(compiled(x, y, z, groups), loss.measure(x, y, z, groups))


def run_half_of_a_batch(rank, vectors, groups, store, found):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    x, y, bank = (v[3 * rank :][:3].clone().requires_grad_() for v in vectors)
    value = CLIPLoss(0.3, gather=True).on(negatives="bank", groups="ids")(
        image=x, text=y, bank=bank, ids=groups[3 * rank :][:3]
    )
    value.backward()
    found[rank] = [value.item(), *(v.grad.numpy() for v in (x, y, bank))]
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_value_and_gradient_of_one_with_the_whole_batch(vectors, tmp_path):
    groups = torch.tensor([0, 1, 2, 0, 3, 4])
    x, y, bank = (v.clone().requires_grad_() for v in vectors)
    value = CLIPLoss(0.3).on(negatives="bank", groups="ids")(image=x, text=y, bank=bank, ids=groups)
    value.backward()
    with mp.Manager() as manager:
        found = manager.dict()
        mp.spawn(run_half_of_a_batch, (vectors, groups, tmp_path / "store", found), nprocs=2)
        halves = [found[0], found[1]]
    assert (halves[0][0] + halves[1][0]) / 2 == pytest.approx(value.item())
    for i, tensor in enumerate((x, y, bank), start=1):
        joint = torch.cat([torch.from_numpy(half[i]) for half in halves]) / 2  # DDP's mean over processes
        torch.testing.assert_close(joint, tensor.grad)


def cut_patch_nce(x, y):
    """Compute CUT's PatchNCE loss of one image: one positive, all other positions are negatives."""
    q, k = (F.normalize(v[0].flatten(1).T, dim=1) for v in (x, y))
    positive = (q * k).sum(dim=1, keepdim=True)
    others = (q @ k.T).masked_fill(torch.eye(len(q), dtype=torch.bool), -10.0)
    return F.cross_entropy(torch.cat([positive, others], dim=1) / 0.07, torch.zeros(len(q), dtype=torch.long))


def test_one_group_of_positions_agrees_with_cuts_formula(image_pair, assert_parity):
    x, y = image_pair(n=1, side=8, channels=16, dtype=torch.float64)
    assert_parity(PatchNCE(), cut_patch_nce, x - 0.5, y - 0.5)


def test_groups_of_positions_agree_with_cuts_formula_on_each(image_pair):
    x, y = (v - 0.5 for v in image_pair(n=1, side=8, channels=16, dtype=torch.float64))
    order = _fixed_permutation(64, torch.device("cpu"))
    groups = [order[i::3] for i in range(3)]
    parts = [cut_patch_nce(x.flatten(2)[..., g], y.flatten(2)[..., g]) * len(g) for g in groups]
    torch.testing.assert_close(PatchNCE(22)(x, y), sum(parts) / 64)


def test_groups_have_at_most_the_given_number_of_positions():
    flat = torch.ones(1, 4, 7, 9)
    groups = -(-63 // 16)
    assert math.log(63 // groups) - 1e-5 <= PatchNCE(16)(flat, flat) <= math.log(16) + 1e-5


def test_the_permutation_contains_each_position_once_without_a_pattern():
    order = _fixed_permutation(4096, torch.device("cpu"))
    assert torch.equal(order.sort().values, torch.arange(4096))
    assert abs(torch.corrcoef(torch.stack([order.double(), torch.arange(4096.0).double()]))[0, 1]) < 0.05
    assert (order.diff().abs() < 8).float().mean() < 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoNCE(0), "InfoNCE temperature must be positive; got 0."),
        (lambda: InfoNCE(0.001, learnable=True), "A learnable InfoNCE temperature must be at least 0.01; got 0.001."),
        (lambda: InfoNCE(directions="up"), "InfoNCE directions must be one of 'both', 'pred', 'target'; got 'up'."),
        (lambda: InfoNCE(gather="yes"), "InfoNCE gather must be True or False; got 'yes'."),
        (
            lambda: CLIPLoss(directions="pred"),
            "CLIPLoss directions must be one of 'both', 'image', 'text'; got 'pred'.",
        ),
        (lambda: PatchNCE(1), "PatchNCE patches must be an integer at least 2; got 1."),
        (lambda: InfoNCE()(torch.ones(4), torch.ones(4)), r"InfoNCE\(\) needs pairs of vectors \(N, D\); got \(4,\)"),
        (
            lambda: CLIPLoss()(image=torch.ones(4, 3), text=torch.ones(4, 2)),
            r"CLIPLoss\(\) needs pairs of vectors \(N, D\); got \(4, 3\) and \(4, 2\).",
        ),
        (
            lambda: InfoNCE().measure(torch.ones(4, 3), torch.ones(4, 3), torch.ones(5, 7, 3)),
            r"needs negatives \('K', 3\) or \(4, 'K', 3\); got \(5, 7, 3\).",
        ),
        (
            lambda: InfoNCE(directions="target").measure(torch.ones(4, 3), torch.ones(4, 3), torch.ones(5, 3)),
            'does not use negatives, which are added to the targets; set directions="both"',
        ),
        (
            lambda: InfoNCE().measure(torch.ones(4, 3), torch.ones(4, 3), None, torch.ones(3)),
            r"InfoNCE\(\) needs groups \(4,\), a number per image; got \(3,\).",
        ),
    ],
)
def test_invalid_arguments_and_inputs_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()

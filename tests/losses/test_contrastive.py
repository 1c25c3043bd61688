"""Contrast: against cross-entropy, and what counts as a negative."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from lossmith.losses.contrastive import CLIPLoss, InfoNCE
from lossmith.losses._similarity import Temperature
from lossmith.losses.patchnce import PatchNCE, shuffled


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


def test_without_the_positive_the_denominator_has_the_others_alone():
    value = InfoNCE(1.0, include_positive=False)(torch.eye(3), torch.eye(3))
    torch.testing.assert_close(value, torch.tensor(math.log(2) - 1))


def test_only_the_direction_of_a_vector_counts(vectors):
    x, y, _ = vectors
    torch.testing.assert_close(InfoNCE()(5 * x, 0.1 * y), InfoNCE()(x, y))


def test_extra_negatives_stand_among_the_targets(vectors):
    x, y, z = vectors
    wanted = F.cross_entropy(torch.cat([cosines(x, y), cosines(x, z[:4])], dim=1) / 0.1, torch.arange(6))
    loss = InfoNCE(directions="pred").on(negatives="bank")
    torch.testing.assert_close(loss(x, y, bank=z[:4]), wanted)


def test_negatives_of_ones_own_are_nobody_elses(vectors):
    x, y, z = vectors
    own = z[:, None].repeat(1, 2, 1)
    own[3:] = -x[3:, None]  # as far away as can be
    loss = InfoNCE(directions="pred").on(negatives="hard")
    with_none = InfoNCE(directions="pred").measure(x, y)
    values = loss.evaluate({"pred": x, "target": y, "hard": own})["InfoNCE"]
    assert (values[:3] > with_none[:3] + 1e-3).all()
    assert (values[3:] < with_none[3:] + 1e-2).all()


def test_an_equal_picture_with_the_same_group_is_no_negative(vectors):
    x, y, _ = vectors
    again, groups = [torch.cat([v, v[:1]]) for v in (x, y)], torch.tensor([0, 1, 2, 3, 4, 5, 0])
    values = InfoNCE().measure(*again, groups=groups)
    torch.testing.assert_close(values[[0, 6]], InfoNCE().measure(x, y)[[0, 0]])
    assert (InfoNCE().measure(*again)[0] > values[0] + 0.1).all()


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


def test_both_encoders_of_a_pair_train(vectors):
    x, y = (v.clone().requires_grad_() for v in vectors[:2])
    CLIPLoss()(image=x, text=y).backward()
    assert x.grad.any()
    assert y.grad.any()


def test_the_pair_agrees_with_clips_own_formula(vectors):
    x, y, _ = vectors
    logits = cosines(x, y) / 0.07
    own = torch.arange(6)
    wanted = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(CLIPLoss()(image=x, text=y), wanted, rtol=1e-6, atol=0)
    one = CLIPLoss(directions="text")(image=x, text=y)
    torch.testing.assert_close(one, F.cross_entropy(logits.T, own), rtol=1e-6, atol=0)


def test_a_learnt_temperature_gets_the_gradient_of_its_logarithm(vectors):
    x, y, _ = vectors
    loss = CLIPLoss(temperature=0.5).double()
    loss(image=x, text=y).backward()
    step = 1e-5
    above, below = (CLIPLoss(0.5 * math.exp(s), learnable=False)(image=x, text=y) for s in (-step, step))
    wanted = (above - below) / (2 * step)
    torch.testing.assert_close(loss.temperature.log_scale.grad, wanted, rtol=1e-4, atol=0)


def test_a_learnt_temperature_stops_at_a_hundredth_and_comes_back():
    temperature = Temperature("it", 0.07, True)
    temperature.log_scale.data.fill_(9.0)
    torch.testing.assert_close(temperature(), torch.tensor(100.0))
    temperature().backward()
    assert temperature.log_scale.grad > 0  # a descent lowers it
    temperature.log_scale.grad = None
    (-temperature()).backward()
    assert temperature.log_scale.grad == 0


def test_a_batch_is_compiled_in_one_graph(vectors):
    x, y, z = (v.float() for v in vectors)
    loss = CLIPLoss()
    compiled = torch.compile(loss.measure, fullgraph=True, backend="eager")
    groups = torch.tensor([0, 0, 1, 2, 3, 3])
    torch.testing.assert_close(compiled(x, y, z, groups), loss.measure(x, y, z, groups))


def half_of_a_batch(rank, vectors, groups, meeting, found):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    x, y, bank = (v[3 * rank :][:3].clone().requires_grad_() for v in vectors)
    value = CLIPLoss(0.3, gather=True).on(negatives="bank", groups="ids")(
        image=x, text=y, bank=bank, ids=groups[3 * rank :][:3]
    )
    value.backward()
    found[rank] = [value.item(), *(v.grad.numpy() for v in (x, y, bank))]
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_give_the_value_and_gradient_of_one_with_the_whole_batch(vectors, tmp_path):
    groups = torch.tensor([0, 1, 2, 0, 3, 4])
    x, y, bank = (v.clone().requires_grad_() for v in vectors)
    value = CLIPLoss(0.3).on(negatives="bank", groups="ids")(image=x, text=y, bank=bank, ids=groups)
    value.backward()
    with mp.Manager() as manager:
        found = manager.dict()
        mp.spawn(half_of_a_batch, (vectors, groups, tmp_path / "meeting", found), nprocs=2)
        halves = [found[0], found[1]]
    assert (halves[0][0] + halves[1][0]) / 2 == pytest.approx(value.item())
    for i, view in enumerate((x, y, bank), start=1):
        together = torch.cat([torch.from_numpy(half[i]) for half in halves]) / 2  # DDP's mean over processes
        torch.testing.assert_close(together, view.grad)


def cut(x, y):
    """PatchNCELoss of CUT for one image, as its paper has it: one positive, all other places negatives."""
    q, k = (F.normalize(v[0].flatten(1).T, dim=1) for v in (x, y))
    positive = (q * k).sum(dim=1, keepdim=True)
    others = (q @ k.T).masked_fill(torch.eye(len(q), dtype=torch.bool), -10.0)
    return F.cross_entropy(torch.cat([positive, others], dim=1) / 0.07, torch.zeros(len(q), dtype=torch.long))


def test_one_group_of_places_agrees_with_cuts_formula(image_pair, assert_parity):
    x, y = image_pair(n=1, side=8, channels=16, dtype=torch.float64)
    assert_parity(PatchNCE(), cut, x - 0.5, y - 0.5)


def test_groups_of_places_agree_with_cuts_formula_on_each(image_pair):
    x, y = (v - 0.5 for v in image_pair(n=1, side=8, channels=16, dtype=torch.float64))
    order = shuffled(64, torch.device("cpu"))
    groups = [order[i::3] for i in range(3)]
    parts = [cut(x.flatten(2)[..., g], y.flatten(2)[..., g]) * len(g) for g in groups]
    torch.testing.assert_close(PatchNCE(22)(x, y), sum(parts) / 64)


def test_the_groups_of_places_have_at_most_as_many_as_are_asked():
    flat = torch.ones(1, 4, 7, 9)
    groups = -(-63 // 16)
    assert math.log(63 // groups) - 1e-5 <= PatchNCE(16)(flat, flat) <= math.log(16) + 1e-5


def test_the_shuffle_has_each_place_once_and_no_pattern():
    order = shuffled(4096, torch.device("cpu"))
    assert torch.equal(order.sort().values, torch.arange(4096))
    assert abs(torch.corrcoef(torch.stack([order.double(), torch.arange(4096.0).double()]))[0, 1]) < 0.05
    assert (order.diff().abs() < 8).float().mean() < 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoNCE(0), "InfoNCE wants a temperature > 0; got 0."),
        (lambda: InfoNCE(0.001, learnable=True), "InfoNCE learns no temperature below 0.01; got 0.001 to start with."),
        (lambda: InfoNCE(directions="up"), 'InfoNCE knows the directions "both", "pred", "target"; got \'up\'.'),
        (lambda: InfoNCE(gather="yes"), "InfoNCE wants gather to be True or False; got 'yes'."),
        (lambda: CLIPLoss(directions="pred"), 'CLIPLoss knows the directions "both", "image", "text"; got \'pred\'.'),
        (lambda: PatchNCE(1), "PatchNCE wants at least 2 patches; got 1."),
        (lambda: InfoNCE()(torch.ones(4), torch.ones(4)), r"InfoNCE\(\) wants vectors \(N, D\) in pairs; got \(4,\)"),
        (
            lambda: CLIPLoss()(image=torch.ones(4, 3), text=torch.ones(4, 2)),
            r"CLIPLoss\(\) wants vectors \(N, D\) in pairs; got \(4, 3\) and \(4, 2\).",
        ),
        (
            lambda: InfoNCE().measure(torch.ones(4, 3), torch.ones(4, 3), torch.ones(5, 7, 3)),
            r"wants negatives \('K', 3\) or \(4, 'K', 3\); got \(5, 7, 3\).",
        ),
        (
            lambda: InfoNCE(directions="target").measure(torch.ones(4, 3), torch.ones(4, 3), torch.ones(5, 3)),
            'has no use for negatives: they stand among the targets; ask for "both".',
        ),
        (
            lambda: InfoNCE().measure(torch.ones(4, 3), torch.ones(4, 3), None, torch.ones(3)),
            r"InfoNCE\(\) wants groups \(4,\), a number an image; got \(3,\).",
        ),
    ],
)
def test_bad_arguments_and_views_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

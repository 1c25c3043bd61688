"""How the critic learns: its optimiser, its penalties, its state, several processes."""

import copy
import io

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith.losses.adversarial import Adversarial, FeatureMatching
from lossmith.losses.discriminators import PatchDiscriminator

KINDS = ("vanilla", "lsgan", "hinge", "wasserstein", "relativistic")


def small(kind="vanilla", **other):
    return Adversarial("patch", kind, **{"width": 4, "penalty": "r1", **other})


@pytest.fixture
def views(image_pair):
    """The views of a step by its number, of pictures that just give one verdict unless a side is asked for."""

    def make(step=0, **other):
        return dict(zip(("pred", "target"), image_pair(seed=step, **{"side": 24, **other}), strict=True))

    return make


def weights(loss):
    return torch.cat([buffer.flatten() for buffer in loss.learner.critic.buffers()])


def test_it_learns_as_with_pytorchs_adam(views):
    loss = small(penalty=None, lr=1e-2, betas=[0.5, 0.9])
    critic = PatchDiscriminator(3, 4)
    critic.load_state_dict(loss.learner.critic.state_dict())
    adam = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.5, 0.9))
    for step in range(5):
        loss.discriminator_step(**views(step))
        critic.iterate()
        # in the order of the learner: Adam makes whole steps of gradients that are little more than rounding
        fake, real = critic(views(step)["pred"]), critic(views(step)["target"])
        adam.zero_grad()
        (torch.nn.functional.softplus(-real).mean() + torch.nn.functional.softplus(fake).mean()).backward()
        adam.step()
    for name, weight in critic.state_dict().items():
        torch.testing.assert_close(loss.learner.critic.state_dict()[name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_and_a_critic_meet_where_the_pictures_are_alike(kind):
    """The network is a number that is added to pictures as the critic's; its right value is 0."""
    dice = torch.Generator().manual_seed(0)
    loss, shift = small(kind, lr=1e-2, gamma=1.0, betas=[0.0, 0.9]), torch.tensor(0.5, requires_grad=True)
    adam = torch.optim.Adam([shift], lr=3e-2, betas=(0.0, 0.9))
    late = []
    for step in range(80):
        pred, target = torch.rand(2, 2, 3, 24, 24, generator=dice)
        loss.discriminator_step(pred + shift, target)
        adam.zero_grad()
        loss(pred + shift, target).backward()
        adam.step()
        late += [shift.item()] * (step >= 50)
    assert abs(sum(late) / len(late)) < 0.15


def test_it_learns_to_tell_and_says_how_well(views):
    loss = small("hinge", penalty=None, lr=1e-2)
    for step in range(30):
        figures = loss.discriminator_step(torch.zeros(2, 3, 24, 24), views(step)["target"])
    assert figures["real"] == figures["fake"] == 1
    assert figures["critic"] < 1


@pytest.mark.parametrize("kind", KINDS)
def test_its_figures_count_the_verdicts_that_are_right(kind, views):
    loss, both = small(kind), views(n=3, side=40)
    critic = copy.deepcopy(loss.learner.critic)
    critic.iterate()
    real, fake = critic(both["target"]), critic(both["pred"])
    edges = {"lsgan": (0.5, 0.5), "vanilla": (0, 0), "hinge": (0, 0)}.get(kind, (fake.mean(), real.mean()))
    figures = loss.discriminator_step(**both)
    assert figures["real"] == (real > edges[0]).float().mean()
    assert figures["fake"] == (fake < edges[1]).float().mean()


def slope(loss, images):
    """The squared norm of the slope of the one verdict on each picture, after one iteration, by Jacobians."""
    critic = copy.deepcopy(loss.learner.critic)
    critic.iterate()
    rows = [torch.autograd.functional.jacobian(lambda x: critic(x).squeeze(), image[None]) for image in images.double()]
    return torch.stack([row.square().sum() for row in rows]).float()


@pytest.mark.parametrize(("penalty", "view"), [("r1", "target"), ("r2", "pred")])
def test_r1_and_r2_are_the_mean_squared_slope(penalty, view, views):
    loss = small(penalty=penalty)
    wanted = slope(loss, views()[view]).mean()
    torch.testing.assert_close(loss.discriminator_step(**views())["penalty"], wanted, rtol=1e-4, atol=0)


def test_the_gradient_penalty_is_the_squared_distance_of_the_slope_from_one(views):
    loss, target = small(penalty="gp"), views()["target"]
    wanted = (slope(loss, target).sqrt() - 1).square().mean()  # between a picture and itself there is only itself
    torch.testing.assert_close(loss.discriminator_step(target, target)["penalty"], wanted, rtol=1e-4, atol=0)


def test_the_gradient_penalty_looks_between_the_pictures(views):
    loss, both = small(penalty="gp"), views(n=4)
    seen = []
    judge = loss.learner.slope

    def watched(verdicts, real, fake):
        return judge(lambda images: seen.append(images) or verdicts(images), real, fake)

    loss.learner.slope = watched
    loss.discriminator_step(**both)
    share = (seen[0] - both["pred"]) / (both["target"] - both["pred"])
    share = share.flatten(1).nanmedian(dim=1).values
    torch.testing.assert_close(seen[0], torch.lerp(both["pred"], both["target"], share.view(-1, 1, 1, 1)))
    assert share.min() > 0
    assert share.max() < 1
    assert share.unique().numel() == 4


@pytest.mark.parametrize("penalty", ["r1", "r2", "gp"])
@pytest.mark.parametrize("critic", ["patch", "unet"])
def test_a_penalty_does_not_grow_with_the_resolution(penalty, critic, views):
    found = [
        Adversarial(critic, penalty=penalty, width=4).discriminator_step(**views(side=side))["penalty"].double()
        for side in (64, 128)
    ]
    torch.testing.assert_close(*found, rtol=0.5, atol=0)  # sums of verdicts give a factor of 4 and more


def test_a_penalty_flattens_the_critic(views):
    steep, flat = (small("hinge", penalty="r1", gamma=gamma, lr=1e-2) for gamma in (1e-9, 1e3))
    for step in range(20):
        slopes = [loss.discriminator_step(**views(step))["penalty"] for loss in (steep, flat)]
    assert slopes[1] < 0.1 * slopes[0]


def test_a_lazy_penalty_is_taken_each_so_many_steps_and_counts_as_often(views):
    lazy, eager = small(every=3, gamma=2.0), small(gamma=6.0)
    taken = ["penalty" in lazy.discriminator_step(**views(step)) for step in range(5)]
    eager.discriminator_step(**views(0))
    assert taken == [True, False, False, True, False]
    lazy = small(every=3, gamma=2.0)
    lazy.discriminator_step(**views(0))
    torch.testing.assert_close(weights(lazy), weights(eager), rtol=1e-6, atol=1e-8)


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("penalty", ["gp", None])
def test_a_loss_that_is_loaded_goes_on_to_the_bit(penalty, views):
    unbroken = small(penalty=penalty, every=2)
    for step in range(3):
        unbroken.discriminator_step(**views(step))
    resumed = small(penalty=penalty, every=2)
    resumed.load_state_dict(saved(unbroken.state_dict()))
    for step in range(3, 6):
        figures = [loss.discriminator_step(**views(step)) for loss in (unbroken, resumed)]
        assert figures[0] == figures[1]
    for name, value in unbroken.state_dict().items():
        other = resumed.state_dict()[name]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


def test_a_copy_learns_alone(views):
    loss = small()
    again = copy.deepcopy(loss)
    before = weights(loss)
    again.discriminator_step(**views())
    assert torch.equal(weights(loss), before)
    assert not torch.equal(weights(again), before)


def test_casts_leave_the_critic_in_single_precision(views):
    loss = small()
    loss.discriminator_step(**views())
    cast = copy.deepcopy(loss).half().double().bfloat16()
    assert {buffer.dtype for buffer in cast.buffers()} == {torch.float32}
    assert torch.equal(weights(cast), weights(loss))


def test_it_moves_with_its_loss():
    assert {buffer.device.type for buffer in small().to("meta").buffers()} == {"meta"}


@pytest.mark.parametrize("penalty", ["r1", "gp"])
def test_autocast_changes_no_bit_of_what_it_learns(penalty, views):
    plain, cast = small(penalty=penalty), small(penalty=penalty)
    plain.discriminator_step(**views())
    with torch.autocast("cpu", torch.bfloat16):
        cast.discriminator_step(**views())
    assert torch.equal(weights(cast), weights(plain))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_pictures_of_any_precision_teach_it(dtype, views):
    assert small().discriminator_step(**{name: view.to(dtype) for name, view in views().items()})["critic"].dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_pictures_that_are_no_numbers_teach_it_nothing(bad, views):
    loss = small()
    loss.discriminator_step(**views(0))
    before = {name: buffer.clone() for name, buffer in loss.named_buffers() if not name.endswith(".u")}
    loss.discriminator_step(**{**views(1), "pred": torch.full((2, 3, 24, 24), bad)})
    assert all(torch.equal(dict(loss.named_buffers())[name], value) for name, value in before.items())
    assert all(figure.isfinite() for figure in loss.discriminator_step(**views(2)).values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1e4, 1e-12])
def test_hostile_pictures_leave_it_finite(kind, value, views):
    for penalty in ("r1", "gp"):
        loss = small(kind, penalty=penalty)
        for _ in range(2):
            loss.discriminator_step(torch.full((1, 3, 24, 24), value), views(n=1)["target"] * value)
        assert weights(loss).isfinite().all()


def test_it_may_learn_between_a_forward_and_its_backward_pass(views):
    loss, early, late = small(), views()["pred"].requires_grad_(), views()["pred"].requires_grad_()
    loss(early, views()["target"]).backward()
    value = loss(late, views()["target"])
    loss.discriminator_step(**views())
    value.backward()
    assert torch.equal(early.grad, late.grad)


def test_learning_sends_no_gradient_to_the_network(views):
    both = {name: view.requires_grad_() for name, view in views().items()}
    with torch.no_grad():
        figures = small(penalty="gp").discriminator_step(**both)
    assert not any(figure.requires_grad for figure in figures.values())
    assert all(view.grad is None for view in both.values())


def test_the_worlds_dice_are_left_alone(views):
    loss, dice = small(penalty="gp"), torch.get_rng_state()
    loss.discriminator_step(**views())
    assert torch.equal(torch.get_rng_state(), dice)


class Questions(TorchDispatchMode):
    """Counts how often a tensor's value is asked for, for which a GPU would have to be waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("penalty", [None, "r1", "gp"])
def test_a_step_asks_the_device_for_no_value(penalty, views):
    loss, both = small(penalty=penalty), views()
    with Questions() as questions:
        loss(**both)
        loss.discriminator_step(**both)
    assert questions.count == 0


def test_feature_matching_beside_an_adversarial_has_the_same_critic_at_every_step(views):
    adversarial, alone = small("lsgan"), FeatureMatching("patch", "lsgan", penalty="r1", width=4)
    shared = FeatureMatching.of(adversarial)
    assert repr(shared) == repr(alone)
    for step in range(3):
        assert torch.equal(shared(**views(step)), alone(**views(step)))
        adversarial.discriminator_step(**views(step))
        alone.discriminator_step(**views(step))
    assert shared.discriminator_step(**views()) == {}
    assert torch.equal(weights(adversarial), weights(alone))


def test_a_shared_critic_stays_shared_in_a_copy(views):
    adversarial = small("lsgan")
    matching = FeatureMatching.of(adversarial)
    copied = copy.deepcopy(adversarial + matching)
    one, other = copied.losses
    one.discriminator_step(**views())
    assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), weights(adversarial))


def learned(kind, penalty, batches):
    """The critic's moments, weights and figures after some steps."""
    loss = small(kind, penalty=penalty)
    figures = [loss.discriminator_step(**both) for both in batches][-1]
    return {"mean": loss.learner.mean, "square": loss.learner.square, "weights": weights(loss), **figures}


EACH = [(kind, penalty) for kind in KINDS for penalty in ("r1", "gp")]


def learn_apart(rank, folder, batches):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    mine = [{name: view[rank::2] for name, view in both.items()} for both in batches]
    torch.save([learned(*each, mine) for each in EACH], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_learn_as_one_does_from_the_joint_batch(views, tmp_path):
    batches = [views(step, n=4) for step in range(2)]
    torch.multiprocessing.spawn(learn_apart, (tmp_path, batches), nprocs=2)
    apart = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for each, one, other in zip(EACH, *apart, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
        joint = learned(*each, batches)
        for name in one.keys() - {"weights"}:  # where a gradient is zero but for rounding, Adam makes much of it
            torch.testing.assert_close(one[name], joint[name], rtol=1e-3, atol=1e-6)

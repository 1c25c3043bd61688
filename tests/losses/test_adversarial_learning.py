"""The training of a discriminator: optimiser, penalties, state, several processes."""

import copy
import io

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import L1
from lossmith.losses import Adversarial, FeatureMatching
from lossmith.losses.discriminators import PatchDiscriminator

KINDS = ("vanilla", "lsgan", "hinge", "wasserstein", "relativistic")


def small(kind="vanilla", **options):
    return Adversarial("patch", kind, **{"width": 4, "penalty": "r1", **options})


@pytest.fixture
def make_inputs(image_pair):
    """Return a function that makes the inputs of a step, by default images that give a single logit."""

    def make(step=0, **options):
        return dict(zip(("pred", "target"), image_pair(seed=step, **{"side": 24, **options}), strict=True))

    return make


def flat_weights(loss):
    return torch.cat([buffer.flatten() for buffer in loss.discriminator.buffers()])


def test_a_step_equals_that_of_pytorchs_adam(make_inputs):
    loss = small(penalty=None, lr=1e-2, betas=[0.5, 0.9])
    reference = PatchDiscriminator(3, 4)
    reference.load_state_dict(loss.discriminator.state_dict())
    adam = torch.optim.Adam(reference.parameters(), lr=1e-2, betas=(0.5, 0.9))
    for step in range(5):
        loss.discriminator_step(**make_inputs(step))
        reference.update_spectral_norm()
        # in the same order, since Adam turns gradients of the size of rounding errors into full steps
        fake, real = reference(make_inputs(step)["pred"]), reference(make_inputs(step)["target"])
        adam.zero_grad()
        (torch.nn.functional.softplus(-real).mean() + torch.nn.functional.softplus(fake).mean()).backward()
        adam.step()
    for name, weight in reference.state_dict().items():
        torch.testing.assert_close(loss.discriminator.state_dict()[name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_generator_and_discriminator_converge(kind):
    """The generator adds a learned number to real images; the correct number is 0."""
    generator = torch.Generator().manual_seed(0)
    loss, shift = small(kind, lr=1e-2, gamma=1.0, betas=[0.0, 0.9]), torch.tensor(0.5, requires_grad=True)
    adam = torch.optim.Adam([shift], lr=3e-2, betas=(0.0, 0.9))
    last_shifts = []
    for step in range(80):
        pred, target = torch.rand(2, 2, 3, 24, 24, generator=generator)
        loss.discriminator_step(pred + shift, target)
        adam.zero_grad()
        loss(pred + shift, target).backward()
        adam.step()
        last_shifts += [shift.item()] * (step >= 50)
    assert abs(sum(last_shifts) / len(last_shifts)) < 0.15


def test_training_raises_the_accuracy(make_inputs):
    loss = small("hinge", penalty=None, lr=1e-2)
    for step in range(30):
        metrics = loss.discriminator_step(torch.zeros(2, 3, 24, 24), make_inputs(step)["target"])
    assert metrics["real_accuracy"] == metrics["fake_accuracy"] == 1
    assert metrics["loss"] < 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_accuracy_counts_correct_logits(kind, make_inputs):
    loss, inputs = small(kind), make_inputs(n=3, side=40)
    discriminator = copy.deepcopy(loss.discriminator)
    discriminator.update_spectral_norm()
    real, fake = discriminator(inputs["target"]), discriminator(inputs["pred"])
    boundaries = {"lsgan": (0.5, 0.5), "vanilla": (0, 0), "hinge": (0, 0)}.get(kind, (fake.mean(), real.mean()))
    metrics = loss.discriminator_step(**inputs)
    assert metrics["real_accuracy"] == (real > boundaries[0]).float().mean()
    assert metrics["fake_accuracy"] == (fake < boundaries[1]).float().mean()


def squared_gradient_norms(loss, images):
    """Return the squared gradient norm of the single logit of each image, by Jacobians."""
    discriminator = copy.deepcopy(loss.discriminator)
    discriminator.update_spectral_norm()
    rows = [
        torch.autograd.functional.jacobian(lambda x: discriminator(x).squeeze(), image[None])
        for image in images.double()
    ]
    return torch.stack([row.square().sum() for row in rows]).float()


@pytest.mark.parametrize(("penalty", "name"), [("r1", "target"), ("r2", "pred")])
def test_r1_and_r2_are_the_mean_squared_gradient_norm(penalty, name, make_inputs):
    loss = small(penalty=penalty)
    expected = squared_gradient_norms(loss, make_inputs()[name]).mean()
    torch.testing.assert_close(
        loss.discriminator_step(**make_inputs())["gradient_penalty"], expected, rtol=1e-4, atol=0
    )


def test_gp_is_the_squared_distance_of_the_gradient_norm_from_one(make_inputs):
    loss, target = small(penalty="gp"), make_inputs()["target"]
    expected = (squared_gradient_norms(loss, target).sqrt() - 1).square().mean()  # between an image and itself
    torch.testing.assert_close(loss.discriminator_step(target, target)["gradient_penalty"], expected, rtol=1e-4, atol=0)


def test_gp_is_computed_between_the_images(make_inputs):
    loss, inputs = small(penalty="gp"), make_inputs(n=4)
    seen = []
    compute_penalty = loss.discriminator_trainer.gradient_penalty

    def record(discriminate, real, fake):
        return compute_penalty(lambda images: seen.append(images) or discriminate(images), real, fake)

    loss.discriminator_trainer.gradient_penalty = record
    loss.discriminator_step(**inputs)
    mix = (seen[0] - inputs["pred"]) / (inputs["target"] - inputs["pred"])
    mix = mix.flatten(1).nanmedian(dim=1).values
    torch.testing.assert_close(seen[0], torch.lerp(inputs["pred"], inputs["target"], mix.view(-1, 1, 1, 1)))
    assert mix.min() > 0
    assert mix.max() < 1
    assert mix.unique().numel() == 4


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["r1", "r2", "gp"])
@pytest.mark.parametrize("name", ["patch", "unet"])
def test_a_penalty_does_not_grow_with_the_resolution(penalty, name, make_inputs):
    found = [
        Adversarial(name, penalty=penalty, width=4)
        .discriminator_step(**make_inputs(side=side))["gradient_penalty"]
        .double()
        for side in (64, 128)
    ]
    torch.testing.assert_close(*found, rtol=0.5, atol=0)  # sums of logits give a factor of 4 and more


def test_a_penalty_lowers_the_gradient_norm(make_inputs):
    steep, flat = (small("hinge", penalty="r1", gamma=gamma, lr=1e-2) for gamma in (1e-9, 1e3))
    for step in range(20):
        penalties = [loss.discriminator_step(**make_inputs(step))["gradient_penalty"] for loss in (steep, flat)]
    assert penalties[1] < 0.1 * penalties[0]


def test_a_lazy_penalty_is_computed_at_intervals_and_multiplied_by_them(make_inputs):
    lazy, eager = small(penalty_every=3, gamma=2.0), small(gamma=6.0)
    computed = ["gradient_penalty" in lazy.discriminator_step(**make_inputs(step)) for step in range(5)]
    eager.discriminator_step(**make_inputs(0))
    assert computed == [True, False, False, True, False]
    lazy = small(penalty_every=3, gamma=2.0)
    lazy.discriminator_step(**make_inputs(0))
    torch.testing.assert_close(flat_weights(lazy), flat_weights(eager), rtol=1e-6, atol=1e-8)


def save_and_load(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("penalty", ["gp", None])
def test_a_loaded_loss_resumes_bit_for_bit(penalty, make_inputs):
    uninterrupted = small(penalty=penalty, penalty_every=2)
    for step in range(3):
        uninterrupted.discriminator_step(**make_inputs(step))
    resumed = small(penalty=penalty, penalty_every=2)
    resumed.load_state_dict(save_and_load(uninterrupted.state_dict()))
    for step in range(3, 6):
        metrics = [loss.discriminator_step(**make_inputs(step)) for loss in (uninterrupted, resumed)]
        assert metrics[0] == metrics[1]
    for name, value in uninterrupted.state_dict().items():
        other = resumed.state_dict()[name]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


def test_a_state_of_version_0_1_loads(make_inputs):
    loss = L1() + 0.1 * small()
    loss.step_discriminators(make_inputs())
    old_names = {
        "discriminator_trainer.discriminator.": "learner.critic.",
        "discriminator_trainer.exp_avg_sq": "learner.square",
        "discriminator_trainer.exp_avg": "learner.mean",
        "discriminator_trainer._extra_state": "learner._extra_state",
    }
    state = {}
    for key, value in loss.state_dict().items():
        for new, old in old_names.items():
            key = key.replace(new, old)
        assert "discriminator" not in key
        state[key] = value
    loaded = L1() + 0.1 * small(seed=1)
    loaded.load_state_dict(save_and_load(state))
    for name, value in loss.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


def test_a_copy_is_trained_independently(make_inputs):
    loss = small()
    copied = copy.deepcopy(loss)
    before = flat_weights(loss)
    copied.discriminator_step(**make_inputs())
    assert torch.equal(flat_weights(loss), before)
    assert not torch.equal(flat_weights(copied), before)


def test_casts_leave_the_discriminator_in_float32(make_inputs):
    loss = small()
    loss.discriminator_step(**make_inputs())
    cast = copy.deepcopy(loss).half().double().bfloat16()
    assert {buffer.dtype for buffer in cast.buffers()} == {torch.float32}
    assert torch.equal(flat_weights(cast), flat_weights(loss))


def test_the_discriminator_moves_with_its_loss():
    assert {buffer.device.type for buffer in small().to("meta").buffers()} == {"meta"}


@pytest.mark.parametrize("penalty", ["r1", "gp"])
def test_autocast_does_not_change_the_trained_weights(penalty, make_inputs):
    plain, cast = small(penalty=penalty), small(penalty=penalty)
    plain.discriminator_step(**make_inputs())
    with torch.autocast("cpu", torch.bfloat16):
        cast.discriminator_step(**make_inputs())
    assert torch.equal(flat_weights(cast), flat_weights(plain))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_images_of_any_precision_are_accepted(dtype, make_inputs):
    assert (
        small().discriminator_step(**{name: image.to(dtype) for name, image in make_inputs().items()})["loss"].dtype
        == torch.float32
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_with_nonfinite_images_changes_no_weights(bad, make_inputs):
    loss = small()
    loss.discriminator_step(**make_inputs(0))
    before = {name: buffer.clone() for name, buffer in loss.named_buffers() if not name.endswith(".u")}
    loss.discriminator_step(**{**make_inputs(1), "pred": torch.full((2, 3, 24, 24), bad)})
    assert all(torch.equal(dict(loss.named_buffers())[name], value) for name, value in before.items())
    assert all(metric.isfinite() for metric in loss.discriminator_step(**make_inputs(2)).values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1e4, 1e-12])
def test_the_weights_stay_finite_for_degenerate_images(kind, value, make_inputs):
    for penalty in ("r1", "gp"):
        loss = small(kind, penalty=penalty)
        for _ in range(2):
            loss.discriminator_step(torch.full((1, 3, 24, 24), value), make_inputs(n=1)["target"] * value)
        assert flat_weights(loss).isfinite().all()


def test_a_step_between_a_forward_and_its_backward_pass_does_not_affect_the_gradient(make_inputs):
    loss, early, late = small(), make_inputs()["pred"].requires_grad_(), make_inputs()["pred"].requires_grad_()
    loss(early, make_inputs()["target"]).backward()
    value = loss(late, make_inputs()["target"])
    loss.discriminator_step(**make_inputs())
    value.backward()
    assert torch.equal(early.grad, late.grad)


def test_a_step_sends_no_gradient_to_the_network(make_inputs):
    inputs = {name: image.requires_grad_() for name, image in make_inputs().items()}
    with torch.no_grad():
        metrics = small(penalty="gp").discriminator_step(**inputs)
    assert not any(metric.requires_grad for metric in metrics.values())
    assert all(image.grad is None for image in inputs.values())


def test_a_step_does_not_touch_the_global_random_state(make_inputs):
    loss, state = small(penalty="gp"), torch.get_rng_state()
    loss.discriminator_step(**make_inputs())
    assert torch.equal(torch.get_rng_state(), state)


class SynchronizationCounter(TorchDispatchMode):
    """Counts the reads of a tensor's value, for which the host waits for a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("penalty", [None, "r1", "gp"])
def test_a_step_reads_no_value_from_the_device(penalty, make_inputs):
    loss, inputs = small(penalty=penalty), make_inputs()
    with SynchronizationCounter() as counter:
        loss(**inputs)
        loss.discriminator_step(**inputs)
    assert counter.count == 0


def test_feature_matching_beside_adversarial_has_the_same_discriminator_at_every_step(make_inputs):
    adversarial, alone = small("lsgan"), FeatureMatching("patch", "lsgan", penalty="r1", width=4)
    shared = FeatureMatching.of(adversarial)
    assert repr(shared) == repr(alone)
    for step in range(3):
        assert torch.equal(shared(**make_inputs(step)), alone(**make_inputs(step)))
        adversarial.discriminator_step(**make_inputs(step))
        alone.discriminator_step(**make_inputs(step))
    assert shared.discriminator_step(**make_inputs()) == {}
    assert torch.equal(flat_weights(adversarial), flat_weights(alone))


def test_a_shared_discriminator_stays_shared_in_a_copy(make_inputs):
    adversarial = small("lsgan")
    matching = FeatureMatching.of(adversarial)
    copied = copy.deepcopy(adversarial + matching)
    one, other = copied.losses
    one.discriminator_step(**make_inputs())
    assert torch.equal(flat_weights(one), flat_weights(other))
    assert not torch.equal(flat_weights(one), flat_weights(adversarial))


def train(kind, penalty, batches):
    """Return the discriminator's moments, weights and metrics after some steps."""
    loss = small(kind, penalty=penalty)
    metrics = [loss.discriminator_step(**inputs) for inputs in batches][-1]
    trainer = loss.discriminator_trainer
    return {"mean": trainer.exp_avg, "square": trainer.exp_avg_sq, "weights": flat_weights(loss), **metrics}


CASES = [(kind, penalty) for kind in KINDS for penalty in ("r1", "gp")]


def train_in_process(rank, folder, batches):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    own = [{name: image[rank::2] for name, image in inputs.items()} for inputs in batches]
    torch.save([train(*case, own) for case in CASES], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_joint_batch(make_inputs, tmp_path):
    batches = [make_inputs(step, n=4) for step in range(2)]
    torch.multiprocessing.spawn(train_in_process, (tmp_path, batches), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for case, one, other in zip(CASES, *results, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
        joint = train(*case, batches)
        for name in one.keys() - {"weights"}:  # Adam amplifies gradients that are zero up to rounding
            torch.testing.assert_close(one[name], joint[name], rtol=1e-3, atol=1e-6)


def evaluate_in_process(rank, folder, inputs):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    pred = inputs["pred"][rank::2].clone().requires_grad_()
    value = small("relativistic")(pred, inputs["target"][rank::2])
    value.backward()
    torch.save((value.detach(), pred.grad), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_compare_logits_with_the_joint_batch(make_inputs, tmp_path):
    inputs = make_inputs(n=4)
    pred = inputs["pred"].clone().requires_grad_()
    value = small("relativistic")(pred, inputs["target"])
    value.backward()
    torch.multiprocessing.spawn(evaluate_in_process, (tmp_path, inputs), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close((results[0][0] + results[1][0]) / 2, value.detach())
    for rank, (_, gradient) in enumerate(results):
        torch.testing.assert_close(gradient / 2, pred.grad[rank::2])  # DDP averages over the processes

"""A run whose loss has a discriminator."""

import math

import pytest
import torch

from lossmith import parse
from lossmith.losses.discriminators import PatchDiscriminator
from lossmith.models import EDSR
from lossmith.tasks import SuperResolution
from lossmith.train import trainer
from lossmith.train.module import TrainingModule

LOSS = "L1 + 0.1*Adversarial('patch', 'relativistic', penalty='gp', penalty_every=2, width=4)"


@pytest.mark.slow
def test_a_run_with_a_discriminator_resumes_to_the_bit(run, weights, lines):
    options = {"loss": LOSS, "crop": 32, "schedule": "constant"}
    whole = run("whole", **options)
    run("broken", steps=3, **options)
    broken = run("broken", **options)
    assert all(torch.equal(value, weights(broken)[name]) for name, value in weights(whole).items())
    states = [torch.load(folder.checkpoint, weights_only=True)["state_dict"] for folder in (whole, broken)]
    assert states[0]["monitor.loss.losses.1.discriminator_trainer._extra_state"] == {"steps": 6}
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) if isinstance(value, torch.Tensor) else value == states[1][name]
    assert lines(whole)[-1]["discriminators"].keys() >= {
        "Adversarial.loss",
        "Adversarial.real_accuracy",
        "Adversarial.fake_accuracy",
    }


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_discriminator_takes_one_step_per_optimizer_step(accumulate, run):
    folder = run(loss=LOSS, crop=32, steps=3, accumulate=accumulate)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert state["monitor.loss.losses.1.discriminator_trainer._extra_state"] == {"steps": 3}


LATE = "L1 + OnFrom(4) * 0.1*Adversarial('patch', 'relativistic', width=4{})"


@pytest.fixture
def passes(monkeypatch):
    """Count the discriminator's passes from the first step on, without those of the checks before."""
    seen = []
    feature_maps, fit = PatchDiscriminator.feature_maps, trainer.fit
    monkeypatch.setattr(
        PatchDiscriminator, "feature_maps", lambda self, image: seen.append(len(image)) or feature_maps(self, image)
    )
    monkeypatch.setattr(trainer, "fit", lambda *args, **kwargs: seen.clear() or fit(*args, **kwargs))
    return seen


def test_a_discriminator_neither_runs_nor_trains_before_its_term_is_active(run, passes, lines):
    folder = run(loss=LATE.format(""), crop=32, steps=6, log_every=1)
    assert len(passes) == 2 * 4  # in two steps: the prediction and the target for the network, and for the critic
    assert discriminator_state(folder)["monitor.loss.losses.1.discriminator_trainer._extra_state"] == {"steps": 2}
    found = lines(folder)
    assert ["Adversarial" in line["terms"] for line in found] == [False] * 4 + [True] * 2
    assert ["discriminators" in line for line in found] == [False] * 4 + [True] * 2


def test_a_discriminator_can_train_before_its_term_is_active(run, passes):
    folder = run(loss=LATE.format(", discriminator_start_step=3"), crop=32, steps=6)
    assert len(passes) == 2 * 2 + 3 * 2
    assert discriminator_state(folder)["monitor.loss.losses.1.discriminator_trainer._extra_state"] == {"steps": 3}


@pytest.mark.slow
def test_an_inactive_term_does_not_change_the_training(run, weights):
    alone, beside = run("alone", loss="L1", crop=32, steps=4), run("beside", loss=LATE.format(""), crop=32, steps=4)
    assert all(torch.equal(value, weights(beside)[name]) for name, value in weights(alone).items())


def test_a_gradient_share_holds_from_the_step_in_which_the_discriminator_becomes_active(run, lines):
    loss = "80% * L1 + OnFrom(3) * 20% * Adversarial('patch', 'relativistic', width=4)"
    folder = run(loss=loss, balance="share(ema=0.0, every=1)", crop=32, steps=6, log_every=1)
    shares = [line["gradient_shares"]["Adversarial"] for line in lines(folder)]
    assert shares[:3] == [0.0] * 3
    assert shares[3:] == pytest.approx([0.2] * 3, rel=1e-3)


def test_a_discriminator_trains_in_float32_under_mixed_precision(run, lines):
    folder = run(loss=LOSS, crop=32, steps=3, log_every=1, precision="bf16-mixed")
    learner = {n: v for n, v in discriminator_state(folder).items() if isinstance(v, torch.Tensor)}
    assert learner and all(value.dtype == torch.float32 for value in learner.values())
    assert all(math.isfinite(figure) for line in lines(folder) for figure in line["discriminators"].values())


def test_ddp_does_not_broadcast_the_discriminator():
    network = EDSR(2, channels=4, blocks=1)
    module = TrainingModule(SuperResolution(2), network, parse(LOSS), steps=1)
    sent = {name for name, _ in [*module.named_parameters(), *module.named_buffers()]}
    sent -= set(module._ddp_params_and_buffers_to_ignore)
    assert sent == {f"model.{name}" for name in network.state_dict()}


def discriminator_state(folder):
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if ".discriminator_trainer." in name}

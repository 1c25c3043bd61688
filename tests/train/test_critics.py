"""A run whose loss has a critic."""

import pytest
import torch

LOSS = "L1 + 0.1*Adversarial('patch', 'relativistic', penalty='gp', every=2, width=4)"


def test_a_run_with_a_critic_resumes_to_the_bit(run, weights, lines):
    options = {"loss": LOSS, "crop": 32, "schedule": "constant"}
    whole = run("whole", **options)
    run("broken", steps=3, **options)
    broken = run("broken", **options)
    assert all(torch.equal(value, weights(broken)[name]) for name, value in weights(whole).items())
    states = [torch.load(folder.checkpoint, weights_only=True)["state_dict"] for folder in (whole, broken)]
    assert states[0]["loss.losses.1.learner._extra_state"] == {"steps": 6}
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) if isinstance(value, torch.Tensor) else value == states[1][name]
    assert lines(whole)[-1]["critics"].keys() >= {"Adversarial.critic", "Adversarial.real", "Adversarial.fake"}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_critic_takes_one_step_a_step(accumulate, run):
    folder = run(loss=LOSS, crop=32, steps=3, accumulate=accumulate)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert state["loss.losses.1.learner._extra_state"] == {"steps": 3}

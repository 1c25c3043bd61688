"""Discriminators in a sum of terms, as a training loop steps them."""

import pytest
import torch

from lossmith import L1, VGG, Adversarial, Downsample, OnFrom
from lossmith.losses import FeatureMatching


def adversarial(**options):
    return Adversarial("patch", width=4, **options)


def random_inputs(side=24):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(2, 3, side, side, generator=generator) for name in ("pred", "target", "other")}


def test_a_loss_without_a_discriminator_returns_no_logs():
    assert (L1() + 0.1 * L1() @ Downsample(2)).step_discriminators(random_inputs()) == {}


def test_each_discriminator_is_trained_and_its_logs_have_the_terms_name():
    loss = L1() + 0.1 * adversarial() + adversarial(seed=1).on(target="other")
    names = [name for name in loss.names if name != "L1"]
    quantities = ("loss", "real_accuracy", "fake_accuracy", "logit_std")
    assert set(loss.step_discriminators(random_inputs())) == {f"{name}.{of}" for name in names for of in quantities}
    assert [loss_term.discriminator_trainer.steps for loss_term in loss.losses[1:]] == [1, 1]


def test_a_discriminator_sees_the_inputs_and_the_lens_of_its_term():
    lens = Downsample(2)
    plain, inside = adversarial(), adversarial()
    (L1() + (inside @ lens).on(target="other")).step_discriminators(random_inputs(48))
    lensed = {name: lens({"pixels": tensor})["pixels"] for name, tensor in random_inputs(48).items()}
    plain.discriminator_step(lensed["pred"], lensed["other"])
    assert torch.equal(plain.discriminator_trainer.exp_avg, inside.discriminator_trainer.exp_avg)


def test_a_discriminator_on_several_layers_raises():
    loss = 1 * adversarial(channels=64) @ VGG("vgg16", ["conv1_1", "conv1_2"], weights="random")
    with pytest.raises(ValueError, match="takes one map; the lens returns conv1_1, conv1_2"):
        loss.step_discriminators(random_inputs())


def test_a_shared_discriminator_takes_one_step():
    loss_term = adversarial()
    (loss_term + 10 * FeatureMatching.of(loss_term)).step_discriminators(random_inputs())
    assert loss_term.discriminator_trainer.steps == 1


def test_a_discriminator_in_two_terms_takes_one_step():
    loss_term = adversarial()
    (loss_term + 0.1 * loss_term.on(target="other")).step_discriminators(random_inputs())
    assert loss_term.discriminator_trainer.steps == 1


def test_a_discriminator_is_not_trained_while_its_weight_is_0():
    loss_term = adversarial()
    loss = L1() + OnFrom(5) * loss_term
    assert loss.step_discriminators(random_inputs(), step=4) == {}
    assert loss.step_discriminators(random_inputs(), step=5)
    assert loss_term.discriminator_trainer.steps == 1


def test_a_missing_input_raises():
    with pytest.raises(ValueError, match="The term 'Adversarial' reads the input 'target'"):
        adversarial().step_discriminators({"pred": random_inputs()["pred"]})

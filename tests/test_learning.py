"""Critics inside a sum: what a training loop calls."""

import pytest
import torch

from lossmith import L1, VGG, Adversarial, Downsample, FeatureMatching, OnFrom


def patch(**other):
    return Adversarial("patch", width=4, **other)


def views(side=24):
    dice = torch.Generator().manual_seed(0)
    return {name: torch.rand(2, 3, side, side, generator=dice) for name in ("pred", "target", "other")}


def test_a_loss_without_a_critic_learns_nothing():
    assert (L1() + 0.1 * L1() @ Downsample(2)).step_discriminators(views()) == {}


def test_each_critic_of_a_sum_learns_and_its_figures_have_the_terms_name():
    loss = L1() + 0.1 * patch() + patch(seed=1).on(target="other")
    critics = [name for name in loss.names if name != "L1"]
    figures = ("loss", "real_accuracy", "fake_accuracy", "logit_std")
    assert set(loss.step_discriminators(views())) == {f"{name}.{of}" for name in critics for of in figures}
    assert [critic.discriminator_trainer.steps for critic in loss.losses[1:]] == [1, 1]


def test_a_critic_learns_from_the_views_and_through_the_lens_of_its_term():
    lens = Downsample(2)
    plain, inside = patch(), patch()
    (L1() + (inside @ lens).on(target="other")).step_discriminators(views(48))
    both = {name: lens({"pixels": view})["pixels"] for name, view in views(48).items()}
    plain.discriminator_step(both["pred"], both["other"])
    assert torch.equal(plain.discriminator_trainer.exp_avg, inside.discriminator_trainer.exp_avg)


def test_a_critic_behind_several_layers_is_refused():
    loss = 1 * patch(channels=64) @ VGG("vgg16", ["conv1_1", "conv1_2"], weights="random")
    with pytest.raises(ValueError, match="takes one map; the lens returns conv1_1, conv1_2"):
        loss.step_discriminators(views())


def test_a_shared_critic_takes_one_step():
    critic = patch()
    (critic + 10 * FeatureMatching.of(critic)).step_discriminators(views())
    assert critic.discriminator_trainer.steps == 1


def test_a_critic_in_two_terms_takes_one_step():
    critic = patch()
    (critic + 0.1 * critic.on(target="other")).step_discriminators(views())
    assert critic.discriminator_trainer.steps == 1


def test_a_critic_rests_while_its_weight_is_nothing():
    critic = patch()
    loss = L1() + OnFrom(5) * critic
    assert loss.step_discriminators(views(), step=4) == {}
    assert loss.step_discriminators(views(), step=5)
    assert critic.discriminator_trainer.steps == 1


def test_a_missing_view_is_named():
    with pytest.raises(ValueError, match="The term 'Adversarial' reads the input 'target'"):
        patch().step_discriminators({"pred": views()["pred"]})

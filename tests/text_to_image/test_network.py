"""The denoiser, and sampling from it."""

import copy
from typing import get_args

import diffusers
import pytest
import torch
from torch.testing import assert_close

from lossmith.models import load_restorer, load_network, save_network
from lossmith.noise_levels import PredictionType, NoiseScheduleName
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.sampler import SamplerConfig, make_noise, sample_images, apply_dynamic_threshold

ASKED = ("hidden", "maps", "other_maps")


def test_to_be_looked_at_changes_no_bit_of_the_answer(denoiser, text):
    model, noisy, t = denoiser(), torch.randn(3, 3, 16, 16), torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(model(noisy, t, text).output, model(noisy, t, text, show=ASKED).output)


def test_attention_is_what_it_was_computed_with(denoiser, text):
    seen = denoiser()(torch.randn(3, 3, 16, 16), torch.full((3,), 0.5), text, show=ASKED)
    assert seen.maps["maps"].shape == seen.maps["other_maps"].shape == (3, 1, 64, 5)
    assert_close(seen.maps["maps"].sum(dim=-1), torch.ones(3, 1, 64))
    assert not seen.maps["maps"][1, ..., 2:].any()
    assert seen.hidden.shape == (3, 16, 4, 4)


def test_what_is_not_kept_is_computed_again_with_all_that_was_looked_at(denoiser, text):
    noisy, t = torch.randn(3, 3, 16, 16), torch.tensor([0.1, 0.5, 0.9])
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(denoiser(checkpointing=checkpointing))  # as the average of the weights is made
        seen = model(noisy, t, text, show=ASKED)
        (seen.output.square().mean() + seen.hidden.mean() + sum(each.var() for each in seen.maps.values())).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-7)


def test_padding_is_not_heard(denoiser, text):
    model, noisy, t = denoiser(), torch.randn(3, 3, 16, 16), torch.full((3,), 0.5)
    louder = text._replace(tokens=text.tokens + 9.0 * ~text.mask[..., None])
    assert_close(model(noisy, t, louder).output, model(noisy, t, text).output)


def test_what_is_not_said_is_not_heard(denoiser, text):
    model, noisy, t = denoiser(), torch.randn(3, 3, 16, 16), torch.full((3,), 0.5)
    dropped = torch.tensor([True, False, True])
    other = TextEmbedding(text.tokens.flip(0), text.mask.flip(0), text.pooled.flip(0))
    mine, others = (model(noisy, t, each.without(dropped)).output for each in (text, other))
    assert_close(mine[[0, 2]], others[[0, 2]])
    assert not torch.equal(mine[0], model(noisy, t, text).output[0])


def test_a_network_comes_back_from_its_file(denoiser, text, tmp_path):
    model = denoiser(prediction="v", schedule="cosine").eval()
    save_network(model, tmp_path / "a.safetensors", {"task": "text-to-image"})
    again, facts = load_network(tmp_path / "a.safetensors")
    noisy, t = torch.randn(3, 3, 16, 16), torch.full((3,), 0.5)
    assert facts["task"] == "text-to-image"
    assert torch.equal(again(noisy, t, text).output, model(noisy, t, text).output)
    with pytest.raises(ValueError, match="lossmith sample"):
        load_restorer(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("side", "drawn"), [(16, 16), (64, 32)])
def test_a_sketch_is_drawn_of_the_text_alone_and_seen_by_the_network(denoiser, text, tmp_path, side, drawn):
    model, t = denoiser(side=side, sketch=8).eval(), torch.full((3,), 0.5)
    first, second = (model(torch.randn(3, 3, side, side), t, text) for _ in range(2))
    assert first.sketch.shape == (3, 3, side, side) and model.sketch[4].out_features == 3 * drawn**2
    assert torch.equal(first.sketch, second.sketch) and not torch.equal(first.sketch[0], first.sketch[1])
    (gradient,) = torch.autograd.grad(first.output.square().sum(), model.sketch[0].weight)
    assert gradient.any()
    save_network(model, tmp_path / "a.safetensors", {"task": "text-to-image"})
    again, _ = load_network(tmp_path / "a.safetensors")
    assert torch.equal(again(torch.zeros(3, 3, side, side), t, text).sketch, first.sketch)
    assert denoiser(side=side)(torch.zeros(3, 3, side, side), t, text).sketch is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sketch": -1}, "or 0 for none; got -1"),
        ({"side": 18}, "a multiple of 4; got 18"),
        ({"channels": [8, 12]}, "in multiples of 8 x 1 heads"),
        ({"prediction": "picture"}, "predicts eps, x0"),
        ({"schedule": "linear"}, "the schedules flow, cosine, edm"),
        ({"sigma_data": 0.0}, "sigma_data > 0"),
    ],
)
def test_a_network_that_cannot_be_gets_one_line(denoiser, options, words):
    with pytest.raises(ValueError, match=words):
        denoiser(**options)


@pytest.mark.parametrize("schedule", ["flow", "cosine", "edm"])
def test_a_seed_gives_one_picture_whatever_stands_beside_it(denoiser, text, schedule):
    model = denoiser(schedule=schedule).eval()
    how, noise = SamplerConfig(steps=3), make_noise([5, 6, 7], 16)
    together = sample_images(model, text, noise, how)
    alone = sample_images(model, TextEmbedding(*(part[1:2] for part in text)), make_noise([6], 16), how)
    assert_close(together[1:2], alone, atol=1e-5, rtol=0)
    assert together.min() >= 0
    assert together.max() <= 1


SOLVERS = [(schedule, solver) for schedule in get_args(NoiseScheduleName) for solver in ("euler", "heun")]
SOLVERS += [("flow", "dpm++"), ("cosine", "dpm++"), ("cosine", "ddim")]


@pytest.mark.parametrize(("schedule", "solver"), SOLVERS)
@pytest.mark.parametrize("prediction", get_args(PredictionType))
def test_whatever_a_network_predicts_its_samples_are_pictures(denoiser, text, prediction, schedule, solver):
    model = denoiser(prediction=prediction, schedule=schedule).eval()
    made = sample_images(model, text, make_noise([5, 6, 7], 16), SamplerConfig(solver=solver, steps=4))
    assert made.isfinite().all()
    assert made.min() >= 0 and made.max() <= 1
    assert (made.flatten(1).std(dim=1) > 0.01).all()


def test_guidance_rests_outside_of_its_interval(denoiser, text, monkeypatch):
    model, sizes = denoiser().eval(), []
    forward = model.forward

    def counted(noisy, *args, **kwargs):
        sizes.append(len(noisy))
        return forward(noisy, *args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    sample_images(model, text, make_noise([1, 2, 3], 16), SamplerConfig(steps=4, interval=(0.4, 0.8)))
    assert sizes == [3, 6, 6, 3]  # at times 1, 0.75, 0.5, 0.25


def test_guidance_of_1_and_0_cost_one_pass_and_say_what_they_mean(denoiser, text):
    model, noise = denoiser().eval(), make_noise([1, 2, 3], 16)
    none = sample_images(model, text.without(torch.ones(3, dtype=torch.bool)), noise, SamplerConfig(steps=2, guidance=1))
    assert_close(sample_images(model, text, noise, SamplerConfig(steps=2, guidance=0)), none)


def test_dynamic_thresholding_brings_back_the_whole_picture_where_diffusers_clips():
    x = torch.linspace(-3, 3, 1000).view(1, 1, 20, 50)
    options = {"thresholding": True, "dynamic_thresholding_ratio": 0.9}
    theirs = diffusers.DDPMScheduler(**options)._threshold_sample(x)
    assert_close(theirs, x.clamp(-1, 1))  # as it is delivered
    wide = diffusers.DDPMScheduler(**options, sample_max_value=2.0)._threshold_sample(x)
    assert_close(apply_dynamic_threshold(x, 0.9, 2.0), wide)
    assert_close(apply_dynamic_threshold(x, 0.9, 1.0), theirs)
    assert not torch.equal(wide, theirs)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"guidance": -1.0}, {"interval": (0.9, 0.1)}, {"solver": "ode"}, {"cap": 0.5}]
)
def test_a_sampling_that_cannot_be_gets_one_line(options):
    with pytest.raises(ValueError, match=r"got|there are|There are"):
        SamplerConfig(**options)

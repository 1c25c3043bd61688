"""The denoiser, and sampling with it."""

import copy
import json
from typing import get_args

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lossmith.models import load_network, load_restorer, save_network
from lossmith.models.files import read_header
from lossmith.noise_levels import NoiseScheduleName, PredictionType
from lossmith.text_to_image.encoders import TextEmbedding
from lossmith.text_to_image.models import Denoiser, SamplerConfig, make_noise, sample_images
from lossmith.text_to_image.models.sampler import apply_dynamic_threshold

CAPTURED = ("hidden", "maps", "other_maps")


def test_capturing_features_does_not_change_a_bit_of_the_output(build_denoiser, text):
    model, noisy, t = build_denoiser(), torch.randn(3, 3, 16, 16), torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(model(noisy, t, text).prediction, model(noisy, t, text, capture=CAPTURED).prediction)


def test_captured_attention_is_a_distribution_over_the_tokens(build_denoiser, text):
    output = build_denoiser()(torch.randn(3, 3, 16, 16), torch.full((3,), 0.5), text, capture=CAPTURED)
    assert output.maps["maps"].shape == output.maps["other_maps"].shape == (3, 1, 64, 5)
    assert_close(output.maps["maps"].sum(dim=-1), torch.ones(3, 1, 64))
    assert not output.maps["maps"][1, ..., 2:].any()
    assert output.hidden.shape == (3, 16, 4, 4)


def test_gradients_with_checkpointing_are_those_without_also_of_captured_features(build_denoiser, text):
    noisy, t = torch.randn(3, 3, 16, 16), torch.tensor([0.1, 0.5, 0.9])
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(build_denoiser(checkpointing=checkpointing))  # as the averaged weights are made
        output = model(noisy, t, text, capture=CAPTURED)
        maps = sum(each.var() for each in output.maps.values())
        (output.prediction.square().mean() + output.hidden.mean() + maps).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-7)


def test_the_output_does_not_depend_on_padding(build_denoiser, text):
    model, noisy, t = build_denoiser(), torch.randn(3, 3, 16, 16), torch.full((3,), 0.5)
    changed = text._replace(tokens=text.tokens + 9.0 * ~text.mask[..., None])
    assert_close(model(noisy, t, changed).prediction, model(noisy, t, text).prediction)


def test_the_output_does_not_depend_on_dropped_text(build_denoiser, text):
    model, noisy, t = build_denoiser(), torch.randn(3, 3, 16, 16), torch.full((3,), 0.5)
    dropped = torch.tensor([True, False, True])
    other = TextEmbedding(text.tokens.flip(0), text.mask.flip(0), text.pooled.flip(0))
    first, second = (model(noisy, t, each.drop(dropped)).prediction for each in (text, other))
    assert_close(first[[0, 2]], second[[0, 2]])
    assert not torch.equal(first[0], model(noisy, t, text).prediction[0])


def test_a_saved_denoiser_loads(build_denoiser, text, tmp_path):
    model = build_denoiser(prediction="v", schedule="cosine").eval()
    save_network(model, tmp_path / "a.safetensors", {"task": "text-to-image"})
    again, header = load_network(tmp_path / "a.safetensors")
    noisy, t = torch.randn(3, 3, 16, 16), torch.full((3,), 0.5)
    assert header["task"] == "text-to-image"
    assert torch.equal(again(noisy, t, text).prediction, model(noisy, t, text).prediction)
    with pytest.raises(ValueError, match="lossmith sample"):
        load_restorer(tmp_path / "a.safetensors")


def test_a_file_with_former_names_of_arguments_and_modules_loads(build_denoiser, text, tmp_path):
    model = build_denoiser(prior_width=8).eval()
    save_network(model, tmp_path / "new.safetensors", {"task": "text-to-image"})
    old_options = {new: old for old, new in Denoiser.former_options.items()}
    spec = {old_options.get(name, name): value for name, value in model.spec.items()}
    assert spec.keys() >= {"text", "attends", "fold", "sketch"}
    old = copy.copy(model)
    old.spec = spec
    save_network(old, tmp_path / "spec.safetensors", {"task": "text-to-image"})
    state = load_file(tmp_path / "new.safetensors")
    state = {key.replace("prior_decoder.", "sketch."): value for key, value in state.items()}
    header = json.dumps(read_header(tmp_path / "spec.safetensors"))
    save_file(state, tmp_path / "old.safetensors", {"lossmith": header})
    again, _ = load_network(tmp_path / "old.safetensors")
    assert again.spec == model.spec
    assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("side", "decoded_side"), [(16, 16), (64, 32)])
def test_the_prior_depends_on_the_text_alone_and_is_an_input_of_the_unet(
    build_denoiser, text, tmp_path, side, decoded_side
):
    model, t = build_denoiser(side=side, prior_width=8).eval(), torch.full((3,), 0.5)
    first, second = (model(torch.randn(3, 3, side, side), t, text) for _ in range(2))
    assert first.prior.shape == (3, 3, side, side)
    assert model.prior_decoder[4].out_features == 3 * decoded_side**2
    assert torch.equal(first.prior, second.prior) and not torch.equal(first.prior[0], first.prior[1])
    (gradient,) = torch.autograd.grad(first.prediction.square().sum(), model.prior_decoder[0].weight)
    assert gradient.any()
    save_network(model, tmp_path / "a.safetensors", {"task": "text-to-image"})
    again, _ = load_network(tmp_path / "a.safetensors")
    assert torch.equal(again(torch.zeros(3, 3, side, side), t, text).prior, first.prior)
    assert build_denoiser(side=side)(torch.zeros(3, 3, side, side), t, text).prior is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior_width": -1}, "prior_width must be an integer at least 0; got -1"),
        ({"side": 18}, "must be a multiple of 4, .* got 18"),
        ({"channels": [8, 12]}, "multiples of 8 x 1 heads"),
        ({"prediction": "picture"}, "prediction must be one of 'eps', 'x0'"),
        ({"schedule": "linear"}, "schedule must be one of 'flow', 'cosine', 'edm'"),
        ({"sigma_data": 0.0}, "sigma_data must be .*positive"),
    ],
)
def test_an_argument_out_of_range_raises(build_denoiser, options, message):
    with pytest.raises(ValueError, match=message):
        build_denoiser(**options)


@pytest.mark.parametrize("schedule", ["flow", "cosine", "edm"])
def test_the_sample_of_a_seed_does_not_depend_on_its_batch(build_denoiser, text, schedule):
    model = build_denoiser(schedule=schedule).eval()
    config, noise = SamplerConfig(steps=3), make_noise([5, 6, 7], 16)
    together = sample_images(model, text, noise, config)
    alone = sample_images(model, text.slice(1, 2), make_noise([6], 16), config)
    assert_close(together[1:2], alone, atol=1e-5, rtol=0)
    assert together.min() >= 0
    assert together.max() <= 1


SOLVERS = [(schedule, solver) for schedule in get_args(NoiseScheduleName) for solver in ("euler", "heun")]
SOLVERS += [("flow", "dpm++"), ("cosine", "dpm++"), ("cosine", "ddim")]


@pytest.mark.parametrize(("schedule", "solver"), SOLVERS)
@pytest.mark.parametrize("prediction", get_args(PredictionType))
def test_samples_of_every_prediction_are_images(build_denoiser, text, prediction, schedule, solver):
    model = build_denoiser(prediction=prediction, schedule=schedule).eval()
    samples = sample_images(model, text, make_noise([5, 6, 7], 16), SamplerConfig(solver=solver, steps=4))
    assert samples.isfinite().all()
    assert samples.min() >= 0 and samples.max() <= 1
    assert (samples.flatten(1).std(dim=1) > 0.01).all()


def test_guidance_acts_only_in_its_interval(build_denoiser, text, monkeypatch):
    model, batch_sizes = build_denoiser().eval(), []
    forward = model.forward

    def counted_forward(noisy, *args, **kwargs):
        batch_sizes.append(len(noisy))
        return forward(noisy, *args, **kwargs)

    monkeypatch.setattr(model, "forward", counted_forward)
    sample_images(model, text, make_noise([1, 2, 3], 16), SamplerConfig(steps=4, guidance_interval=(0.4, 0.8)))
    assert batch_sizes == [3, 6, 6, 3]  # at times 1, 0.75, 0.5, 0.25


def test_guidance_0_ignores_the_text_and_guidance_1_is_conditional(build_denoiser, text):
    model, noise = build_denoiser().eval(), make_noise([1, 2, 3], 16)
    null_text = text.drop(torch.ones(3, dtype=torch.bool))
    unconditional = sample_images(model, null_text, noise, SamplerConfig(steps=2, guidance_scale=1))
    assert_close(sample_images(model, text, noise, SamplerConfig(steps=2, guidance_scale=0)), unconditional)


def test_dynamic_thresholding_rescales_where_diffusers_clips_by_default():
    x = torch.linspace(-3, 3, 1000).view(1, 1, 20, 50)
    options = {"thresholding": True, "dynamic_thresholding_ratio": 0.9}
    clipped = diffusers.DDPMScheduler(**options)._threshold_sample(x)
    assert_close(clipped, x.clamp(-1, 1))
    rescaled = diffusers.DDPMScheduler(**options, sample_max_value=2.0)._threshold_sample(x)
    assert_close(apply_dynamic_threshold(x, 0.9, 2.0), rescaled)
    assert_close(apply_dynamic_threshold(x, 0.9, 1.0), clipped)
    assert not torch.equal(rescaled, clipped)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"guidance_scale": -1.0},
        {"guidance_interval": (0.9, 0.1)},
        {"solver": "ode"},
        {"threshold_max": 0.5},
    ],
)
def test_a_sampler_setting_out_of_range_raises(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must .*got"):
        SamplerConfig(**options)

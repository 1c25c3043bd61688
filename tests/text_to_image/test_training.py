"""Training on captions: loss inputs, resuming, super-resolution stages and the commands."""

import json
import shutil

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith import parse
from lossmith.cli import main
from lossmith.image import from_pil
from lossmith.models import build_network, save_network
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.text_to_image import CaptionedImages, RestorationPipeline, TextToImage
from lossmith.text_to_image.evaluation import load_training_images
from lossmith.text_to_image.metrics import CaptionJudge


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def denoising_run(tmp_path_factory, run_training):
    """The folder and the weights of a run with the denoising term only."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    return out, run_training(out)


@pytest.mark.slow
def test_terms_of_weight_0_do_not_change_the_weights_bitwise(denoising_run, tmp_path, run_training):
    terms = "0 * L1 + 0 * Dispersive + 0 * AttentionMask + 0 * ContrastiveFlow"
    assert are_equal(run_training(tmp_path / "run", f"imagen + {terms}"), denoising_run[1])
    assert not are_equal(run_training(tmp_path / "other", "imagen + L1"), denoising_run[1])


@pytest.mark.slow
def test_a_resumed_run_gives_bitwise_the_weights_of_an_uninterrupted_run(denoising_run, tmp_path, run_training):
    shutil.copytree(denoising_run[0], tmp_path / "run")
    assert are_equal(run_training(tmp_path / "run", steps=5), run_training(tmp_path / "whole", steps=5))


@pytest.mark.slow
def test_a_term_on_the_prior_trains_the_prior_only(tmp_path, run_training):
    model = {"name": "denoiser", "channels": [8, 16], "heads": 1, "prior_width": 8}
    without = run_training(tmp_path / "without", model=model, clip=0.0)
    with_term = run_training(tmp_path / "with", "imagen + L2.on(pred='prior')", model=model, clip=0.0, steps=1)
    first = run_training(tmp_path / "first", model=model, clip=0.0, steps=1)
    assert without.keys() == with_term.keys() == first.keys()
    changed = {name.split(".")[0] for name in with_term if not torch.equal(with_term[name], first[name])}
    assert changed == {"prior_decoder"}


@pytest.mark.slow
def test_a_run_under_former_names_of_options_resumes(tmp_path, run_training):
    model = {"name": "denoiser", "channels": [8, 16], "heads": 1, "prior_width": 8}
    loss, options = "imagen + L2.on(pred='prior')", {"encoder": "words", "val_fraction": 0.2, "caption_dropout": 0.2}
    run_training(tmp_path / "run", loss, model=model, options=options, steps=1)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["loss"] = "imagen + L2.on(pred='sketch')"
    config["options"] = {"encoder": "words", "share": 0.2, "drop": 0.2}
    config["model"] = {"name": "denoiser", "channels": [8, 16], "heads": 1, "sketch": 8}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    resumed = run_training(tmp_path / "run", loss, model=model, options=options, steps=2)
    whole = run_training(tmp_path / "whole", loss, model=model, options=options, steps=2)
    assert are_equal(resumed, whole)


def test_a_validation_samples_images_and_measures_them(denoising_run):
    lines = (denoising_run[0] / "validation.jsonl").read_text().splitlines()
    metrics = json.loads(lines[-1])
    assert metrics["n"] == 2
    assert len(metrics["denoising_by_logsnr"]) == 8
    assert 0 <= metrics["joint"] <= 1
    assert (denoising_run[0] / "sheets" / "samples" / "truth.png").is_file()
    assert (denoising_run[0] / "sheets" / "samples" / "step_00000003.png").is_file()


def test_the_target_is_the_image_whatever_the_prediction(build_denoiser, batch):
    inputs = TextToImage(caption_dropout=0.0, encoder="words").compute_inputs(build_denoiser(), batch)
    assert_close(inputs["clean"], 2 * batch["target"] - 1)
    assert_close(inputs["pred"], (inputs["prediction"] + 1) / 2)
    assert inputs["group"].tolist() == [4, 4, 9]
    assert inputs["conditioned"].all()


@pytest.mark.parametrize("prediction", ["x0", "eps", "v", "flow", "edm"])
def test_prediction_and_predicted_image_are_consistent(build_denoiser, batch, prediction):
    schedule = "edm" if prediction == "edm" else "cosine"
    model = build_denoiser(prediction=prediction, schedule=schedule)
    torch.manual_seed(3)
    inputs = TextToImage(encoder="words").compute_inputs(model, batch)
    (found,) = parse(f"DenoisingMSE({prediction!r}, weighting='x0')").evaluate(inputs).values()
    expected = (2 * inputs["pred"] - 1 - inputs["clean"]).square().flatten(1).mean(dim=1)
    assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_flow_weighted_error_is_that_of_the_velocity(build_denoiser, batch):
    torch.manual_seed(3)
    inputs = TextToImage(encoder="words").compute_inputs(build_denoiser(), batch)
    expected = (inputs["velocity"] - (inputs["noise"] - inputs["clean"])).square().flatten(1).mean(dim=1)
    (found,) = parse("imagen").evaluate(inputs).values()
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_only_inputs_that_are_read_are_computed(build_denoiser, batch):
    task = TextToImage(caption_dropout=0.5, encoder="words").with_inputs(["prediction"])
    assert not {"hidden", "maps", "attention"} & task.compute_inputs(build_denoiser(), batch).keys()
    torch.manual_seed(1)
    inputs = task.with_inputs(["attention", "region"]).compute_inputs(build_denoiser(), batch)
    assert inputs["attention"].shape == (3, 2, 8, 8)
    has_region = inputs["region"].flatten(2).any(dim=2)
    assert torch.equal(has_region[:, 0], inputs["conditioned"])
    assert not has_region[:, 1].any()  # no word describes the second object


def test_a_super_resolution_stage_is_conditioned_on_block_means_with_noise_of_random_levels():
    found = TextToImage(4, encoder="words").draw_low_res(torch.ones(200, 3, 16, 16), 4)
    assert found["low_res"].shape == (200, 3, 16, 16)
    assert 0.2 < found["noise_level"].std() < 0.35
    clean = (1 - found["noise_level"]).view(-1, 1, 1, 1)
    assert (found["low_res"] - clean).mean().abs() < 0.05


def test_a_super_resolution_stage_upscales_the_images_of_the_base_stage(denoising_run, tmp_path, run_training, capsys):
    run_training(tmp_path / "run", scale=2, crop=32, steps=1)
    out = tmp_path / "a.png"
    arguments = ["sample", str(denoising_run[0]), "a red ring", "--out", str(out), "--steps", "2", "--grid", "1x1"]
    assert main([*arguments, "--upscale", str(tmp_path / "run"), "--device", "cpu"]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (32, 32)
    assert main(["sample", str(tmp_path / "run"), "a red ring", "--device", "cpu"]) == 2
    assert "pass the run as --upscale" in capsys.readouterr().err


def test_a_restoration_network_upscales_the_images_of_the_base_stage(denoising_run, tmp_path, capsys):
    model, file, out = build_network("edsr", 3, channels=4, blocks=1), tmp_path / "x3.safetensors", tmp_path / "a.png"
    save_network(model, file, {"task": "super-resolution"})
    arguments = ["sample", str(denoising_run[0]), "a red ring", "--out", str(out), "--steps", "2", "--grid", "1x1"]
    arguments += ["--device", "cpu"]
    assert main(arguments) == 0
    with Image.open(out) as sheet:
        small = from_pil(sheet)
    assert main([*arguments, "--upscale", str(file)]) == 0
    with Image.open(out) as sheet:  # an untrained EDSR interpolates
        assert_close(from_pil(sheet), model(small[None])[0].clamp(0, 1), atol=0.01, rtol=0)
    capsys.readouterr()
    assert main([*arguments, "--upscale", str(file), "--noise-augmentation", "0.2"]) == 2
    assert "leave --noise-augmentation out" in capsys.readouterr().err
    assert main([*arguments, "--noise-augmentation", "0.2"]) == 2
    assert "add --upscale" in capsys.readouterr().err
    assert main([*arguments, "--upscale", str(denoising_run[0])]) == 2
    assert "needs a super-resolution stage" in capsys.readouterr().err


@pytest.mark.parametrize(
    "network",
    [build_network("edsr", 1), ConditionedNetwork(build_network("edsr", 2), {"lam": (0.1, 1.0)})],
    ids=["scale 1", "knob"],
)
def test_a_network_that_cannot_be_a_super_resolution_stage_raises(network):
    with pytest.raises(ValueError, match="cannot be a super-resolution stage"):
        RestorationPipeline(network)


def test_a_super_resolution_stage_keeps_nonfinite_values_which_the_command_refuses():
    network = build_network("edsr", 2, channels=4, blocks=1)
    torch.nn.init.constant_(network.tail.bias, torch.inf)
    images = RestorationPipeline(network).upscale(torch.zeros(1, 3, 8, 8), [""], [0], None)
    assert not images.isfinite().any()


def test_training_runs_in_bf16_with_checkpointing_and_accumulation(tmp_path, run_training):
    model = {"name": "denoiser", "channels": [8, 16], "heads": 1, "checkpointing": True}
    weights = run_training(tmp_path / "run", precision="bf16-mixed", accumulate=2, steps=1, model=model)
    assert all(weight.isfinite().all() for weight in weights.values())


def test_all_terms_of_imagen_fused_train_at_once(tmp_path, run_training):
    fused = "75%*imagen + 5%*ContrastiveFlow + 10%*L1 + 10%*L2 @ Central + 0.01*Dispersive + 0.02*AttentionMask"
    run_training(tmp_path / "run", f"{fused} + 0.1*HiddenAlignment", steps=2, balance="share")
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert len(line["terms"]) == 7


def test_sample_writes_a_grid_and_explains_errors(denoising_run, tmp_path, capsys):
    out = tmp_path / "a.png"
    arguments = ["sample", str(denoising_run[0]), "a red ring", "", "--out", str(out), "--steps", "2"]
    arguments += ["--device", "cpu"]
    assert main([*arguments, "--grid", "2x2"]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (34, 34)
    assert main([*arguments, "--grid", "1x2", "--zoom", "3"]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (98, 48)
    assert main([*arguments, "--grid", "1x1"]) == 2
    assert "2 prompts" in capsys.readouterr().err
    assert main([*arguments, "--sampler", "ddim"]) == 2
    assert "use euler" in capsys.readouterr().err


@pytest.mark.parametrize("prompt", ["red " * 10_000, "красный круг", "赤い星", "🦊"])
def test_an_image_is_sampled_for_any_prompt(denoising_run, tmp_path, prompt, recwarn):
    arguments = ["sample", str(denoising_run[0]), prompt, "--out", str(tmp_path / "a.png"), "--steps", "1"]
    assert main([*arguments, "--device", "cpu", "--grid", "1x1"]) == 0


def test_evaluate_reports_ceiling_chance_and_floor(denoising_run, capsys):
    arguments = ["evaluate", str(denoising_run[0]), "--captions", "shapes", "--guidance", "1"]
    assert main([*arguments, "--count", "8", "--steps", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {"ceiling", "chance", "floor", "guidance", "denoising"} <= record.keys()
    assert main(["evaluate", str(denoising_run[0])]) == 2


@pytest.mark.slow
def test_a_judge_ranks_the_captions_of_real_images_and_of_samples(denoising_run, tmp_path, capsys):
    torch.manual_seed(0)
    CaptionJudge(32).save(tmp_path / "judge.safetensors")
    arguments = ["evaluate", str(denoising_run[0]), "--captions", "shapes", "--guidance", "1", "--count", "8"]
    arguments += ["--steps", "1"]
    assert main([*arguments, "--json", "--judge", str(tmp_path / "judge.safetensors")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["chance"]["r_precision"] == 1 / 72  # the number of held-out scenes
    assert 0 <= record["guidance"][0]["r_precision"] <= 1 and 0 <= record["ceiling"]["r_precision"] <= 1
    assert len(record["judge"]) == 64
    assert main([*arguments, "--judge", str(tmp_path / "none.safetensors")]) == 2
    assert "is not the weight file of a caption judge" in capsys.readouterr().err


def test_evaluate_takes_validation_captions(denoising_run, tmp_path, write_captioned_images, capsys):
    ours, others = write_captioned_images(tmp_path / "ours", 12), write_captioned_images(tmp_path / "others", 9)
    arguments = ["evaluate", str(denoising_run[0]), "--captions", ours, "--val", others, "--guidance", "1"]
    arguments += ["--count", "8", "--steps", "1"]
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["captions"], record["val_source"]) == (18, others)
    assert "was trained on shapes, not on" in record["remarks"][0]
    assert main(arguments) == 0
    assert "was trained on shapes, not on" in capsys.readouterr().out


def test_an_image_with_two_captions_is_one_training_image(tmp_path, write_captioned_images):
    source = CaptionedImages(write_captioned_images(tmp_path / "ours", 5))
    assert len(load_training_images(source, 64, 0)) == 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"images": "shapes:9"}, "level of shapes"),
        ({"images": "nowhere"}, "nowhere"),
        ({"loss": "imagen + InfoNCE.on(pred='filled')"}, "'filled'"),
        ({"loss": "imagen + L2.on(pred='prior')"}, "reads the input 'prior', but the network has no prior"),
        ({"scale": 3, "crop": 18}, "scale must be one of 1, 2, 4, 8"),
        ({"model": {"name": "direct-decoder", "channels": [4, 4]}}, "trains a denoiser"),
        ({"knobs": {"lam": (0.1, 1.0)}, "loss": "imagen + lam * L2"}, "supports no knobs"),
    ],
)
def test_a_run_with_a_setting_that_does_not_suit_raises_and_writes_no_folder(tmp_path, more, message, run_training):
    with pytest.raises(ValueError, match=message):
        run_training(tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()

"""Training on captions: views, controls, going on, and the commands."""

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
from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.pipeline import RestorationPipeline
from lossmith.text_to_image.evaluation import load_training_images
from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
from lossmith.text_to_image.task import TextToImage


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, run):
    """A run of the denoising alone: its folder and its weights."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    return out, run(out)


def test_a_term_of_weight_0_trains_the_same_network_bit_for_bit(plain, tmp_path, run):
    terms = "0 * L1 + 0 * Dispersive + 0 * AttentionMask + 0 * ContrastiveFlow"
    assert same(run(tmp_path / "run", f"imagen + {terms}"), plain[1])
    assert not same(run(tmp_path / "other", "imagen + L1"), plain[1])


def test_a_run_that_was_stopped_goes_on_bit_for_bit(plain, tmp_path, run):
    shutil.copytree(plain[0], tmp_path / "run")
    assert same(run(tmp_path / "run", steps=5), run(tmp_path / "whole", steps=5))


def test_a_term_teaches_the_sketch_and_nothing_else(tmp_path, run):
    model = {"name": "denoiser", "channels": [8, 16], "heads": 1, "sketch": 8}
    plain = run(tmp_path / "plain", model=model, clip=0.0)
    taught = run(tmp_path / "taught", "imagen + L2.on(pred='sketch')", model=model, clip=0.0, steps=1)
    first = run(tmp_path / "first", model=model, clip=0.0, steps=1)
    assert plain.keys() == taught.keys() == first.keys()
    changed = {name.split(".")[0] for name in taught if not torch.equal(taught[name], first[name])}
    assert changed == {"sketch"}


def test_a_run_is_judged_by_what_it_samples(plain):
    lines = (plain[0] / "validation.jsonl").read_text().splitlines()
    figures = json.loads(lines[-1])
    assert figures["n"] == 2
    assert len(figures["by_level"]) == 8
    assert 0 <= figures["joint"] <= 1
    assert (plain[0] / "sheets" / "samples" / "truth.png").is_file()
    assert (plain[0] / "sheets" / "samples" / "step_00000003.png").is_file()


def test_the_target_is_the_picture_whatever_the_network_says(denoiser, batch):
    views = TextToImage(drop=0.0, encoder="words").compute_inputs(denoiser(), batch)
    assert_close(views["clean"], 2 * batch["target"] - 1)
    assert_close(views["pred"], (views["prediction"] + 1) / 2)
    assert views["group"].tolist() == [4, 4, 9]
    assert views["conditioned"].all()


@pytest.mark.parametrize("prediction", ["x0", "eps", "v", "flow", "edm"])
def test_what_is_predicted_and_the_picture_are_one_thing(denoiser, batch, prediction):
    schedule = "edm" if prediction == "edm" else "cosine"
    model = denoiser(prediction=prediction, schedule=schedule)
    torch.manual_seed(3)
    views = TextToImage(encoder="words").compute_inputs(model, batch)
    found = parse(f"DenoisingMSE({prediction!r}, weighting='x0')").evaluate(views)["DenoisingMSE"]
    wanted = (2 * views["pred"] - 1 - views["clean"]).square().flatten(1).mean(dim=1)
    assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_error_of_a_flow_is_that_of_its_velocity(denoiser, batch):
    torch.manual_seed(3)
    views = TextToImage(encoder="words").compute_inputs(denoiser(), batch)
    wanted = (views["velocity"] - (views["noise"] - views["clean"])).square().flatten(1).mean(dim=1)
    assert_close(parse("imagen").evaluate(views)["DenoisingMSE"], wanted, rtol=1e-4, atol=1e-5)


def test_only_what_is_read_is_made(denoiser, batch):
    task = TextToImage(drop=0.5, encoder="words").with_inputs(["prediction"])
    assert not {"hidden", "maps", "attention"} & task.compute_inputs(denoiser(), batch).keys()
    torch.manual_seed(1)
    views = task.with_inputs(["attention", "region"]).compute_inputs(denoiser(), batch)
    assert views["attention"].shape == (3, 2, 8, 8)
    known = views["region"].flatten(2).any(dim=2)
    assert torch.equal(known[:, 0], views["conditioned"])
    assert not known[:, 1].any()  # of which no word speaks


def test_a_later_stage_sees_the_mean_of_squares_with_noise_of_its_own_level(denoiser):
    seen = TextToImage(4, encoder="words").smaller(torch.ones(200, 3, 16, 16), 4)
    assert seen["small"].shape == (200, 3, 16, 16)
    assert 0.2 < seen["spoilt"].std() < 0.35
    clean = (1 - seen["spoilt"]).view(-1, 1, 1, 1)
    assert (seen["small"] - clean).mean().abs() < 0.05


def test_a_later_stage_enlarges_what_the_first_has_made(plain, tmp_path, run, capsys):
    run(tmp_path / "run", scale=2, crop=32, steps=1)
    words = ["sample", str(plain[0]), "a red ring", "--out", str(tmp_path / "a.png"), "--steps", "2", "--grid", "1x1"]
    assert main([*words, "--upscale", str(tmp_path / "run"), "--device", "cpu"]) == 0
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (32, 32)
    assert main(["sample", str(tmp_path / "run"), "a red ring", "--device", "cpu"]) == 2
    assert "give it with --upscale" in capsys.readouterr().err


def test_a_restoration_network_enlarges_what_the_first_has_made(plain, tmp_path, capsys):
    model, file, out = build_network("edsr", 3, channels=4, blocks=1), tmp_path / "x3.safetensors", tmp_path / "a.png"
    save_network(model, file, {"task": "super-resolution"})
    words = [
        "sample",
        str(plain[0]),
        "a red ring",
        "--out",
        str(out),
        "--steps",
        "2",
        "--grid",
        "1x1",
        "--device",
        "cpu",
    ]
    assert main(words) == 0
    with Image.open(out) as sheet:
        small = from_pil(sheet)
    assert main([*words, "--upscale", str(file)]) == 0
    with Image.open(out) as sheet:
        assert_close(from_pil(sheet), model(small[None])[0].clamp(0, 1), atol=0.01, rtol=0)  # which begins bilinear
    capsys.readouterr()
    assert main([*words, "--upscale", str(file), "--noise-augmentation", "0.2"]) == 2
    assert "leave --noise-augmentation out" in capsys.readouterr().err
    assert main([*words, "--noise-augmentation", "0.2"]) == 2
    assert "give one with --upscale" in capsys.readouterr().err
    assert main([*words, "--upscale", str(plain[0])]) == 2
    assert "wants one that enlarges" in capsys.readouterr().err


@pytest.mark.parametrize("network", [build_network("edsr", 1), ConditionedNetwork(build_network("edsr", 2), {"lam": (0.1, 1.0)})])
def test_what_cannot_be_a_later_stage_gets_one_line(network):
    with pytest.raises(ValueError, match="cannot be a later stage"):
        RestorationPipeline(network)


def test_it_trains_in_bf16_with_checkpointing_and_accumulation(tmp_path, run):
    model = {"name": "denoiser", "channels": [8, 16], "heads": 1, "checkpointing": True}
    found = run(tmp_path / "run", precision="bf16-mixed", accumulate=2, steps=1, model=model)
    assert all(weight.isfinite().all() for weight in found.values())


def test_all_terms_of_the_fusion_train_at_once(tmp_path, run):
    fused = "75%*imagen + 5%*ContrastiveFlow + 10%*L1 + 10%*L2 @ Central + 0.01*Dispersive + 0.02*AttentionMask"
    run(tmp_path / "run", f"{fused} + 0.1*HiddenAlignment", steps=2, balance="share")
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert len(line["terms"]) == 7


def test_sample_writes_a_sheet_and_says_what_is_wrong(plain, tmp_path, capsys):
    out = tmp_path / "a.png"
    words = ["sample", str(plain[0]), "a red ring", "", "--out", str(out), "--steps", "2", "--device", "cpu"]
    assert main([*words, "--grid", "2x2"]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (34, 34)
    assert main([*words, "--grid", "1x2", "--zoom", "3"]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (98, 48)
    assert main([*words, "--grid", "1x1"]) == 2
    assert "no room for 2 prompts" in capsys.readouterr().err
    assert main([*words, "--sampler", "ddim"]) == 2
    assert "take euler" in capsys.readouterr().err


@pytest.mark.parametrize("prompt", ["red " * 10_000, "красный круг", "赤い星", "🦊"])
def test_any_prompt_gives_a_picture(plain, tmp_path, prompt, recwarn):
    words = ["sample", str(plain[0]), prompt, "--out", str(tmp_path / "a.png"), "--steps", "1", "--device", "cpu"]
    assert main([*words, "--grid", "1x1"]) == 0


def test_evaluate_tells_the_ceiling_chance_and_the_floor(plain, capsys):
    words = ["evaluate", str(plain[0]), "--captions", "shapes", "--guidance", "1", "--count", "8", "--steps", "1"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"ceiling", "chance", "floor", "guidance", "denoising"} <= found.keys()
    assert main(["evaluate", str(plain[0])]) == 2


def test_a_judge_ranks_the_captions_of_real_pictures_and_of_samples(plain, tmp_path, capsys):
    torch.manual_seed(0)
    CaptionJudge(32).save(tmp_path / "judge.safetensors")
    words = ["evaluate", str(plain[0]), "--captions", "shapes", "--guidance", "1", "--count", "8", "--steps", "1"]
    assert main([*words, "--json", "--judge", str(tmp_path / "judge.safetensors")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chance"]["r_precision"] == 1 / 72  # of so many held-out scenes
    assert 0 <= found["guidance"][0]["r_precision"] <= 1 and 0 <= found["ceiling"]["r_precision"] <= 1
    assert len(found["judge"]) == 64
    assert main([*words, "--judge", str(tmp_path / "none.safetensors")]) == 2
    assert "A judge of captions is wanted" in capsys.readouterr().err


def test_evaluate_takes_the_captions_to_judge_by(plain, tmp_path, captioned, capsys):
    ours, others = captioned(tmp_path / "ours", 12), captioned(tmp_path / "others", 9)
    words = ["evaluate", str(plain[0]), "--captions", ours, "--val", others, "--guidance", "1", "--count", "8"]
    assert main([*words, "--steps", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["captions"], found["held"]) == (18, others)
    assert "was trained on shapes, not on" in found["remarks"][0]
    assert main([*words, "--steps", "1"]) == 0
    assert "was trained on shapes, not on" in capsys.readouterr().out


def test_a_picture_of_two_captions_is_compared_with_once(tmp_path, captioned):
    source = CaptionedImages(captioned(tmp_path / "ours", 5))
    assert len(load_training_images(source, 64, 0)) == 5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"images": "shapes:9"}, "levels"),
        ({"images": "nowhere"}, "nowhere"),
        ({"loss": "imagen + InfoNCE.on(pred='filled')"}, "'filled'"),
        ({"loss": "imagen + L2.on(pred='sketch')"}, "reads a sketch, and this network draws none"),
        ({"scale": 3, "crop": 18}, "a scale of 1, 2, 4 or 8"),
        ({"model": {"name": "direct", "channels": [4, 4]}}, "trains a denoiser"),
        ({"knobs": {"lam": (0.1, 1.0)}, "loss": "imagen + lam * L2"}, "has no knobs"),
    ],
)
def test_a_training_that_cannot_be_gets_one_line(tmp_path, more, words, run):
    with pytest.raises(ValueError, match=words):
        run(tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()

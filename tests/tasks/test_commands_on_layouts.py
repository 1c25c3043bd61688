"""What the commands do with folders as users have them: each image once, and none both trained on and judged by."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossmith.cli import main
from lossmith.data import list_images
from lossmith.report.folder import read_run
from lossmith.report.images import collect_images
from lossmith.tasks import Paired, SuperResolution
from lossmith.tune.findings import read_findings

TINY = ["--crop", 32, "--batch", 2, "--device", "cpu"]
TINY += ["--model-option", "channels=4", "--model-option", "blocks=1"]
SMALL = [*TINY, "--steps", 1, "--workers", 0, "--loss", "L1"]
LAYOUTS = {
    "nested with equal stems": ["1.png", "x/1.png", "y/1.png", "y/z/1.png", "y/1.jpg"],
    "one name in many scenes": ["a/frames/1.png", "b/frames/1.png", "c/frames/1.png"],
    "spaces and other alphabets": ["a b.png", "日 本/ü.png", "e\u0301.png"],
    "brackets and per cent signs": ["[red]/[bold]x[/].png", "50%.png", "100%25/%2F.png"],
    "upper-case suffixes": ["A.PNG", "B.JPG", "c.Jpeg"],
    "a folder called HR": ["1.png", "2.png", "HR/1.png"],
}
pytestmark = pytest.mark.slow


def save_image(path, seed=0, side=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(path)


def make_layout(root, names):
    """Write images, with links, hidden files, empty folders and the outputs of a run among them."""
    for seed, name in enumerate(names):
        save_image(root / name, seed)
    save_image(root / ".hidden.png"), save_image(root / "runs/old/sheets/1.png/truth.png")
    (root / "runs/old/config.json").write_text(json.dumps({"lossmith": "0.2"}))
    (root / "empty").mkdir()
    (root / "zz.png").symlink_to(names[0])
    (root / "loop").symlink_to(".")
    return root, {*names}


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    return make_layout(tmp_path / "images", LAYOUTS[request.param])


@pytest.fixture
def run_cli(capsys):
    def run(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


def shown_names(run):
    return {comparison.name for comparison in collect_images({0: read_run(run)})}


@pytest.mark.slow
def test_train_evaluate_and_restore_use_every_image_of_a_layout_once(layout, run_cli, tmp_path):
    root, names = layout
    out = root / "run"
    assert run_cli("train", "denoising", "--images", root, "--out", out, *SMALL)[0] == 0
    status, printed, _ = run_cli("train", "denoising", "--images", root, "--out", out, *SMALL, "--steps", 2)
    assert status == 0 and f"{len(names) - 1} training images" in printed
    (held_out,) = shown_names(out)
    assert held_out in names

    status, printed, _ = run_cli("evaluate", out, "--images", root, "--json", "--device", "cpu")
    record = json.loads(printed)
    assert status == 0 and record["n"] == len(names) and {*record["image_metrics"]} == names
    assert run_cli("evaluate", out, "--images", root, "--device", "cpu")[0] == 0

    status, printed, _ = run_cli("restore", out, root, tmp_path / "restored", "--device", "cpu")
    restored = list_images(tmp_path / "restored")
    assert status == 0 and len(restored) == len(names) + 1  # the link is an image to restore, too
    assert "runs/old: the folder is a training run" in printed


@pytest.mark.slow
def test_a_paired_run_uses_the_inputs_of_the_same_paths(layout, run_cli, tmp_path):
    root, names = layout
    for seed, name in enumerate(sorted(names)):
        save_image(tmp_path / "inputs" / name, seed)
    out = tmp_path / "run"
    words = ["train", "paired", "--images", root, "--inputs", tmp_path / "inputs", "--out", out, *SMALL]
    assert run_cli(*words)[0] == 0
    status, printed, _ = run_cli("evaluate", out, "--images", root, "--json", "--device", "cpu")
    assert status == 0 and {*json.loads(printed)["image_metrics"]} == names


@pytest.fixture(scope="module")
def inpainting_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inpainting")
    for seed in range(2):
        save_image(folder / f"images/{seed}.png", seed)
    words = ["train", "inpainting", "--images", folder / "images", "--out", folder / "run", *SMALL[:6], *SMALL[10:]]
    assert main([*map(str, words)]) == 0
    return folder / "run"


def test_inpaint_fills_each_image_of_a_layout_by_its_own_path(layout, inpainting_run, run_cli, tmp_path):
    root, names = layout
    mask = np.zeros((48, 48), np.uint8)
    mask[8:16, 8:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for name in (min(names), max(names)):
        out = tmp_path / "filled" / f"{name}.png"
        status, printed, _ = run_cli("inpaint", inpainting_run, root / name, tmp_path / "mask.png", out)
        assert status == 0 and str(out) in printed
        before, after = (np.asarray(Image.open(file).convert("RGB")) for file in (root / name, out))
        assert (before[mask == 0] == after[mask == 0]).all() and (before != after).any()
    status, _, error = run_cli("inpaint", inpainting_run, root / name, tmp_path / "mask.png", root / name)
    assert status == 2 and "must" in error


def test_calibrate_reads_every_image_of_a_layout_once(layout, run_cli, monkeypatch):
    root, names = layout
    read, training_set = [], SuperResolution.training_set
    monkeypatch.setattr(
        SuperResolution,
        "training_set",
        lambda self, files, **rest: read.extend(files) or training_set(self, files, **rest),
    )
    words = ["--images", root, "--crop", 32, "--batches", 1, "--batch", 2, "--scale", 2, "--json", "--device", "cpu"]
    status, printed, error = run_cli("calibrate", "L1 + 0.1*TV", *words)
    assert status == 0 and sorted(read) == sorted(root / name for name in names), error
    left_out = {Path(each["file"]).relative_to(root).as_posix() for each in json.loads(printed)["skipped"]}
    assert left_out == {"zz.png", "runs/old"}


def test_the_first_trial_of_a_study_uses_every_image_of_all_layouts_once(run_cli, tmp_path):
    root, names = make_layout(tmp_path / "images", sorted({name for names in LAYOUTS.values() for name in names}))
    for seed, name in enumerate(sorted(names)):
        save_image(tmp_path / "val" / name, 100 + seed)
    study = root / "study"
    words = ["tune", "denoising", "L1 + a*TV", "--range", "a=0.1:1", "--images", root, "--out", study, "--trials", 1]
    words += ["--objectives", "psnr_y,ssim_y", "--prune-at", 1]
    words += ["--steps", 1, "--uncalibrated", "--val-count", 99, *TINY]
    status, _, error = run_cli(*words, "--val", tmp_path / "val")
    assert (status, error) == (0, "")
    findings = read_findings(study)
    assert {*findings.trials[0].image_metrics} == {*findings.baselines["input"]["image_metrics"]} == names
    (log,) = (study / "logs").glob("*.log")
    assert f"{len(names)} training images" in log.read_text()


def test_a_study_refuses_a_copy_of_a_training_image_as_validation_image(run_cli, tmp_path):
    for seed in range(2):
        save_image(tmp_path / f"images/{seed}.png", seed)
    save_image(tmp_path / "val/other.png", 1)
    words = ["--images", tmp_path / "images", "--val", tmp_path / "val", "--steps", 1, "--out", tmp_path / "study"]
    status, _, error = run_cli("tune", "denoising", "L1 + a*TV", "--range", "a=0.1:1", *words, *TINY)
    assert status == 2 and "other.png' is also a training image" in error


@pytest.fixture
def paired_run(tmp_path, run_cli):
    """A paired run on images of other contents than those of the test folder, under the same names."""
    for seed, part in enumerate(("train/true", "train/in", "test/true", "test/in")):
        for i in range(2):
            save_image(tmp_path / part / f"{i}.png", 10 * seed + i)
    words = ["--images", tmp_path / "train/true", "--inputs", tmp_path / "train/in", "--out", tmp_path / "run", *SMALL]
    assert run_cli("train", "paired", *words)[0] == 0
    return tmp_path


def test_evaluate_needs_the_inputs_of_other_images(paired_run, run_cli):
    words = ["evaluate", paired_run / "run", "--images", paired_run / "test/true", "--json", "--device", "cpu"]
    status, _, error = run_cli(*words)
    assert status == 2 and "--inputs" in error
    for network in ("run", "run/model.safetensors"):
        status, printed, _ = run_cli("evaluate", paired_run / network, *words[2:], "--inputs", paired_run / "test/in")
        assert status == 0 and json.loads(printed)["n"] == 2


def test_the_baseline_of_test_pairs_is_computed_from_their_own_inputs(paired_run):
    true, low = (str(paired_run / "test" / part) for part in ("true", "in"))
    task = Paired(inputs="unused").for_images(true, inputs=low)
    for example in task.evaluation_set(true):
        expected = np.asarray(Image.open(Path(low) / example.name)).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(task.baseline_output(example.batch)[0], expected, atol=1e-6)


def test_training_with_validation_pairs_needs_their_inputs(paired_run, run_cli):
    images = ["--images", paired_run / "train/true", "--inputs", paired_run / "train/in"]
    words = ["train", "paired", *images, "--val", paired_run / "test/true", "--out", paired_run / "other", *SMALL]
    status, _, error = run_cli(*words)
    assert status == 2 and "--val-inputs" in error and not Path(paired_run / "other").exists()
    assert run_cli(*words, "--val-inputs", paired_run / "test/in")[0] == 0
    assert shown_names(paired_run / "other") == {"0.png", "1.png"}


def test_restore_skips_every_unreadable_image_of_a_folder(paired_run, run_cli):
    folder = paired_run / "mixed"
    save_image(folder / "a.png"), save_image(folder / "z.png")
    Image.new("1", (20000, 20000)).save(folder / "large.png")
    (folder / "broken.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff")
    status, printed, _ = run_cli("restore", paired_run / "run", folder, paired_run / "restored", "--device", "cpu")
    assert status == 0 and printed.count("Skipped") == 2
    assert [file.name for file in list_images(paired_run / "restored")] == ["a.png", "z.png"]

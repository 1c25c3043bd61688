"""Shards in place of a folder of training images, in every command that takes one."""

import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from lossmith.cli import main
from lossmith.knob.verification import _count_training_images
from lossmith.tasks import SuperResolution
from lossmith.train import Settings
from lossmith.tune.study import check_sources


def write_shard(file, seeds):
    """Write an archive of images of noise and bars."""
    with tarfile.open(file, "w") as tar:
        for seed in seeds:
            rng, content = np.random.default_rng(seed), io.BytesIO()
            bars = 127 * (np.sin(np.arange(64) * rng.uniform(0.2, 2))[:, None, None] > 0)
            image = (bars + rng.normal(64, 16, (64, 64, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(content, "PNG")
            member = tarfile.TarInfo(f"{seed:02}.png")
            member.size = content.tell()
            content.seek(0)
            tar.addfile(member, content)
    return file


@pytest.fixture
def shards(tmp_path):
    return str(write_shard(tmp_path / "train-0.tar", range(6)))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The URL of shards in memory, a stand-in for S3, and an empty folder for their copies."""
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    for number in range(2):
        shard = write_shard(tmp_path / f"{number}.tar", range(6 * number, 6 * number + 6))
        files.pipe(f"/bucket/train-{number}.tar", shard.read_bytes())
    yield "memory://bucket/train-{0..1}.tar"
    files.rm("/bucket", recursive=True)


TINY = ["--scale", "2", "--batch", "2", "--crop", "16", "--device", "cpu", "--model-option", "channels=4"]
TINY += ["--model-option", "blocks=1"]


def test_calibrate_reads_shards_of_a_url(bucket, capsys):
    arguments = ["--images", bucket, "--scale", "2", "--crop", "16", "--batches", "1", "--batch", "2", "--json"]
    assert main(["calibrate", "L1 + TV", *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["terms"]) == 2


def test_import_measures_shares_on_shards(bucket, tmp_path, capsys):
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        "scale: 2\nnetwork_g: {type: EDSR}\ndatasets: {train: {gt_size: 32}}\n"
        "train: {total_iter: 10, optim_g: {type: Adam, lr: 0.0001}, pixel_opt: {type: L1Loss, loss_weight: 1.0}}\n"
    )
    assert main(["import", str(recipe), "--images", bucket, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "shares" in found, found


def test_evaluate_reads_shards_of_a_url(bucket, capsys):
    assert main(["evaluate", "bicubic", "--scale", "2", "--images", bucket, "--metric", "psnr_y", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 12


@pytest.mark.slow
def test_tune_reads_shards(bucket, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a trial may run in another folder
    write_shard(Path("val.tar"), range(20, 23))
    arguments = ["--images", bucket, "--val", "val.tar", "--out", "study", "--storage", "journal:journal", *TINY]
    arguments += ["--range", "a=0.01:10", "--objectives", "psnr_y,ssim_y", "--steps", "2", "--trials", "1"]
    assert main(["tune", "super-resolution", "L1 + a*TV", *arguments, "--uncalibrated"]) == 0
    assert json.loads(Path("study/findings.json").read_text())["trials"]["complete"] == 1
    search = json.loads(Path("study/study.json").read_text())
    assert (search["images"], search["val"]) == (bucket, str(tmp_path.resolve() / "val.tar"))


def test_shards_are_not_both_images_and_validation_images(shards):
    with pytest.raises(ValueError, match="Give other validation images"):
        check_sources(shards, shards)


def test_the_held_out_images_of_a_run_on_shards_are_those_of_its_training(shards):
    task = SuperResolution(2)
    expected = [example.name for example in task.load_data(shards, None, val_count=4, crop=16, seed=0).evaluation_set]
    assert [example.name for example in task.held_out_images(shards, 4)] == expected == ["03.png"]


def test_a_knob_is_not_verified_on_the_shards_of_its_training(shards):
    with pytest.raises(ValueError, match="The run was trained on"):
        _count_training_images(Settings(loss="L1", steps=1, images=shards), shards)


@pytest.mark.parametrize("task", ["style"])
def test_a_task_that_reads_folders_says_so(task, shards, tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "style.png")
    arguments = [
        "--images",
        shards,
        "--style",
        str(tmp_path / "style.png"),
        "--steps",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["train", task, *arguments]) == 2
    assert "reads folders of images; got the shards" in capsys.readouterr().err

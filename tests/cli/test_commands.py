import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.models import load_restorer


def test_train_writes_a_run_and_its_report(trained):
    assert (trained / "model.safetensors").is_file()
    assert "<html" in (trained / "report.html").read_text()[:200]


@pytest.mark.slow
def test_train_prints_every_term_and_its_share_without_a_terminal(train):
    status, out, _ = train(loss="L1 + 0.1*TV")
    assert status == 0
    last = next(line for line in out.splitlines() if line.startswith("step 4/4"))
    assert "L1" in last
    assert "TV" in last
    assert re.search(r"gradient L1 \d\d\.\d%, TV \d+\.\d%", last)
    assert "validation at step 4" in out and "Report: " in out
    assert "images/s" in last


@pytest.mark.slow
def test_train_with_more_steps_continues(train, tmp_path):
    train()
    assert train("--steps", "6")[0] == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 4, 6]


def test_train_can_start_from_the_weights_of_another_run(train, trained, tmp_path):
    words = ["--init", trained, "--lr", "1e-12", "--ema", "0", "--steps", "1"]
    assert train(*words, network=[], out=tmp_path / "second")[0] == 0
    (old, _), (new, _) = (
        load_restorer(trained / "model.safetensors"),
        load_restorer(tmp_path / "second" / "model.safetensors"),
    )
    torch.testing.assert_close(new.state_dict(), old.state_dict(), rtol=1e-4, atol=1e-6)


def test_evaluate_prints_the_mean_and_each_image_as_json(run_cli, photos, trained):
    status, out, _ = run_cli("evaluate", trained, "--images", photos, "--json", "--device", "cpu")
    record = json.loads(out)
    assert status == 0
    assert record["n"] == len(record["image_metrics"]) == 6
    for name in ("psnr_y", "psnr_rgb", "ssim_y"):
        values = [metrics[name] for metrics in record["image_metrics"].values()]
        assert record["mean"][name] == pytest.approx(sum(values) / 6)


def test_evaluate_agrees_with_the_last_validation_of_the_run(run_cli, photos, trained):
    record = json.loads(run_cli("evaluate", trained, "--images", photos, "--json", "--device", "cpu")[1])
    last = json.loads((trained / "validation.jsonl").read_text().splitlines()[-1])
    assert record["mean"]["psnr_y"] == pytest.approx(last["psnr_y"], abs=1e-9)


def test_evaluate_bicubic_needs_no_network(run_cli, photos, trained):
    status, out, _ = run_cli("evaluate", "bicubic", "--scale", "2", "--images", photos, "--json")
    before = json.loads((trained / "bicubic.json").read_text())
    assert status == 0
    assert json.loads(out)["mean"]["psnr_y"] == pytest.approx(before["psnr_y"], abs=1e-9)


def test_evaluate_prints_a_table(run_cli, photos, trained):
    status, out, _ = run_cli("evaluate", trained / "model.safetensors", "--images", photos)
    assert status == 0
    assert "mean of 6" in out
    assert "psnr_y" in out


def test_restore_writes_the_output_of_the_network(run_cli, photos, trained, tmp_path):
    assert run_cli("restore", trained, photos / "0.png", tmp_path / "big.png", "--device", "cpu")[0] == 0
    model, _ = load_restorer(trained / "model.safetensors")
    small = torch.from_numpy(np.array(Image.open(photos / "0.png"))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = (model(small)[0].clamp(0, 1) * 255).round().permute(1, 2, 0)
    got = np.array(Image.open(tmp_path / "big.png"))
    assert got.shape == (128, 128, 3)
    assert np.abs(got - expected.numpy()).max() <= 1


def test_restore_in_tiles_equals_restore_in_one_piece(run_cli, photos, trained, tmp_path):
    run_cli("restore", trained, photos / "0.png", tmp_path / "one.png")
    run_cli("restore", trained, photos / "0.png", tmp_path / "tiles.png", "--tile", "16")
    one, tiles = (np.array(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("one", "tiles"))
    assert np.abs(one - tiles).max() <= 1


def test_restore_keeps_transparency(run_cli, photos, trained, tmp_path):
    image = Image.open(photos / "0.png").convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "glass.png")
    assert run_cli("restore", trained, tmp_path / "glass.png", tmp_path / "big.png")[0] == 0
    big = Image.open(tmp_path / "big.png")
    assert big.mode == "RGBA"
    expected = image.getchannel("A").resize((128, 128), Image.Resampling.BICUBIC)
    assert np.abs(np.array(big.getchannel("A")).astype(int) - np.array(expected)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (65, 33)])
def test_restore_accepts_any_size(run_cli, trained, tmp_path, size):
    Image.new("RGB", size, "teal").save(tmp_path / "small.png")
    assert run_cli("restore", trained, tmp_path / "small.png", tmp_path / "big.png")[0] == 0
    with Image.open(tmp_path / "big.png") as big:
        assert big.size == (2 * size[0], 2 * size[1])


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif"])
def test_restore_writes_the_format_of_the_name(run_cli, photos, trained, tmp_path, ending):
    assert run_cli("restore", trained, photos / "0.png", tmp_path / f"big.{ending}")[0] == 0
    with Image.open(tmp_path / f"big.{ending}") as big:
        assert big.size == (128, 128)


def test_restore_of_a_folder_keeps_names_unique(run_cli, photos, trained, tmp_path):
    source = tmp_path / "in"
    (source / "below").mkdir(parents=True)
    for name in ("a.png", "a.bmp", "below/b.jpg"):
        Image.open(photos / "0.png").save(source / name)
    (source / "broken.png").write_text("not an image")
    status, out, _ = run_cli("restore", trained, source, tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert status == 0
    assert found == {"a.png.png", "a.bmp.png", "below/b.png"}
    assert "Skipped" in out
    assert "broken.png" in out


def test_restore_never_overwrites_its_input(run_cli, photos, trained):
    before = (photos / "0.png").read_bytes()
    assert run_cli("restore", trained, photos / "0.png", photos / "0.png")[0] == 2
    assert run_cli("restore", trained, photos, photos)[0] == 2
    assert run_cli("restore", trained, photos, photos / "out")[0] == 2
    assert (photos / "0.png").read_bytes() == before


def test_report_writes_several_runs_to_one_page(run_cli, trained, tmp_path):
    status, out, _ = run_cli("report", trained, trained, "--out", tmp_path / "both.html")
    assert status == 0
    assert out.strip() == str(tmp_path / "both.html")

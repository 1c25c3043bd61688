"""The trained network of the package: by name in every command, and in the demo."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.cli import demo_upscaler
from lossmith.data.image_files import read_image
from lossmith.models import TexturedEDSR, build_network, load_restorer, save_network, shipped
from lossmith.models.shipped import DEFAULT_UPSCALER, find_shipped_file
from lossmith.resize import downsample


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """Put a small untrained network in the place of the shipped one."""
    torch.manual_seed(0)
    model = TexturedEDSR(4, channels=4, blocks=1, full_size_channels=4, texture_channels=4, texture_blocks=1).eval()
    torch.nn.init.normal_(model.texture.tail.weight, std=0.1)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    save_network(model, tmp_path / "shipped" / f"{DEFAULT_UPSCALER}.safetensors", {})
    return model


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")


def test_restore_without_a_network_uses_the_shipped_one(run_cli, untrained, photos, tmp_path):
    status, printed, error = run_cli("restore", photos / "0.png", tmp_path / "large.png", "--at", "0.25")
    assert status == 0, error
    assert "realism = 0.25" in printed
    with torch.no_grad():
        expected = untrained(read_image(photos / "0.png")[None], 0.25)[0].clamp(0, 1)
    torch.testing.assert_close(read_image(tmp_path / "large.png"), expected, atol=0.51 / 255, rtol=0)


def test_the_name_stands_for_the_file_in_every_place_that_takes_weights(untrained):
    for model in (load_restorer(DEFAULT_UPSCALER)[0], build_network(DEFAULT_UPSCALER, 4)):
        torch.testing.assert_close(model.state_dict(), untrained.state_dict())
    with pytest.raises(ValueError, match="has the upscaling factor 4; the required factor is 2"):
        build_network(DEFAULT_UPSCALER, 2)


def test_evaluate_names_the_shipped_network(run_cli, untrained, photos):
    status, printed, error = run_cli("evaluate", DEFAULT_UPSCALER, "--images", photos, "--metric", "psnr_y", "--json")
    assert status == 0, error
    assert json.loads(printed)["network"] == DEFAULT_UPSCALER


@pytest.mark.parametrize("words", [("restore", "a.png", "b.png"), ("evaluate", DEFAULT_UPSCALER, "--images", ".")])
def test_a_missing_file_is_one_line(run_cli, nothing, photos, tmp_path, words):
    words = [photos / "0.png" if word == "a.png" else tmp_path / word if word == "b.png" else word for word in words]
    status, _, error = run_cli(*words)
    assert status == 2
    assert "is part of the package, but" in error and "reinstall lossmith" in error
    assert error.count("\n") == 1


def test_a_run_without_an_output_is_not_read_as_images(run_cli, photos, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    status, _, error = run_cli("restore", tmp_path, photos)
    assert status == 2
    assert "needs INPUT OUTPUT" in error


def test_a_network_of_the_package_without_an_output_is_not_read_as_images(run_cli, photos):
    status, _, error = run_cli("restore", "lossmith-x2", photos / "0.png")
    assert status == 2
    assert "restore with the network 'lossmith-x2' needs INPUT OUTPUT" in error


def test_a_misspelt_network_names_those_of_the_package(run_cli, photos, tmp_path):
    status, _, error = run_cli("restore", "lossmith-x8", photos / "0.png", tmp_path / "large.png")
    assert status == 2
    assert "There is no run or file 'lossmith-x8'" in error and "lossmith-x4, lossmith-x2" in error


def test_a_missing_photograph_is_not_called_a_folder(run_cli, tmp_path):
    status, _, error = run_cli("restore", tmp_path / "none.jpg", tmp_path / "large.png")
    assert status == 2
    assert error == f"lossmith: There is no image or folder '{tmp_path / 'none.jpg'}'.\n"


def test_a_format_that_cannot_hold_the_image_is_refused_before_the_network_runs(
    run_cli, untrained, tmp_path, monkeypatch
):
    monkeypatch.setattr(TexturedEDSR, "forward", lambda *_, **__: pytest.fail("the network ran"))
    Image.new("RGBA", (24, 20), (9, 8, 7, 100)).save(tmp_path / "clear.png")
    status, _, error = run_cli("restore", tmp_path / "clear.png", tmp_path / "large.jpg")
    assert status == 2
    assert ".jpg cannot hold 3 bands of uint8 and an alpha channel; use .png" in error


def test_hidden_colours_draw_no_rim_at_the_edge_of_a_transparent_area(run_cli, tmp_path):
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[:, 12:] = (200, 120, 60, 255)
    Image.fromarray(pixels).save(tmp_path / "half.png")
    status, printed, error = run_cli("restore", tmp_path / "half.png", tmp_path / "large.png", "--at", "0")
    assert status == 0, error
    visible = np.array(Image.open(tmp_path / "large.png"))[16:-16, 48:-16, :3].astype(int)
    assert np.abs(visible - (200, 120, 60)).max() <= 6, printed


def test_models_lists_size_hash_and_licence(run_cli, untrained):
    status, printed, _ = run_cli("models", "--json")
    assert status == 0
    row = next(row for row in json.loads(printed) if row["name"] == DEFAULT_UPSCALER)
    assert re.search(r"MB, SHA-256 [0-9a-f]{16}, Apache-2.0", row["description"])


def page_images(page, photo):
    """Return the images of a photograph on the page by role, (3, H, W)."""
    pattern = rf'<figure data-role="(\w+)"><img src="data:image/webp;base64,([^"]+)"[^>]*alt="{re.escape(photo)}, \w+"'
    found = re.findall(pattern, page.read_text(encoding="utf-8"))
    images = {role: Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for role, data in found}
    return {
        role: torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        .reshape(image.height, image.width, 3)
        .permute(2, 0, 1)
        / 255
        for role, image in images.items()
    }


def test_the_page_of_the_demo_mixes_two_images_to_every_place_of_the_slider(run_cli, untrained, photos, tmp_path):
    status, printed, error = run_cli("demo", "--quick", photos / "1.png", "--out", tmp_path / "demo")
    assert status == 0, error
    assert str(tmp_path / "demo" / "report.html") in printed
    images = page_images(tmp_path / "demo" / "report.html", "1.png")
    assert images.keys() == {"input", "accurate", "realistic"}
    image = read_image(photos / "1.png")
    torch.testing.assert_close(images["input"], image)
    accurate, realistic = (end[0].clamp(0, 1) for end in untrained.forward_ends(image[None]))
    for place in (0.0, 0.3, 1.0):
        mixed = images["accurate"] + place * (images["realistic"] - images["accurate"])
        torch.testing.assert_close(mixed, accurate + place * (realistic - accurate), atol=0.51 / 255, rtol=0)


def test_the_demo_reduces_a_large_photograph_as_a_whole_and_shows_the_truth(run_cli, untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_upscaler, "REDUCED_SIDE", 192)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).resize((600, 400)).save(tmp_path / "large.png")
    status, printed, error = run_cli("demo", "--quick", tmp_path / "large.png", "--out", tmp_path / "demo")
    assert status == 0, error
    assert "large.png: 600x400 px, reduced to 48x32 px, enlarged to 192x128 px" in " ".join(printed.split())
    assert "Patch distance" in printed  # a measure of realism that needs no weights
    images = page_images(tmp_path / "demo" / "report.html", "large.png")
    assert images.keys() == {"input", "accurate", "realistic", "truth"}
    assert images["truth"].shape == images["accurate"].shape == (3, 128, 192)
    torch.testing.assert_close(images["input"], downsample(images["truth"][None], 4, levels=255)[0])


def test_the_demo_shows_the_readable_images_of_a_folder(run_cli, untrained, photos, tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes((photos / "0.png").read_bytes())
    (folder / "broken.jpg").write_text("text")
    status, printed, error = run_cli("demo", "--quick", folder, "--out", tmp_path / "demo")
    assert status == 0, error
    assert "broken.jpg" in printed and "the content is not an image" in printed
    assert all(page_images(tmp_path / "demo" / "report.html", name) for name in ("a.png", "b.png"))


def test_a_grey_photograph_stays_grey_in_the_demo(run_cli, untrained, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20), np.uint8)).save(tmp_path / "grey.png")
    status, _, error = run_cli("demo", "--quick", tmp_path / "grey.png", "--out", tmp_path / "demo")
    assert status == 0, error
    realistic = page_images(tmp_path / "demo" / "report.html", "grey.png")["realistic"]
    torch.testing.assert_close(realistic[1:], realistic[:1].expand(2, -1, -1), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(900, 16), (1, 1)])
def test_the_demo_accepts_strips_and_single_pixels(run_cli, untrained, tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "odd.png")
    status, printed, error = run_cli("demo", "--quick", tmp_path / "odd.png", "--out", tmp_path / "demo")
    assert status == 0, error
    assert f"enlarged to {4 * min(size[0], 256)}x{4 * size[1]} px" in printed


def test_an_output_of_the_demo_that_is_a_file_is_one_line_before_any_work(run_cli, photos, tmp_path):
    (tmp_path / "taken").write_text("mine")
    status, printed, error = run_cli("demo", "--quick", photos / "0.png", "--out", tmp_path / "taken")
    assert status == 2 and not printed
    assert "--out must be a folder" in error and "Errno" not in error


@pytest.mark.slow
def test_the_quick_demo_evaluates_photographs_at_five_places(run_cli, untrained, tmp_path):
    pytest.importorskip("skimage")
    status, printed, error = run_cli("demo", "--quick", "--out", tmp_path)
    assert status == 0, error
    assert [place in printed for place in ("bicubic", "slider 0 ", "slider 0.25", "slider 0.5", "slider 1")] == [
        True
    ] * 5
    assert page_images(tmp_path / "report.html", "coins.png").keys() == {"input", "accurate", "realistic", "truth"}


def test_the_quick_demo_needs_the_network(run_cli, nothing, tmp_path):
    status, _, error = run_cli("demo", "--quick", "--out", tmp_path / "demo")
    assert status == 2
    assert "reinstall lossmith" in error


def test_a_photograph_of_the_demo_that_cannot_be_read_is_one_line(run_cli, untrained, tmp_path):
    status, _, error = run_cli("demo", "--quick", tmp_path / "none.jpg", "--out", tmp_path / "demo")
    assert status == 2
    assert "none.jpg' cannot be read as an image" in error


@pytest.mark.parametrize("name, scale", [("lossmith-x4", 4), ("lossmith-x2", 2)])
def test_the_shipped_files_upscale_and_their_ends_differ(name, scale):
    assert (shipped.FOLDER / f"{name}.safetensors").is_file()
    assert find_shipped_file(name).stat().st_size <= 1_500_000
    model = load_restorer(name)[0]
    image = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        accurate, realistic = model.forward_ends(image)
    assert accurate.shape == (1, 3, 24 * scale, 20 * scale)
    assert (accurate - realistic).abs().mean() > 1 / 255

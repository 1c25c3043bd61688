import sys

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

pytest.importorskip("spandrel")

from lossmith.data import SuperResolutionPairs
from lossmith.metrics import compute_metrics
from lossmith.models import build_network, load_restorer, run_tiled, save_network

IMAGE = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
COMPACT = {"num_feat": 8, "num_conv": 2}


def test_an_architecture_is_built_at_the_requested_scale():
    model = build_network("spandrel:Compact", 3, **COMPACT)
    assert model(IMAGE).shape == (1, 3, 27, 21)
    assert model.spec == {"name": "spandrel:Compact", "upscale": 3, **COMPACT}


def test_an_architecture_is_trainable():
    model = build_network("spandrel:Compact", 2, **COMPACT)
    model(IMAGE).square().sum().backward()
    assert model.training and all(weight.grad is not None for weight in model.parameters())


def test_images_are_padded_to_the_required_sides_and_outputs_are_cropped():
    arguments = {"depths": [2], "embed_dim": 12, "num_heads": [2], "window_size": 8, "upsampler": "pixelshuffledirect"}
    model = build_network("spandrel:SwinIR", 2, **arguments).eval()
    assert model(IMAGE).shape == (1, 3, 18, 14)


def test_a_saved_architecture_is_loaded(tmp_path):
    model = build_network("spandrel:Compact", 2, **COMPACT).eval()
    save_network(model, tmp_path / "m.safetensors", {"step": 1})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert_close(again(IMAGE), model(IMAGE))
    assert header["model"] == model.spec


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"params_ema": s}, lambda s: {"state_dict": s}])
def test_the_architecture_of_a_checkpoint_is_detected(suffix, wrap, tmp_path):
    network = build_network("spandrel:Compact", 4, **COMPACT).network
    torch.save(wrap(network.state_dict()), tmp_path / f"m{suffix}")
    model = build_network(str(tmp_path / f"m{suffix}"), 4).eval()
    assert_close(model(IMAGE), network.eval()(IMAGE))


def test_a_detected_network_is_detected_again_after_saving(tmp_path):
    network = build_network("spandrel:Compact", 4, **COMPACT).network
    torch.save(network.state_dict(), tmp_path / "m.pth")
    model, header = load_restorer(tmp_path / "m.pth")
    save_network(model, tmp_path / "m.safetensors", header)
    assert_close(load_restorer(tmp_path / "m.safetensors", scale=4)[0](IMAGE), model(IMAGE))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Compakt", {}, "spandrel has no architecture 'Compakt'; it has .*Compact"),
        ("Compact", {"width": 3}, "Compact has no argument 'width'; it has .*num_feat"),
        ("Compact", {"num_feat": "many"}, "Compact cannot be built with"),
        ("Compact", {"upscale": 2}, "has the upscaling factor 2; the required factor is 4"),
        ("Compact", {"num_in_ch": 1, "num_out_ch": 3, **COMPACT}, "1 input and 3 output channels; .*as many channels"),
    ],
)
def test_a_wrong_architecture_raises_a_value_error(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network(f"spandrel:{name}", 4, **arguments)


def test_weights_of_an_unknown_architecture_raise_a_value_error(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m.pth: spandrel detects no architecture"):
        load_restorer(tmp_path / "m.pth")


def test_missing_spandrel_is_reported_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match=r"spandrel, which cannot be imported .*pip install -e '\.\[train\]'"):
        build_network("spandrel:Compact", 4)


def test_a_published_checkpoint_reaches_its_published_psnr(assets, tmp_path):
    state = load_file(assets / "weights" / "sr_realesr_animevideov3_x4.safetensors")
    torch.save({"params": {name: weight.float() for name, weight in state.items()}}, tmp_path / "anime.pth")
    model, _ = load_restorer(tmp_path / "anime.pth", scale=4)
    pairs = list(SuperResolutionPairs(assets / "images" / "benchmark" / "Set5", 4))
    found = [
        compute_metrics(
            run_tiled(model, pair.batch["input"], tile=64), pair.batch["target"], border=4, metrics=["psnr_y"]
        )["psnr_y"]
        for pair in pairs
    ]
    assert sum(found) / len(found) == pytest.approx(28.25, abs=0.02)


@pytest.mark.parametrize("side", [9, 16])
@pytest.mark.parametrize("name", ["SwinIR", "Swin2SR"])
def test_windows_that_do_not_divide_the_crop_are_padded(name, side):
    arguments = {"depths": [2], "embed_dim": 12, "num_heads": [2]}  # windows of 7 px, the default
    model = build_network(f"spandrel:{name}", 4, **arguments)
    assert model(IMAGE[..., :1, :1].expand(2, 3, side, side)).shape == (2, 3, 4 * side, 4 * side)


def test_an_architecture_that_fails_on_a_crop_names_its_windows():
    model = build_network("spandrel:HAT", 4, depths=[1], num_heads=[6])
    message = r"spandrel:HAT fails on inputs of 9x7 px, batch 1: .*windows have 7 px: .*a multiple of 7, or set"
    with pytest.raises(ValueError, match=message):
        model(IMAGE)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("RRDBNet", "spandrel:ESRGAN"), ("swinir", "spandrel:SwinIR"), ("SRVGGNetCompact", "spandrel:Compact")],
)
@pytest.mark.parametrize("prefix", ["", "spandrel:"])
def test_an_unknown_name_of_an_architecture_suggests_the_known_one(prefix, name, suggestion):
    with pytest.raises(ValueError, match=rf"[Dd]id you mean '{suggestion}'\?"):
        build_network(prefix + name, 4)

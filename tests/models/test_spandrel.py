import sys

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

pytest.importorskip("spandrel")

from lossmith.data import SuperResolutionPairs
from lossmith.metrics import compute_metrics
from lossmith.models import build_network, load_restorer, save_network, run_tiled

IMAGE = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
COMPACT = {"num_feat": 8, "num_conv": 2}


def test_an_architecture_is_built_from_scratch_at_the_scale_asked_for():
    model = build_network("spandrel:Compact", 3, **COMPACT)
    assert model(IMAGE).shape == (1, 3, 27, 21)
    assert model.spec == {"name": "spandrel:Compact", "upscale": 3, **COMPACT}


def test_it_trains():
    model = build_network("spandrel:Compact", 2, **COMPACT)
    model(IMAGE).square().sum().backward()
    assert model.training and all(weight.grad is not None for weight in model.parameters())


def test_one_that_wants_certain_sides_is_given_them_and_cut_back():
    arguments = {"depths": [2], "embed_dim": 12, "num_heads": [2], "window_size": 8, "upsampler": "pixelshuffledirect"}
    model = build_network("spandrel:SwinIR", 2, **arguments).eval()
    assert model(IMAGE).shape == (1, 3, 18, 14)


def test_what_was_saved_is_loaded(tmp_path):
    model = build_network("spandrel:Compact", 2, **COMPACT).eval()
    save_network(model, tmp_path / "m.safetensors", {"step": 1})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert_close(again(IMAGE), model(IMAGE))
    assert header["model"] == model.spec


@pytest.mark.parametrize("ending", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"params_ema": s}, lambda s: {"state_dict": s}])
def test_a_checkpoint_is_recognised_by_its_weights(ending, wrap, tmp_path):
    network = build_network("spandrel:Compact", 4, **COMPACT).network
    torch.save(wrap(network.state_dict()), tmp_path / f"m{ending}")
    model = build_network(str(tmp_path / f"m{ending}"), 4).eval()
    assert_close(model(IMAGE), network.eval()(IMAGE))


def test_a_recognised_network_is_recognised_again_after_saving(tmp_path):
    network = build_network("spandrel:Compact", 4, **COMPACT).network
    torch.save(network.state_dict(), tmp_path / "m.pth")
    model, header = load_restorer(tmp_path / "m.pth")
    save_network(model, tmp_path / "m.safetensors", header)
    assert_close(load_restorer(tmp_path / "m.safetensors", scale=4)[0](IMAGE), model(IMAGE))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("Compakt", {}, "spandrel has no architecture 'Compakt'; it has .*Compact"),
        ("Compact", {"width": 3}, "Compact has no argument 'width'; it has .*num_feat"),
        ("Compact", {"num_feat": "many"}, "Compact cannot be built with"),
        ("Compact", {"upscale": 2}, "enlarges 2 times; 4 times is asked for"),
        ("Compact", {"num_in_ch": 1, "num_out_ch": 1, **COMPACT}, "1 channels in and 1 out; .*from RGB to RGB"),
    ],
)
def test_a_wrong_architecture_gets_one_line(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        build_network(f"spandrel:{name}", 4, **arguments)


def test_weights_of_nobody_are_named(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m.pth: spandrel knows no architecture with such weights"):
        load_restorer(tmp_path / "m.pth")


def test_without_spandrel_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match=r"spandrel, which cannot be imported .*pip install -e '\.\[train\]'"):
        build_network("spandrel:Compact", 4)


def test_a_published_checkpoint_gives_its_published_figure(assets, tmp_path):
    state = load_file(assets / "weights" / "sr_realesr_animevideov3_x4.safetensors")
    torch.save({"params": {name: weight.float() for name, weight in state.items()}}, tmp_path / "anime.pth")
    model, _ = load_restorer(tmp_path / "anime.pth", scale=4)
    pairs = list(SuperResolutionPairs(assets / "images" / "benchmark" / "Set5", 4))
    found = [
        compute_metrics(run_tiled(model, pair.batch["input"], tile=64), pair.batch["target"], border=4, which=["psnr_y"])["psnr_y"]
        for pair in pairs
    ]
    assert sum(found) / len(found) == pytest.approx(28.25, abs=0.02)

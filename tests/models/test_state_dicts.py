"""Checkpoints of other tools: wrapped keys, numbers of NumPy, and files that cannot be read safely."""

import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

pytest.importorskip("spandrel")

from lossmith.models import build_network, load_network, save_network

IMAGE = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("spandrel:Compact", 2, num_feat=8, num_conv=2).network.eval()


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def zeros(state):
    return {key: 0 * value for key, value in state.items()}


FORMS = {
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled and parallel": lambda s: prefixed("module._orig_mod.", s),
    "a compiled part": lambda s: prefixed("network._orig_mod.", s),
    "Lightning": lambda s: {"state_dict": prefixed("net_g.", s), "epoch": 3},
    "Lightning with a discriminator": lambda s: {
        "state_dict": prefixed("generator.", s) | prefixed("discriminator.", zeros(s))
    },
    "a generic Lightning module": lambda s: {"state_dict": prefixed("model.", s) | {"loss.scale": torch.ones(())}},
    "averaged": lambda s: {"n_averaged": torch.tensor(3), **prefixed("module.", s)},
    "averaged in Lightning": lambda s: {"state_dict": prefixed("net_g.", zeros(s)) | prefixed("net_g_ema.module.", s)},
    "named": lambda s: {"net_g": s, "net_d": zeros(s), "iter": 1},
    "named and wrapped": lambda s: {"netG": {"params_ema": prefixed("module.", s)}, "iter": 1},
    "a NumPy number": lambda s: {"params": s, "psnr": np.float64(30.0), "ssim": np.float32(0.9)},
    "NumPy's other numbers": lambda s: {"params": s, "iter": np.int64(3), "best": np.bool_(True)},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_wrapped_checkpoint_is_recognised(form, network, tmp_path):
    torch.save(FORMS[form](network.state_dict()), tmp_path / "w.pth")
    model, header = load_network(tmp_path / "w.pth")
    assert_close(model(IMAGE), network(IMAGE))
    assert header == {}


@pytest.mark.parametrize("prefix", ["_orig_mod.", "net_g.", "module."])
def test_wrapped_safetensors_are_recognised(prefix, network, tmp_path):
    save_file(prefixed(prefix, network.state_dict()), tmp_path / "w.safetensors")
    assert_close(load_network(tmp_path / "w.safetensors")[0](IMAGE), network(IMAGE))


def test_a_compiled_network_that_was_saved_with_a_header_is_loaded(tmp_path):
    model = build_network("edsr", 2, channels=4, blocks=1).eval()
    save_network(torch.compile(model), tmp_path / "m.safetensors", {})
    assert_close(load_network(tmp_path / "m.safetensors")[0](IMAGE), model(IMAGE))


def test_the_error_of_unknown_weights_is_that_of_the_whole_file(tmp_path):
    torch.save({"module.unknown": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: spandrel detects no architecture"):
        load_network(tmp_path / "w.pth")


def test_a_file_with_other_objects_is_refused_without_advice_to_load_it_unsafely(network, tmp_path):
    torch.save({"params": network.state_dict(), "options": argparse.Namespace(x=1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"refers to argparse\.Namespace\. .*save the weights alone") as caught:
        load_network(tmp_path / "w.pth")
    assert "trust" not in str(caught.value) and "\n" not in str(caught.value)


def test_reading_a_file_allows_nothing_for_later_files(network, tmp_path):
    before = {str(each) for each in torch.serialization.get_safe_globals()}
    torch.save({"params": network.state_dict(), "psnr": np.float64(30.0)}, tmp_path / "w.pth")
    load_network(tmp_path / "w.pth")
    assert {str(each) for each in torch.serialization.get_safe_globals()} == before

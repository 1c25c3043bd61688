import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.testing import assert_close

from lossmith.models import EDSR, Autoencoder, ConditionedNetwork, Inpainter, build_network, load_restorer, save_network
from lossmith.models.slider import Slider

METADATA = {"task": "super-resolution", "step": 7, "loss": "L1()"}
IMAGE = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = build_network("edsr", 3, channels=4, blocks=1)
    torch.nn.init.normal_(network.tail.weight)
    return network.to(memory_format=torch.channels_last)


def test_a_saved_network_is_rebuilt_from_its_header(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", METADATA)
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert_close(again(IMAGE), model(IMAGE))
    assert not again.training and header == {**METADATA, "model": model.spec, "scale": 3}


def test_the_header_is_json_in_the_safetensors_metadata(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", METADATA)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert json.loads(file.metadata()["lossmith"])["loss"] == "L1()"


def test_build_network_accepts_a_weight_file(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", METADATA)
    assert build_network(str(tmp_path / "m.safetensors"), 3).spec == model.spec


def test_another_scale_raises_a_value_error(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", METADATA)
    with pytest.raises(ValueError, match=r"m.safetensors has the upscaling factor 3; the required factor is 4"):
        load_restorer(tmp_path / "m.safetensors", scale=4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("esdr", {}, "There is no network 'esdr'. Did you mean 'edsr'"),
        ("resnet", {}, "use .*edsr, inpainter, .*spandrel:NAME, .*or a weight file"),
        ("edsr", {"width": 3}, "edsr does not accept an argument: .*'width'"),
        ("gone.pth", {}, "There is no weight file 'gone.pth'"),
        ("gone.pth", {"channels": 3}, "defines the arguments of its network; leave out channels"),
    ],
)
def test_a_wrong_network_raises_a_value_error(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network(name, 4, **arguments)


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
def test_a_damaged_file_raises_a_value_error_with_its_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"{name}' .*read"):
        load_restorer(tmp_path / name)


def test_a_truncated_file_raises_a_value_error_with_its_name(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", METADATA)
    (tmp_path / "m.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"m.safetensors' cannot be read as safetensors"):
        load_restorer(tmp_path / "m.safetensors")


def test_weights_that_do_not_match_their_header_raise_a_value_error(tmp_path):
    header = {"model": {"name": "edsr", "channels": 8, "blocks": 1}, "scale": 2}
    state = EDSR(2, channels=4, blocks=1).state_dict()
    save_file(state, tmp_path / "m.safetensors", {"lossmith": json.dumps(header)})
    with pytest.raises(ValueError, match="do not match its header: size mismatch"):
        load_restorer(tmp_path / "m.safetensors")


def test_a_damaged_header_raises_a_value_error(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", {"lossmith": '{"model": 3}'})
    with pytest.raises(ValueError, match="has a damaged header"):
        load_restorer(tmp_path / "m.safetensors")


def test_no_code_in_a_file_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"weight": Trap()}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="no weights that can be read safely"):
        load_restorer(tmp_path / "m.pth")
    assert not (tmp_path / "executed").exists()


def test_a_file_of_other_objects_raises_a_value_error(tmp_path):
    torch.save([1, 2], tmp_path / "m.pth")
    with pytest.raises(ValueError, match="contains no state dict, but a list"):
        load_restorer(tmp_path / "m.pth")


def test_the_header_of_an_earlier_version_is_loaded(tmp_path):
    model = ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0)})
    table = {"t": [0, 0.5, 1], "places": [0, 0.2, 1], "figures": {"psnr_y": [29, 28, 26]}}
    table |= {"distance": "SSIM", "pictures": "3 images"}
    header = {"model": {**model.spec, "name": "knob"}, "scale": 2, "slider": table, "mixing": table}
    save_file(model.state_dict(), tmp_path / "m.safetensors", {"lossmith": json.dumps(header)})
    again, _ = load_restorer(tmp_path / "m.safetensors")
    assert again.spec == model.spec
    assert again.slider == Slider((0, 0.5, 1), (0, 0.2, 1), {"psnr_y": (29, 28, 26)}, "SSIM", "3 images")
    assert again.interpolation_slider == again.slider


@pytest.mark.parametrize(
    ("model", "old_spec", "old_modules"),
    [
        (
            Autoencoder(channels=4, blocks=1, downsampling=2),
            {"latent": "kl", "down": 2, "channels": 4, "latents": 4, "codes": 512, "blocks": 1},
            {"input_skip": "inward", "output_skip": "outward"},
        ),
        (Inpainter(channels=4, blocks=1), {"channels": 4, "blocks": 1}, {"conv": "both"}),
    ],
)
def test_weights_of_an_earlier_version_are_loaded(model, old_spec, old_modules, tmp_path):
    state = {
        ".".join(old_modules.get(p, p) for p in key.split(".")): value for key, value in model.state_dict().items()
    }
    header = {"model": {"name": model.spec["name"], **old_spec}, "scale": 1}
    save_file(state, tmp_path / "m.safetensors", {"lossmith": json.dumps(header)})
    again, _ = load_restorer(tmp_path / "m.safetensors")
    assert again.spec == model.spec
    assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
def test_a_saved_network_has_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        save_network(EDSR(2, channels=4, blocks=1), tmp_path / "new.safetensors", {})
    finally:
        os.umask(before)
    assert (tmp_path / "new.safetensors").stat().st_mode & 0o777 == 0o644

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.testing import assert_close

from lossmith.models import EDSR, build_network, load_restorer, save_network

META = {"task": "super-resolution", "step": 7, "loss": "L1()"}
IMAGE = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = build_network("edsr", 3, channels=4, blocks=1)
    torch.nn.init.normal_(network.tail.weight)
    return network.to(memory_format=torch.channels_last)


def test_what_was_saved_is_loaded_without_being_described(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", META)
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert_close(again(IMAGE), model(IMAGE))
    assert not again.training and header == {**META, "model": model.spec, "scale": 3}


def test_the_header_can_be_read_by_anybody(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", META)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert json.loads(file.metadata()["lossmith"])["loss"] == "L1()"


def test_a_file_builds_its_network(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", META)
    assert build_network(str(tmp_path / "m.safetensors"), 3).spec == model.spec


def test_another_scale_is_refused(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", META)
    with pytest.raises(ValueError, match=r"m.safetensors enlarges 3 times; 4 times is asked for"):
        load_restorer(tmp_path / "m.safetensors", scale=4)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("esdr", {}, "No network is called 'esdr'; did you mean 'edsr'"),
        ("resnet", {}, "there are edsr, inpainter, .*spandrel:NAME, or a file of weights"),
        ("edsr", {"width": 3}, "edsr has no such argument: .*'width'"),
        ("gone.pth", {}, "there is no file 'gone.pth'"),
        ("gone.pth", {"channels": 3}, "says itself what network it holds; leave channels out"),
    ],
)
def test_a_wrong_network_gets_one_line(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        build_network(name, 4, **arguments)


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
def test_a_damaged_file_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"{name}' .*read"):
        load_restorer(tmp_path / name)


def test_a_file_cut_short_is_named(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", META)
    (tmp_path / "m.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"m.safetensors' is no safetensors file that can be read"):
        load_restorer(tmp_path / "m.safetensors")


def test_weights_that_do_not_fit_their_header_are_named(tmp_path):
    header = {"model": {"name": "edsr", "channels": 8, "blocks": 1}, "scale": 2}
    state = EDSR(2, channels=4, blocks=1).state_dict()
    save_file(state, tmp_path / "m.safetensors", {"lossmith": json.dumps(header)})
    with pytest.raises(ValueError, match="do not fit its header: size mismatch"):
        load_restorer(tmp_path / "m.safetensors")


def test_a_damaged_header_is_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", {"lossmith": '{"model": 3}'})
    with pytest.raises(ValueError, match="has a damaged header"):
        load_restorer(tmp_path / "m.safetensors")


def test_no_code_in_a_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"weight": Trap()}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="no weights that can be read safely"):
        load_restorer(tmp_path / "m.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_file_of_other_things_is_named(tmp_path):
    torch.save([1, 2], tmp_path / "m.pth")
    with pytest.raises(ValueError, match="holds no network's weights, but a list"):
        load_restorer(tmp_path / "m.pth")

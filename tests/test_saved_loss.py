"""Saved losses: the text of a loss and the hashes of its pretrained weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lossmith import L1, L2, Distance, ExpressionError, Knob, load, perceptual, save
from lossmith.backbone import get_backbone
from lossmith.lenses import AlexNet, Calibrated, vgg
from lossmith.lenses.lpips import LPIPS_LAYERS
from lossmith.losses import External
from lossmith.parser import update_formula
from lossmith.pretrained.locate import compute_sha256


@pytest.fixture
def hybrid(weight_file):
    weights = str(weight_file(get_backbone(vgg.VGGNetwork, "vgg16", None)))
    return L1() + Knob("lam") * perceptual("vgg16", "relu1_2", weights=weights)


def test_a_saved_loss_loads_as_the_same_loss(hybrid, tmp_path, image_pair):
    save(hybrid, tmp_path / "loss.json")
    again = load(tmp_path / "loss.json")
    assert repr(again) == repr(hybrid)
    assert torch.equal(again(*image_pair(), lam=0.3), hybrid(*image_pair(), lam=0.3))
    assert [path.name for path in tmp_path.iterdir()] == ["loss.json"]


def test_the_file_contains_the_text_and_the_hashes(hybrid, tmp_path):
    save(hybrid, tmp_path / "loss.json")
    recipe = json.loads((tmp_path / "loss.json").read_text())
    assert recipe["text"] == repr(hybrid)
    assert {name: len(digest) for name, digest in recipe["weights"].items()} == dict.fromkeys(hybrid.weight_hashes, 64)


def mean_error(pred, target):
    return (pred - target).abs().mean()


class Local(Distance):
    """A loss that no installed package declares."""

    def measure(self, pred):
        return pred.flatten(1).mean(dim=1)

    def __repr__(self):
        return "Local()"


@pytest.mark.parametrize("loss", [L1() + External(mean_error), Local()])
def test_a_loss_that_could_not_be_loaded_is_not_saved(loss, tmp_path):
    (tmp_path / "loss.json").write_text("an earlier file")
    with pytest.raises(ValueError, match="cannot be saved, since its text cannot be read again"):
        save(loss, tmp_path / "loss.json")
    assert (tmp_path / "loss.json").read_text() == "an earlier file"


def test_weights_with_another_hash_raise(hybrid, tmp_path):
    save(hybrid, tmp_path / "loss.json")
    recipe = json.loads((tmp_path / "loss.json").read_text())
    recipe["weights"] = dict.fromkeys(recipe["weights"], "0" * 64)
    (tmp_path / "loss.json").write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match=r"saved with other weights of vgg16, .* \(00000000...\) than those found"):
        load(tmp_path / "loss.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"text": "L1"}', b'{"text": "L1", "weights": 3}', b"\xff\xfe\x00"]
)
def test_a_file_without_a_loss_raises(content, tmp_path):
    (tmp_path / "loss.json").write_bytes(content)
    with pytest.raises(ValueError, match="is not a saved loss"):
        load(tmp_path / "loss.json")


def test_a_missing_file_raises(tmp_path):
    with pytest.raises(ValueError, match="is not a saved loss"):
        load(tmp_path / "none.json")


def test_a_saved_text_is_parsed_and_never_executed(tmp_path):
    (tmp_path / "loss.json").write_text(json.dumps({"text": "__import__('os').system('true')", "weights": {}}))
    with pytest.raises(ExpressionError):
        load(tmp_path / "loss.json")


def test_a_failed_save_leaves_the_earlier_file(hybrid, tmp_path, monkeypatch):
    path = tmp_path / "loss.json"
    save(L1(), path)
    before = path.read_text()
    monkeypatch.setattr("pathlib.Path.write_text", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        save(hybrid, path)
    monkeypatch.undo()
    assert path.read_text() == before


def test_the_hash_of_lpips_heads_is_saved(tmp_path):
    heads = {f"lin{i}": torch.ones(1, width, 1, 1) for i, width in enumerate((64, 192, 384, 256, 256))}
    save_file(heads, tmp_path / "own.safetensors")
    network = AlexNet(LPIPS_LAYERS["alex"], weights="random")
    own = L2() @ Calibrated("alex", weights=tmp_path / "own.safetensors") @ network
    assert own.weight_hashes[f"lpips_alex, weights={tmp_path / 'own.safetensors'}"] == compute_sha256(
        tmp_path / "own.safetensors"
    )


@pytest.mark.parametrize(
    ("text", "updated"),
    [
        ("Percent(30) * L1() + Percent(70) * TV()", "GradientShare(30) * L1() + GradientShare(70) * TV()"),
        ('L1() + 0.1 * Denoising("v", weighting="min-snr")', 'L1() + 0.1 * DenoisingMSE("v", weighting="min-snr")'),
        ('L1() @ VGG("vgg16", "conv1_1", weights="Denoising")', 'L1() @ VGG("vgg16", "conv1_1", weights="Denoising")'),
        ("DenoisingMSE()", "DenoisingMSE()"),
        (
            "Ramp(0, 0.1, steps=9, since=3) * Adversarial('patch', since=5, spectral=False) + Contextual(places=9)",
            "Ramp(0, 0.1, steps=9, since=3) * Adversarial('patch', discriminator_start_step=5, spectral_norm=False) + "
            "Contextual(max_points=9)",
        ),
        (
            "FeatureMatching(critic='patch', betas=(0, 0.9), every=2)",
            "FeatureMatching(discriminator='patch', betas=(0, 0.9), penalty_every=2)",
        ),
    ],
)
def test_names_of_earlier_versions_are_updated_outside_quotes(text, updated):
    assert update_formula(text) == updated


def test_a_loss_saved_with_earlier_names_loads(tmp_path):
    (tmp_path / "loss.json").write_text(json.dumps({"text": "Percent(30) * L1() + Denoising()", "weights": {}}))
    assert repr(load(tmp_path / "loss.json")) == "GradientShare(30) * L1() + DenoisingMSE()"

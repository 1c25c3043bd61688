"""The embedded network: its file, its cost and its distance, without any folder of weights."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch.testing import assert_close

from lossmith import L1, L2, WrongWeightsError, perceptual, style
from lossmith.backbone import clear_backbones, get_backbone
from lossmith.engine.frozen import count_flops, count_saved_bytes
from lossmith.engine.layers import Conv, MaxPool, ReLU
from lossmith.lenses import Distilled, Embedded, embedded
from lossmith.lenses.vgg import STEPS
from lossmith.losses import Contextual, SlicedWasserstein, distilled_lpips
from lossmith.pretrained.locate import SOURCES, compute_sha256

FILE = Path(embedded.__file__).with_suffix(".safetensors")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_the_package(monkeypatch):
    """Hide all weights except those in the package."""
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    clear_backbones()
    yield
    clear_backbones()


@pytest.fixture
def image_pair_with_edge():
    """Return (pred, target): images of smooth shapes with an edge, and pred with added noise."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 6, 6, generator=g)
    target = F.interpolate(coarse, size=48, mode="bicubic").clamp(0, 1)
    target[:, :, :, 24:] *= 0.5
    return (target + 0.1 * torch.randn(target.shape, generator=g)).clamp(0, 1), target


def test_the_file_is_small_in_half_precision_and_has_a_version():
    assert FILE.stat().st_size <= 1_500_000
    with safe_open(FILE, "pt") as file:
        assert file.metadata()["version"] == "3"
        kernels = [key for key in file.keys() if key.endswith(".weight")]  # noqa: SIM118
        assert all(file.get_slice(key).get_dtype() == "F16" for key in kernels)
        assert len(kernels) == sum(map(len, embedded.STAGES))


def test_the_hash_is_the_published_one():
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert SOURCES["embedded"][0].sha256 == digest == get_backbone(embedded.EmbeddedNetwork, "embedded", None).sha256
    assert digest in (ROOT / "docs" / "embedded.md").read_text("utf-8")
    assert json.loads((ROOT / "experiments" / "embedded_network" / "training.json").read_text())["sha256"] == digest


def test_flops_are_at_most_a_twentieth_of_vgg16():
    own, _ = count_flops(embedded.STEPS, (1, 3, 224, 224), {"relu5_2"})
    vgg, _ = count_flops(STEPS["vgg16"], (1, 3, 224, 224), {"relu5_3"})
    assert own <= vgg / 20


def test_saved_bytes_are_at_most_a_fourth_of_vgg16():
    own = count_saved_bytes(embedded.STEPS, (1, 3, 128, 128), {"relu5_2"})
    assert own <= count_saved_bytes(STEPS["vgg16"], (1, 3, 128, 128), {"relu5_3"}) / 4


def test_all_steps_are_supported_by_the_engine():
    assert {type(step) for step in embedded.STEPS} == {Conv, ReLU, MaxPool}
    assert all(step.kernel == 2 for step in embedded.STEPS if isinstance(step, MaxPool))


@pytest.mark.parametrize("layer", ["conv1_1", "relu2_2", "pool3", "conv4_1", "relu5_2"])
def test_every_stage_has_features(layer, image_pair_with_edge):
    (features,) = Embedded(layer)({"pixels": image_pair_with_edge[0]}).values()
    assert features.shape[1] in {width for widths in embedded.STAGES for width in widths}
    assert features.isfinite().all()


def test_features_equal_plain_convolutions_with_the_weights_of_the_file(image_pair_with_edge):
    (actual,) = Embedded("relu3_2")({"pixels": image_pair_with_edge[0]}).values()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with safe_open(FILE, "pt") as file:
        x = (image_pair_with_edge[0] - mean) / std
        for index, step in enumerate(embedded.STEPS):
            if isinstance(step, Conv):
                x = F.conv2d(
                    x, file.get_tensor(f"{index}.weight").float(), file.get_tensor(f"{index}.bias").float(), padding=1
                )
            else:
                x = F.relu(x) if isinstance(step, ReLU) else F.max_pool2d(x, 2)
            if step.name == "relu3_2":
                break
    assert_close(actual, x, rtol=1e-4, atol=1e-4)


def test_the_distance_is_the_formula_of_its_docstring(image_pair_with_edge):
    features = [Embedded(embedded.EMBEDDED_LAYERS)({"pixels": each}) for each in image_pair_with_edge]
    expected = torch.zeros(2)
    with safe_open(FILE, "pt") as file:
        for stage, layer in enumerate(embedded.EMBEDDED_LAYERS, start=1):
            w, epsilon = file.get_tensor(f"head{stage}"), file.get_tensor("epsilon")[stage - 1]
            first, second = (f[layer] / (f[layer].square().sum(1, keepdim=True) + epsilon).sqrt() for f in features)
            expected += ((first - second).square() * w.view(1, -1, 1, 1)).sum(1).mean(dim=(1, 2))
    (actual,) = (
        distilled_lpips().evaluate({"pred": image_pair_with_edge[0], "target": image_pair_with_edge[1]}).values()
    )
    assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_passes_gradcheck(image_pair_with_edge):
    small = [each[:1, :, 16:34, 16:34].double() for each in image_pair_with_edge]
    loss = L2() @ Distilled() @ Embedded(embedded.EMBEDDED_LAYERS)
    assert torch.autograd.gradcheck(lambda x: loss(x, small[1]), small[0].requires_grad_(), fast_mode=True)


def test_the_distance_grows_with_the_noise(image_pair_with_edge):
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(image_pair_with_edge[1].shape, generator=g)
    distances = [
        distilled_lpips()((image_pair_with_edge[1] + s * noise).clamp(0, 1), image_pair_with_edge[1]).item()
        for s in (0.0, 0.02, 0.08, 0.3)
    ]
    assert distances[0] == 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_have_bounded_gradients(value, image_pair_with_edge):
    flat = torch.full_like(image_pair_with_edge[1], value).requires_grad_()
    loss = distilled_lpips()(flat, image_pair_with_edge[1])
    (gradient,) = torch.autograd.grad(loss, flat)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.norm() < 10


@pytest.mark.parametrize(
    "loss",
    [
        perceptual("embedded"),
        style("embedded"),
        perceptual("embedded", ["conv3_2", "relu4_1"], "l2"),
        Contextual() @ Embedded("relu3_2"),
        SlicedWasserstein(16) @ Embedded("relu2_2"),
        distilled_lpips(),
        L1() @ Embedded({"conv2_2": 0.5}),
    ],
    ids=repr,
)
def test_every_feature_loss_works_on_the_network(loss, image_pair_with_edge):
    pred = image_pair_with_edge[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pred, image_pair_with_edge[1]), pred)
    assert gradient.abs().sum() > 0
    assert gradient.isfinite().all()


@pytest.mark.slow
def test_no_folder_no_internet_and_no_torchvision_are_needed(tmp_path):
    code = """
import socket, sys
socket.socket.connect = None
for name in ("torchvision", "lpips", "ndf", "timm"):
    sys.modules[name] = None
import torch
from lossmith import parse
from lossmith.losses import distilled_lpips
x = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
assert (distilled_lpips() + 0.1 * parse("perceptual") + parse("style"))(x.flip(3), x) > 0
"""
    env = {k: v for k, v in os.environ.items() if k != "LOSSMITH_WEIGHTS"} | {"TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(tmp_path.iterdir())


def test_a_file_without_heads_raises(tmp_path):
    from safetensors.torch import load_file, save_file

    state = {key: value for key, value in load_file(FILE).items() if not key.startswith("head")}
    save_file(state, tmp_path / "own.safetensors")
    with pytest.raises(WrongWeightsError, match="does not hold the five non-negative heads"):
        distilled_lpips(weights=str(tmp_path / "own.safetensors"))(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


def test_a_damaged_file_raises(tmp_path):
    damaged = tmp_path / "embedded.safetensors"
    data = bytearray(FILE.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    assert compute_sha256(damaged) != compute_sha256(FILE)
    with pytest.raises(WrongWeightsError, match="damaged or another file"):
        Embedded("relu1_1", weights=str(damaged))({"pixels": torch.rand(1, 3, 16, 16)})


def test_other_layers_raise():
    with pytest.raises(ValueError, match="expects the layers relu1_1, relu2_2"):
        (L2() @ Distilled() @ Embedded("relu3_2"))(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


def test_untrained_weights_are_supported(image_pair_with_edge):
    assert distilled_lpips(weights="random")(*image_pair_with_edge) > 0
    assert repr(perceptual("embedded", "relu1_1", weights="random")) == 'L1() @ Embedded("relu1_1", weights="random")'

"""Autocast: convolutions run in half precision, and the gradient keeps its direction."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lossmith import L1, parse, pinned, tiled
from lossmith.data.sample_images import list_sample_images
from lossmith.image import from_pil
from lossmith.resize import downsample, upsample

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
COLUMNS = [("policy", "least"), ("policy", "median"), ("throughout", "least")]
STYLE = "style('vgg16', ['relu1_2', 'relu2_1'])"


def autocast(dtype):
    return torch.autocast("cpu", dtype) if dtype else nullcontext()


def gradient_at_pred(loss, pred, target, dtype=None):
    pred = pred.clone().requires_grad_()
    with autocast(dtype):
        value = loss(pred, target)
    return torch.autograd.grad(value, pred)[0]


def cosine(one, other):
    return F.cosine_similarity(one.double().flatten(1), other.double().flatten(1), eps=1e-30).min().item()


@pytest.fixture(scope="module")
def photographs():
    """Return the centres of two photographs, downsampled by 4 and upsampled, and the originals."""
    paths = {path.stem: path for group in list_sample_images() for path in group}
    target = torch.stack(
        [F.pad(from_pil(Image.open(paths[name])), [-160] * 4)[:, :112, :112] for name in ("astronaut", "brick")]
    )
    return upsample(downsample(target, 4), 4).clamp(0, 1), target


@pytest.mark.slow
@HALVES
@pytest.mark.parametrize(
    "text",
    [
        "perceptual('vgg16')",
        "perceptual('vgg19')",
        "perceptual('squeezenet')",
        "perceptual('alexnet')",
        "style('squeezenet')",
        "lpips('alex')",
    ],
)
def test_the_gradient_on_photographs_keeps_a_cosine_of_0_999(text, dtype, photographs, assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    loss = parse(text)
    assert cosine(gradient_at_pred(loss, *photographs, dtype), gradient_at_pred(loss, *photographs)) >= 0.999


@HALVES
@pytest.mark.parametrize("form", ["plain", "with_gradient_norms", "pinned", "tiled"])
def test_the_small_gradients_of_gram_matrices_do_not_underflow(form, dtype, with_random_weights, image_pair):
    loss = with_random_weights(parse(STYLE))
    expected = gradient_at_pred(loss, *image_pair())
    assert 0 < expected.abs().max() < 2**-14  # below the normal numbers of fp16

    def with_gradient_norms(pred, target):
        values, _ = loss.evaluate_with_gradient_norms({"pred": pred, "target": target})
        return loss.weighted_sum(values)

    forms = {
        "plain": loss,
        "with_gradient_norms": with_gradient_norms,
        "pinned": lambda pred, target: pinned(loss, target=target)(pred),
        "tiled": tiled(loss, 16),
    }
    assert cosine(gradient_at_pred(forms[form], *image_pair(), dtype), expected) > 0.999


@HALVES
def test_gradients_of_terms_do_not_underflow(dtype, with_random_weights, image_pair):
    loss = with_random_weights(parse(f"L1 + {STYLE}"))
    inputs = dict(zip(("pred", "target"), image_pair(), strict=True))
    expected = loss.gradients(inputs)
    with autocast(dtype):
        found = loss.gradients(inputs)
    assert all(cosine(found[name], expected[name]) > 0.999 for name in loss.names)


def test_pixel_losses_run_in_full_precision(image_pair):
    assert torch.equal(gradient_at_pred(L1(), *image_pair(), torch.bfloat16), gradient_at_pred(L1(), *image_pair()))


def test_the_table_in_the_docs_equals_the_measurements():
    root = Path(__file__).parents[1]
    rows = json.loads((root / "bench" / "precision.json").read_text("utf-8"))["rows"]
    found = {(row["loss"], row["precision"], row["form"]): row for row in rows}
    page = (root / "docs" / "engine.md").read_text("utf-8")
    columns = [(form, half, key) for form, key in COLUMNS for half in ("bf16", "fp16")]
    for loss in dict.fromkeys(row["loss"] for row in rows):
        cells = [f"{found[loss, half, form][key]:.5f}" for form, half, key in columns]
        assert f"| `{loss}` | {' | '.join(cells)} |" in page

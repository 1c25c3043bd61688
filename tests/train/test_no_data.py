"""Trainings on images with samples without data."""

import math

import numpy as np
import pytest
import torch

from lossmith import parse
from lossmith.data.pixel_format import PixelFormat
from lossmith.tasks import Denoising, Inpainting, SuperResolution


@pytest.fixture
def scans(tmp_path):
    """Float images of two bands with a region without data; one image has none at all."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for i in range(6):
        image = np.random.default_rng(i).random((2, 48, 48), dtype=np.float32)
        image[:, :10] = np.nan
        if i == 5:
            image[:] = np.nan
        np.save(folder / f"{i}.npy", np.moveaxis(image, 0, -1))
    return folder


@pytest.mark.parametrize("task", [Denoising(), SuperResolution(2), Inpainting()], ids=lambda task: task.name)
def test_a_pixel_without_data_changes_neither_value_nor_gradient(task):
    task = task.with_pixels(PixelFormat(channels=2, dtype="float32", value_range=(0, 1), no_data=math.nan))
    loss, _ = task.prepare_loss(parse("L1 + SSIM + FocalFrequency"), torch.nn.Identity())
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 2, 24, 24, generator=generator)
    batch = {"input": torch.rand(2, 2, 24, 24, generator=generator), "mask": torch.ones(2, 1, 24, 24)}
    pred = torch.rand(2, 2, 24, 24, generator=generator)
    target[0, :, :12] = torch.nan
    target[1] = torch.nan

    def evaluate(pred):
        pred = pred.clone().requires_grad_()
        inputs = task.compute_inputs(lambda image: pred, {**batch, "target": target})
        values = loss.evaluate(inputs)
        gradients = {name: torch.autograd.grad(v.sum(), pred, retain_graph=True)[0] for name, v in values.items()}
        return inputs, values, gradients

    inputs, values, gradients = evaluate(pred)
    assert set(inputs) == set(task.input_names)
    assert all(value[1] == 0 for value in values.values())
    assert all(gradient.isfinite().all() and not gradient[1].any() for gradient in gradients.values())
    assert not gradients["L1"][0, :, :12].any() and gradients["L1"][0, :, 12:].any()
    changed = pred.clone()
    changed[0, :, :12] = 5.0
    torch.testing.assert_close(evaluate(changed)[1]["L1"], values["L1"])
    metrics = task.extra_metrics(torch.nn.Identity(), inputs)
    assert (metrics["valid"].item(), metrics["empty_targets"].item()) == (0.25, 1)


@pytest.mark.slow
def test_a_run_with_missing_data_has_no_non_finite_step(run, scans, lines):
    folder = run(
        "run",
        images=scans,
        task="denoising",
        scale=1,
        range="0:1",
        no_data="nan",
        loss="L1 + 0.1*SSIM + 0.1*perceptual @ Bands('each')",
        val_count=1,
    )
    rows = lines(folder)
    assert all(math.isfinite(value) for row in rows for value in row["terms"].values())
    assert not any(row.get("nonfinite") for row in rows)
    assert min(row["extra_metrics"]["valid"] for row in rows) < 1
    assert 'mask="valid"' in (folder.path / "loss.json").read_text().replace("\\", "")

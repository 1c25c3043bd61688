"""Run training steps on the simulated accelerator, and print what was found as JSON, a line per training.

    python tests/devices/run_training.py PRECISION,...

PRECISION is "fp32", or "bf16" or "fp16" for autocast; fp16 without a gradient scaler, which reads a value. A training
is two steps of a task's inputs, the loss with guard, balancer, discriminators and logs, the backward pass and the
optimizer.
"""

import itertools
import json
import sys
import traceback
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent)]
import simulated  # noqa: E402

from lossmith import LossMonitor, parse  # noqa: E402
from lossmith.models import ConditionedNetwork, build_network  # noqa: E402
from lossmith.tasks import TASKS  # noqa: E402
from lossmith.text_to_image.models import Denoiser  # noqa: E402

PERCEPTUAL = "perceptual('vgg16', 'relu2_2', weights='random')"
L1 = f"L1 + 0.1*{PERCEPTUAL}"
ADVERSARIAL = "L1 + 0.01*Adversarial('patch', 'relativistic', penalty='r1', penalty_every=2, width=4)"
WASSERSTEIN = "L1 + 0.01*Adversarial('patch', 'wasserstein', penalty='gp', width=4)"
UNET = "L1 + 0.01*Adversarial('unet', 'hinge', width=4) + 0.01*FeatureMatching('patch', 'lsgan', width=4)"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
TRAININGS = [
    ("super-resolution", "edsr", L1, None),
    ("super-resolution", "textured-edsr", L1, None),
    ("super-resolution", "edsr", f"L1 + lam*{PERCEPTUAL}", None),
    ("super-resolution", "edsr", f"L1 + 0.1*Every(2)*Part(0.5)*{PERCEPTUAL} + Window(16)*SSIM", None),
    ("super-resolution", "edsr", ADVERSARIAL, None),
    ("super-resolution", "edsr", WASSERSTEIN, None),
    ("super-resolution", "edsr", UNET, None),
    ("super-resolution", "edsr", L1, "share"),
    ("super-resolution", "edsr", L1, "gradnorm"),
    ("super-resolution", "edsr", L1, "adaptive"),
    ("super-resolution", "edsr", L1, "uncertainty"),
    ("denoising", "edsr", "Charbonnier + 0.1*FocalFrequency", None),
    ("deblurring", "edsr", "L2 + gradient", None),
    ("jpeg", "edsr", "Huber + 0.1*colour", None),
    ("paired", "edsr", "MSSSIM(2, window=5) + 0.1*wavelet_l1", None),
    ("inpainting", "inpainter", f"L1.on(mask='mask') + 0.1*{PERCEPTUAL}.on(pred='filled')", None),
    ("autoencoding", "autoencoder", f"L1 + 1e-6*KL + 0.1*{PERCEPTUAL}", None),
    ("text-to-image", "denoiser", f"imagen + 0.1*Gate(0)*{PERCEPTUAL}", None),
]


def build_model(name, scale, loss):
    if name == "denoiser":
        return Denoiser(side=32, text_dim=12, channels=[8, 16], heads=1)
    sizes = {"edsr": {"channels": 8, "blocks": 1}}.get(name, {})
    model = build_network(name, scale, **sizes)
    return ConditionedNetwork(model, dict.fromkeys(loss.knobs, (0.1, 10.0))) if loss.knobs else model


def make_batch(task, side=32, n=4):
    """Return an empty batch of a task."""

    def empty(*shape, dtype=torch.float32):
        return torch.empty(n, *shape, device=simulated.DEVICE, dtype=dtype)

    batch = {"target": empty(3, side, side), "input": empty(3, side // task.scale, side // task.scale)}
    if task.name == "inpainting":
        batch["mask"] = empty(1, side, side)
    if task.name == "text-to-image":
        batch |= {"tokens": empty(5, 12), "token_mask": empty(5, dtype=torch.bool), "pooled": empty(12)}
        batch["group"] = empty(dtype=torch.int64)
    return batch


def run(name, network, formula, balance, precision):
    """Run two training steps; return what was found."""
    task = TASKS[name](scale=2 if name == "super-resolution" else 1)
    loss = parse(formula)
    model = build_model(network, task.scale, loss).train().to(memory_format=torch.channels_last)
    task = task.with_inputs(loss.input_names)
    with simulated.simulation() as log:
        simulated.move(model)
        simulated.move(loss)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        monitor = LossMonitor(loss, optimizer, balance=balance, log_every=1)
        simulated.move(monitor)
        log.clear()
        knobs = {knob: torch.empty(4, device=simulated.DEVICE) for knob in loss.knobs}
        for _ in range(2):
            with torch.autocast(simulated.DEVICE, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
                run_model = (lambda *args, **kwargs: model(*args, **kwargs, **knobs)) if knobs else model
                inputs = task.compute_inputs(run_model, make_batch(task))
                total = monitor.total(inputs, knobs)
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
        devices = {each.device.type for each in model.parameters()}
        assert monitor.steps == 2
    found = {"devices": sorted(devices), "has_float64": "float64" in log.dtypes, "converted": log.converted}
    return found | {"operators": dict(log.operators)}


def main(precisions):
    simulated.set_up()
    for precision, (name, network, formula, balance) in itertools.product(precisions.split(","), TRAININGS):
        title = ", ".join(filter(None, (name, network, formula, balance)))
        try:
            found = run(name, network, formula, balance, precision)
        except Exception as error:
            own = [each for each in traceback.extract_tb(error.__traceback__) if "lossmith" in each.filename]
            where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
            found = {"error": f"{where} {type(error).__name__}: {error}".partition("\n")[0][:300]}
        print(json.dumps({"training": title, "precision": precision, **found}), flush=True)
    simulated.leave(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

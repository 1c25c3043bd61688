"""Run losses on the simulated accelerator, forward and backward, and print what was found as JSON, a line per loss.

    python tests/devices/run_contract.py PRECISION,... KIND

PRECISION is "fp32"; or "bf16" or "fp16" for autocast; or "a100" for bf16 with the networks as on an A100. KIND is "all"
for the losses of the contract and every other lens, "networks" for those with a network, or "broken" for losses that
break a rule.
"""

import json
import sys
import traceback
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "losses")]
import simulated  # noqa: E402
from test_contract import MEMBERS, Member, make_inputs, min_batch_size  # noqa: E402

from lossmith import Distance, parse  # noqa: E402
from lossmith.engine.frozen import precision as precision_policy  # noqa: E402
from lossmith.engine.frozen import steps  # noqa: E402

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "a100": torch.bfloat16}


class ReadsAValue(Distance):
    def measure(self, pred, target):
        return (pred - target).flatten(1).mean(dim=1) / (pred - target).abs().max().item()


class MixesDevices(Distance):
    def measure(self, pred, target):
        return (pred - target).flatten(1).mean(dim=1) * torch.ones(1)


class UsesDoublePrecision(Distance):
    def measure(self, pred, target):
        return (pred - target).double().flatten(1).mean(dim=1).float()


class LosesTheFormat(Distance):
    def measure(self, pred, target):
        kernel = torch.ones(3, 3, 3, 3, device=pred.device)
        return torch.conv2d((pred - target).contiguous(), kernel).flatten(1).mean(dim=1)


OTHER_LENSES = [
    Member(f"{distance} @ {lens}", side=64)
    for distance, lens in (
        ("L1", "Bands(1, 3)"),
        ("L2", "Blur(1.5)"),
        ("L1", "Lab"),
        ("L1", "YCbCr"),
        ("L1", "Central"),
        ("L1", "Scharr"),
        ("L1", "Torchvision('resnet18', 'layer1', weights='random')"),
        ("L1", "Timm('resnet18', 'layer1', weights='random')"),
        ("L2", "AlexNet('relu2', weights='random')"),
    )
]
"""Lenses that are in no loss of the contract."""
BROKEN = (ReadsAValue(), MixesDevices(), UsesDoublePrecision(), LosesTheFormat())


def run(loss, member, precision):
    """Return what was found for one loss."""
    inputs = make_inputs(loss, member, max(2, min_batch_size(loss)))
    if "broken" not in sys.argv:
        with torch.no_grad():
            loss.evaluate(inputs)  # reads the weights of all networks
    first = next(iter(inputs))
    with simulated.simulation() as log:
        simulated.move(loss)
        for lens in loss.modules():
            simulated.copy_kept_weights(lens)
        fake = {name: torch.empty_like(each, device=simulated.DEVICE) for name, each in inputs.items()}
        for name, each in fake.items():
            fake[name] = each.contiguous(memory_format=torch.channels_last) if each.dim() == 4 else each
        fake[first].requires_grad_()
        log.clear()
        with torch.autocast(simulated.DEVICE, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            value = loss(**fake)
        (gradient,) = torch.autograd.grad(value, fake[first])
    return {
        "devices": sorted({each.device.type for each in (value, gradient)}),
        "dtype": str(value.dtype).removeprefix("torch."),
        "has_float64": "float64" in log.dtypes,
        "has_half": bool({"bfloat16", "float16"} & log.dtypes),
        "has_network": bool(loss.networks),
        "converted": log.converted,
        "operators": dict(log.operators),
    }


def main(precisions, kind):
    simulated.set_up()
    for precision in precisions.split(","):
        run_all(precision, kind)
    simulated.leave(0)


def run_all(precision, kind):
    """Print a row for each loss."""
    if precision == "a100":
        steps.choose_exactness = lambda device: "tf32x3"
        precision_policy.is_fp16_fast = lambda device: True
    if kind == "broken":
        pairs = [(loss, Member(type(loss).__name__)) for loss in BROKEN]
    else:
        pairs = [(parse(member.text), member) for member in MEMBERS + OTHER_LENSES]
    for loss, member in pairs:
        if kind == "networks" and not loss.networks:
            continue
        try:
            found = run(loss.with_network_weights("random") if loss.networks else loss, member, precision)
        except Exception as error:
            own = [each for each in traceback.extract_tb(error.__traceback__) if "lossmith" in each.filename]
            where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
            found = {"error": f"{where} {type(error).__name__}: {error}".partition("\n")[0][:300]}
        print(json.dumps({"loss": member.text, "precision": precision, **found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Count the operators that would launch a kernel in a step of a loss on the simulated accelerator, as JSON lines.

    python tests/devices/run_launches.py [bf16]

A step is the value and the gradient at the prediction, in eager mode, in float32 or under bf16 autocast. Views,
allocations and constants of the host are no launches; a convolution and a reduction are one, although a device may run
several kernels for them. The bytes kept and at most held are those of tensors beyond the images and weights. The other
libraries compute the same on the same images.
"""

import contextlib
import importlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parent)]
import simulated  # noqa: E402

from lossmith import parse  # noqa: E402
from lossmith.engine.frozen import few_launches  # noqa: E402
from lossmith.engine.memory import measure_memory  # noqa: E402

SHAPE = (8, 3, 256, 256)
LOSSES = {
    "SSIM": "SSIM",
    "MS-SSIM": "MSSSIM",
    "LPIPS": "lpips('vgg', weights='random')",
    "Gram": "style('vgg19', ['relu1_1', 'relu2_1', 'relu3_1', 'relu4_1', 'relu5_1'], weights='random')",
    "perceptual": "perceptual('vgg19', ['conv1_2', 'conv2_2', 'conv3_4', 'conv4_4', 'conv5_4'], weights='random')",
    "hybrid": "L1 + perceptual('vgg16', ['conv3_3', 'conv4_3'], weights='random')"
    " + L1 @ Gram() @ VGG('vgg16', ['conv3_3', 'conv4_3'], weights='random') + lpips('vgg', weights='random')",
}
NETWORK = {"convolution", "convolution_backward", "relu", "relu_", "threshold_backward"} | {
    f"max_pool2d_with_indices{end}" for end in ("", "_backward")
}
"""The operators of a network itself, which all libraries run alike."""


CPU_OPERATORS = [
    ("lossmith.engine.cpu.winograd", "winograd_conv2d"),
    ("lossmith.engine.cpu.packed_kernels", "packed_conv2d"),
    ("lossmith.formula.term_evaluation", "chunked"),
    ("lossmith.engine.frozen.bits", "_split_planes"),
]
"""What was written for a CPU: Winograd's algorithm, packed kernels, bands of rows, and bits by planes."""


@contextlib.contextmanager
def watch_cpu_operators() -> Iterator[list[str]]:
    """Record which operators for a CPU run; each runs as usual."""
    ran: list[str] = []

    def watched(name: str, function: Callable[..., object]) -> Callable[..., object]:
        return lambda *args, **kwargs: (ran.append(name), function(*args, **kwargs))[1]

    with contextlib.ExitStack() as stack:
        for module, name in CPU_OPERATORS:
            function = getattr(importlib.import_module(module), name)
            stack.enter_context(mock.patch(f"{module}.{name}", watched(name, function)))
        yield ran


def count(compute: Callable[[Tensor, Tensor], Tensor], precision: str) -> tuple[Counter[str], int, int]:
    """Return how often each operator launches in the value and the gradient, and the bytes kept and at most held."""
    make_first = few_launches._first_elements
    kept_first = mock.patch.object(make_first, "__wrapped__", lru_cache(make_first.__wrapped__))  # as on a real device
    with simulated.simulation() as log, kept_first:
        pred, target = (
            torch.empty(SHAPE, device=simulated.DEVICE).contiguous(memory_format=torch.channels_last) for _ in "pt"
        )
        pred.requires_grad_()
        for _ in range(2):  # the first step prepares weights
            log.clear()
            with torch.autocast(simulated.DEVICE, torch.bfloat16, enabled=precision == "bf16"):
                value = compute(pred, target)
            torch.autograd.grad(value, pred)
        launches = log.launches.copy()
        with torch.autocast(simulated.DEVICE, torch.bfloat16, enabled=precision == "bf16"):
            kept, peak = measure_memory(lambda: compute(pred, target), [pred, target])
    return launches, kept, peak


class Averaged(nn.Module):
    """The mean of LPIPS's values over a batch of images in [0, 1]."""

    def __init__(self, metric: nn.Module) -> None:
        super().__init__()
        self.metric = metric

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the mean."""
        return self.metric(pred, target, normalize=True).mean()


def build_losses() -> dict[tuple[str, str], Callable[[Tensor, Tensor], Tensor]]:
    """Return the functions to count by loss and library."""
    import lpips
    import pytorch_msssim

    images = torch.rand(1, 3, 256, 256)
    steps: dict[tuple[str, str], Callable[[Tensor, Tensor], Tensor]] = {}
    for name, formula in LOSSES.items():
        loss = parse(formula)
        loss(images, images)  # reads the weights
        steps[name, "lossmith"] = loss
    network = lpips.LPIPS(net="vgg", verbose=False, pretrained=False, pnet_rand=True).requires_grad_(False)
    modules = {
        ("SSIM", "pytorch-msssim"): pytorch_msssim.SSIM(data_range=1.0),
        ("MS-SSIM", "pytorch-msssim"): pytorch_msssim.MS_SSIM(data_range=1.0),
        ("LPIPS", "lpips"): Averaged(network),
    }
    return steps | modules


def prepare(step: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Move the modules of a loss to the device."""
    if isinstance(step, nn.Module):
        simulated.move(step)
        for module in step.modules():
            simulated.copy_kept_weights(module)
            for name, value in vars(module).items():  # tensors of a library that are no buffers
                if isinstance(value, Tensor):
                    setattr(module, name, torch.empty_like(value, device=simulated.DEVICE))
    return step


def main(precision: str = "fp32") -> None:
    losses = build_losses()
    simulated.set_up()
    Tensor.new_tensor = lambda self, data: torch.tensor(data, dtype=self.dtype, device=self.device)
    for (name, library), step in losses.items():
        with simulated.simulation():
            prepare(step)
        with watch_cpu_operators() as ran:
            launches, kept, peak = count(step, precision)
        own = sum(number for operator, number in launches.items() if operator not in NETWORK)
        row = {"loss": name, "library": library, "launches": launches.total(), "beyond the network": own}
        row |= {"kept": kept, "peak": peak, "cpu_operators": sorted(set(ran))}
        print(json.dumps(row | {"operators": dict(+launches)}), flush=True)
    with watch_cpu_operators() as ran:  # the watch works: a CPU runs them
        images = torch.rand(2, 3, 256, 256)
        parse(LOSSES["hybrid"])(images.clone().requires_grad_(), images).backward()
    row = {"loss": "hybrid", "library": "lossmith on a CPU", "launches": 0, "cpu_operators": sorted(set(ran))}
    print(json.dumps(row))
    simulated.leave(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run SSIM's Triton kernels in Triton's interpreter on the CPU, and print errors and launches as JSON, a line per case.

    TRITON_INTERPRET=1 python tests/devices/run_kernels.py

The errors are those of the value and the gradients, relative to PyTorch's operators in double precision. A launch is an
operator as in `simulated.py`, or a kernel.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path[:0] = [str(Path(__file__).parent)]
from simulated import is_launch  # noqa: E402

from lossmith import MSSSIM, SSIM  # noqa: E402
from lossmith.losses import _structure, _structure_kernels  # noqa: E402

CASES = [
    ("SSIM", SSIM(7), torch.contiguous_format),
    ("SSIM", SSIM(7), torch.channels_last),
    ("MS-SSIM", MSSSIM(2, window=5), torch.channels_last),
]


class LaunchCount(TorchDispatchMode):
    """Counts operators that launch."""

    launches = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.launches += is_launch(func)
        return func(*args, **(kwargs or {}))


class Counted:
    """The kernels, with a count of their launches."""

    def __init__(self):
        self.calls = 0

    def __getattr__(self, name):
        def run(*args):
            self.calls += 1
            with torch.utils._python_dispatch._disable_current_modes():
                return getattr(_structure_kernels, name)(*args)

        return run


def run(loss, pred, target):
    """Return the values and their gradients at both images."""
    pred, target = pred.clone().requires_grad_(), target.clone().requires_grad_()
    values = loss.measure(pred, target)
    return values.detach(), *torch.autograd.grad(values, (pred, target), torch.ones_like(values))


def main():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 18, 17, generator=generator)
    pred = target + 0.1 * torch.randn(target.shape, generator=generator)
    for name, loss, memory_format in CASES:
        images = [each.contiguous(memory_format=memory_format) for each in (pred, target)]
        expected = run(loss, *(each.double() for each in images))
        kernels = Counted()
        with mock.patch.object(_structure, "load_kernels", lambda *images, kernels=kernels: kernels):
            run(loss, *images)  # makes the constants
            kernels.calls = 0
            leaf = images[0].requires_grad_()
            one = torch.ones(2)
            with LaunchCount() as count:
                torch.autograd.grad(loss.measure(leaf, images[1]), leaf, one)
            launches = count.launches + kernels.calls
            found = run(loss, *(each.detach() for each in images))
        errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, expected, strict=True)]
        print(
            json.dumps({"loss": name, "layout": str(memory_format), "launches": launches, "error": max(errors)}),
            flush=True,
        )


if __name__ == "__main__":
    main()

"""The network that learns, and the one that teaches it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.engine.layers import (
    Conv,
    MaxPool,
    ReLU,
    Step,
)
from lossmith.lens import get_backbone
from lossmith.lenses.embedded import EMBEDDED_LAYERS, STEPS
from lossmith.lenses.lpips import LPIPS_LAYERS
from lossmith.lenses.vgg import VGGNetwork
from lossmith.pretrained.locate import find_weights

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
EPSILON = 0.1
"""Added to a feature's squared length, so that no direction is made of nearly nothing."""
TEACHER_WIDTHS = (64, 128, 256, 512, 512)


class Student(nn.Module):
    """The embedded network while it learns: five taps, channel weights, and projections that are thrown away."""

    def __init__(self, plan: Sequence[Step] = STEPS) -> None:
        super().__init__()
        self.plan = tuple(plan)
        convs = [step for step in plan if isinstance(step, Conv)]
        # Kernels are matrices here, out x in k k, as Muon wants them.
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.randn(len(c.weight), c.weight[0].numel()) * (2 / c.weight[0].numel()) ** 0.5)
            for c in convs
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(len(c.weight))) for c in convs)
        widths = [len(c.weight) for c in convs if c.name.replace("conv", "relu") in EMBEDDED_LAYERS]
        self.heads = nn.ParameterList(nn.Parameter(torch.full((w,), -2.0)) for w in widths)
        self.projections = nn.ModuleList(nn.Conv2d(w, t, 1) for w, t in zip(widths, TEACHER_WIDTHS, strict=True))

    def taps(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The five taps before their ReLU, and after it."""
        x = ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        before, after, rows = [], [], iter(zip(self.kernels, self.biases, strict=True))
        for step in self.plan:
            if isinstance(step, Conv):
                kernel, bias = next(rows)
                kernel = kernel.view(step.weight.shape).contiguous(memory_format=torch.channels_last)
                x = F.conv2d(x, kernel, bias, step.stride, step.padding)
            else:
                x = step(x)
            if step.name in EMBEDDED_LAYERS:
                after.append(x)
            elif step.name.replace("conv", "relu") in EMBEDDED_LAYERS:
                before.append(x)
        return before, after

    def calibrated(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The taps at unit length, each channel by its weight."""
        return [
            unit(f.float(), EPSILON) * F.softplus(h).sqrt().view(1, -1, 1, 1)
            for f, h in zip(features, self.heads, strict=True)
        ]


class Teacher:
    """VGG-16 with the heads of LPIPS, in bfloat16."""

    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        def ready(step: Step) -> Step:
            if not isinstance(step, Conv):
                return step
            weight = step.weight.to(dtype).contiguous(memory_format=torch.channels_last)
            return replace(step, weight=weight, bias=step.bias.to(dtype))

        mean, steps = get_backbone(VGGNetwork, "vgg16", None).get_steps(torch.device("cpu"), torch.float32)
        self.mean, self.dtype = mean, dtype
        last = [step.name for step in steps].index(LPIPS_LAYERS["vgg"][-1])
        self.steps = [ready(step) for step in steps[: last + 1]]
        state = find_weights("lpips_vgg").state
        self.heads = [state[name].float().view(1, -1, 1, 1) for name in sorted(state)]

    @torch.no_grad()
    def taps(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The five taps before their ReLU, and after it."""
        y = (x - self.mean).to(self.dtype).contiguous(memory_format=torch.channels_last)
        before, after = [], []
        for step in self.steps:
            match step:
                case Conv():  # with its ReLU, which would cost a third more by itself
                    same = [step.padding] * 2, [step.stride] * 2, [1, 1], 1
                    tapped = step.name.replace("conv", "relu") in LPIPS_LAYERS["vgg"]
                    kind = "none" if tapped else "relu"
                    y = torch.ops.mkldnn._convolution_pointwise(y, step.weight, step.bias, *same, kind, [], "")
                    if tapped:
                        before.append(y)
                case ReLU() if step.name in LPIPS_LAYERS["vgg"]:
                    y = y.relu()
                    after.append(y)
                case MaxPool():
                    y = step(y)
        return before, after

    @torch.no_grad()
    def units(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The taps at unit length."""
        return [unit(f.float(), 1e-20) for f in features]

    @torch.no_grad()
    def calibrated(self, units: Sequence[Tensor]) -> list[Tensor]:
        """The taps as LPIPS weighs them."""
        return [u * head.sqrt() for u, head in zip(units, self.heads, strict=True)]

    def distances(self, x: Tensor, group: int) -> Tensor:
        """LPIPS at each tap, of each group's others to its first, (taps, pairs)."""
        return stages(maps(self.calibrated(self.units(self.taps(x)[1])), group))


def unit(features: Tensor, epsilon: float) -> Tensor:
    """Features at unit length over the channels."""
    squares = torch.einsum("nchw,nchw->nhw", features, features)[:, None]  # faster than (f * f).sum here
    return features * (squares + epsilon).rsqrt()


def maps(calibrated: Sequence[Tensor], group: int) -> list[Tensor]:
    """At each place the squared distance of each group's others from its first, (groups, group - 1, h, w) a tap."""
    found = []
    for tap in calibrated:
        tap = tap.unflatten(0, (-1, group))
        off = tap[:, 1:] - tap[:, :1]
        found.append((off * off).sum(2))
    return found


def stages(found: Sequence[Tensor]) -> Tensor:
    """The distance at each tap, (taps, pairs)."""
    return torch.stack([each.mean(dim=(2, 3)).flatten() for each in found])

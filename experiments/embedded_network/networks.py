"""The student network and the teacher network."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.backbone import get_backbone
from lossmith.engine.layers import Conv, MaxPool, ReLU, Step
from lossmith.lenses.embedded import EMBEDDED_LAYERS, STEPS
from lossmith.lenses.lpips import LPIPS_LAYERS
from lossmith.lenses.vgg import VGGNetwork
from lossmith.pretrained.locate import find_weights

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
EPSILON = 0.1
"""Added to the squared length of a feature vector, so that near-zero features are not normalised to unit length."""
TEACHER_WIDTHS = (64, 128, 256, 512, 512)


class Student(nn.Module):
    """The embedded network during training: five layers, channel weights, and projections that are discarded later."""

    def __init__(self, steps: Sequence[Step] = STEPS) -> None:
        super().__init__()
        self.steps = tuple(steps)
        convs = [step for step in steps if isinstance(step, Conv)]
        # Kernels are matrices, out x in k k, since Muon requires matrices.
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.randn(len(c.weight), c.weight[0].numel()) * (2 / c.weight[0].numel()) ** 0.5)
            for c in convs
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(len(c.weight))) for c in convs)
        widths = [len(c.weight) for c in convs if c.name.replace("conv", "relu") in EMBEDDED_LAYERS]
        self.heads = nn.ParameterList(nn.Parameter(torch.full((w,), -2.0)) for w in widths)
        self.projections = nn.ModuleList(nn.Conv2d(w, t, 1) for w, t in zip(widths, TEACHER_WIDTHS, strict=True))

    def extract_features(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of the five layers before and after their ReLU."""
        x = ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        before, after, parameters = [], [], iter(zip(self.kernels, self.biases, strict=True))
        for step in self.steps:
            if isinstance(step, Conv):
                kernel, bias = next(parameters)
                kernel = kernel.view(step.weight.shape).contiguous(memory_format=torch.channels_last)
                x = F.conv2d(x, kernel, bias, step.stride, step.padding)
            else:
                x = step(x)
            if step.name in EMBEDDED_LAYERS:
                after.append(x)
            elif step.name.replace("conv", "relu") in EMBEDDED_LAYERS:
                before.append(x)
        return before, after

    def calibrate_features(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Normalise features to unit length and scale each channel by the root of its weight."""
        return [
            normalise_channels(f.float(), EPSILON) * F.softplus(h).sqrt().view(1, -1, 1, 1)
            for f, h in zip(features, self.heads, strict=True)
        ]


class Teacher:
    """VGG-16 with the heads of LPIPS, in bfloat16."""

    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        def convert(step: Step) -> Step:
            if not isinstance(step, Conv):
                return step
            weight = step.weight.to(dtype).contiguous(memory_format=torch.channels_last)
            return replace(step, weight=weight, bias=step.bias.to(dtype))

        mean, steps = get_backbone(VGGNetwork, "vgg16", None).get_steps(torch.device("cpu"), torch.float32)
        self.mean, self.dtype = mean, dtype
        last = [step.name for step in steps].index(LPIPS_LAYERS["vgg"][-1])
        self.steps = [convert(step) for step in steps[: last + 1]]
        state = find_weights("lpips_vgg").state
        self.heads = [state[name].float().view(1, -1, 1, 1) for name in sorted(state)]

    @torch.no_grad()
    def extract_features(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of the five layers before and after their ReLU."""
        y = (x - self.mean).to(self.dtype).contiguous(memory_format=torch.channels_last)
        before, after = [], []
        for step in self.steps:
            match step:
                case Conv():  # fused with its ReLU, which would cost a third more as a separate operation
                    geometry = [step.padding] * 2, [step.stride] * 2, [1, 1], 1
                    is_output = step.name.replace("conv", "relu") in LPIPS_LAYERS["vgg"]
                    activation = "none" if is_output else "relu"
                    y = torch.ops.mkldnn._convolution_pointwise(
                        y, step.weight, step.bias, *geometry, activation, [], ""
                    )
                    if is_output:
                        before.append(y)
                case ReLU() if step.name in LPIPS_LAYERS["vgg"]:
                    y = y.relu()
                    after.append(y)
                case MaxPool():
                    y = step(y)
        return before, after

    @torch.no_grad()
    def normalise_features(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Normalise features to unit length."""
        return [normalise_channels(f.float(), 1e-20) for f in features]

    @torch.no_grad()
    def calibrate_features(self, normalised: Sequence[Tensor]) -> list[Tensor]:
        """Scale normalised features by the roots of LPIPS's channel weights."""
        return [u * head.sqrt() for u, head in zip(normalised, self.heads, strict=True)]

    def compute_distances(self, x: Tensor, group: int) -> Tensor:
        """Compute LPIPS at each layer between the first image of each group and the others, (layers, pairs)."""
        features = self.normalise_features(self.extract_features(x)[1])
        return average_maps(compute_distance_maps(self.calibrate_features(features), group))


def normalise_channels(features: Tensor, epsilon: float) -> Tensor:
    """Normalise features to unit length over the channels."""
    squares = torch.einsum("nchw,nchw->nhw", features, features)[:, None]  # faster here than (f * f).sum
    return features * (squares + epsilon).rsqrt()


def compute_distance_maps(calibrated: Sequence[Tensor], group: int) -> list[Tensor]:
    """Compute the squared distances of each group's first image to the others at each position.

    Args:
        calibrated: The calibrated features of each layer, (groups * group, C, h, w).
        group: The number of images per group.

    Returns:
        One map per layer, (groups, group - 1, h, w).
    """
    maps = []
    for features in calibrated:
        features = features.unflatten(0, (-1, group))
        difference = features[:, 1:] - features[:, :1]
        maps.append((difference * difference).sum(2))
    return maps


def average_maps(maps: Sequence[Tensor]) -> Tensor:
    """Return the mean distance of each layer and pair, (layers, pairs)."""
    return torch.stack([each.mean(dim=(2, 3)).flatten() for each in maps])

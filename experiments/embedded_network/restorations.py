"""Outputs of restoration networks on training photographs, with artefacts that no simple distortion has.

The networks are IMDN, the generator of SRGAN, the compact network of Real-ESRGAN, and DnCNN.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lossmith.resize import downsample

State = dict[str, Tensor]


def run_imdn(state: State, x: Tensor) -> Tensor:
    """Upscale images (N, 3, h, w) by 4: Hui et al., 2019, without the channel attention."""

    def conv(name: str, y: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(y, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    shallow = y = conv("model.0", x)
    blocks = len({key.split(".")[3] for key in state if key.startswith("model.1.sub.") and ".conv1.0." in key})
    for i in range(blocks):
        parts, rest = [], y
        for j in (1, 2, 3):
            part, rest = F.leaky_relu(conv(f"model.1.sub.{i}.conv{j}.0", rest), 0.05).split([16, 48], dim=1)
            parts.append(part)
        parts.append(conv(f"model.1.sub.{i}.conv4", rest))
        y = y + conv(f"model.1.sub.{i}.conv1x1", torch.cat(parts, dim=1))
    y = shallow + conv(f"model.1.sub.{blocks}", y)
    return F.pixel_shuffle(conv("model.2", y), 4)


def run_srgan(state: State, x: Tensor) -> Tensor:
    """Upscale images (N, 3, h, w) by 4: Ledig et al., 2017, with five residual blocks."""

    def conv(name: str, y: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(y, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, mean, var, weight, bias)

    shallow = y = F.prelu(conv("block1.0", x), state["block1.1.weight"])
    for i in range(2, 7):
        z = F.prelu(norm(f"block{i}.bn1", conv(f"block{i}.conv1", y)), state[f"block{i}.prelu.weight"])
        y = y + norm(f"block{i}.bn2", conv(f"block{i}.conv2", z))
    y = shallow + F.prelu(conv("block7.0", y), state["block7.1.weight"])
    for i in (0, 1):
        y = F.prelu(F.pixel_shuffle(conv(f"block8.{i}.conv", y), 2), state[f"block8.{i}.prelu.weight"])
    return (conv("block8.2", y).tanh() + 1) / 2


def run_compact(state: State, x: Tensor) -> Tensor:
    """Upscale images (N, 3, h, w) by 4 with the compact animation network of Real-ESRGAN."""
    y, i = x, 0
    while f"body.{i}.weight" in state:
        weight = state[f"body.{i}.weight"].float()
        y = F.prelu(y, weight) if weight.dim() == 1 else F.conv2d(y, weight, state[f"body.{i}.bias"].float(), padding=1)
        i += 1
    return F.pixel_shuffle(y, 4) + F.interpolate(x, scale_factor=4, mode="nearest")


def run_dncnn(state: State, x: Tensor) -> Tensor:
    """Remove noise with a deviation of 25/255, channel by channel: Zhang et al., 2017."""
    y = h = x.flatten(0, 1)[:, None]
    indices = sorted({int(key.split(".")[1]) for key in state})
    for i in indices:
        h = F.conv2d(h, state[f"model.{i}.weight"], state.get(f"model.{i}.bias"), padding=1)
        h = h if i == indices[-1] else h.relu()
    return (y - h)[:, 0].view_as(x)


@torch.no_grad()
def restore_crops(crops: Tensor, weights: Path) -> Tensor:
    """Degrade clean crops (N, 3, H, W) and restore them with each network.

    Returns:
        The restorations, (N, 5, 3, H, W); the last is the mean of those of IMDN and SRGAN.
    """

    def load(file: str) -> State:
        return load_file(weights / file)

    generator = torch.Generator().manual_seed(0)
    small = downsample(crops, 4, levels=255)
    imdn = run_imdn(load("sr_imdn_baseline_x4.safetensors"), small)
    srgan = run_srgan(load("sr_srgan_x4.safetensors"), small)
    compact = run_compact(load("sr_realesr_animevideov3_x4.safetensors"), small)
    noisy = crops + 25 / 255 * torch.randn(crops.shape, generator=generator)
    dncnn = run_dncnn(load("denoise_dncnn_gray25.safetensors"), noisy)
    return torch.stack([imdn, srgan, compact, dncnn, (imdn + srgan) / 2], dim=1).clamp(0, 1)

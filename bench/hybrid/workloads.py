"""The four workloads as lossmith formulas, and the images on which they run."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from lossmith import L1, VGG, Gram, Hybrid, lpips, perceptual, style
from lossmith.data.sample_images import list_sample_images
from lossmith.formula.cost import unify_vgg

SHARED_LAYERS = ["conv3_3", "conv4_3"]
"""The layers of the first workload's perceptual and Gram terms."""

STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
CONTENT_LAYER = "relu4_2"
"""The layers of VGG-19 of Gatys et al."""

REAL_ESRGAN_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
"""Real-ESRGAN's layers of VGG-19 and their weights."""

AS_ASKED, SUGGESTED, OURS = "lossmith, as asked", "lossmith, on one VGG-16", "lossmith"


@dataclass(frozen=True)
class Workload:
    """A workload of the benchmark.

    Args:
        key: Its short name.
        title: Its title in the tables.
        batch: The number of images in a step.
        sides: The sides of the images in pixels.
        formulas: lossmith's formulas for it by name; the first computes exactly what BasicSR's classes compute.
    """

    key: str
    title: str
    batch: int
    sides: tuple[int, ...]
    formulas: dict[str, Hybrid]

    @property
    def recommended(self):
        """The name of the formula that users are advised to take."""
        return list(self.formulas)[-1]

    @property
    def input_names(self):
        return sorted(next(iter(self.formulas.values())).input_names)


def build_workloads(weights=None):
    """Return the workloads by key, with trained weights (None) or untrained ones ("random")."""
    as_asked, suggested = build_hybrid("vgg19", weights), build_hybrid("vgg16", weights)
    # the second is what `lossmith explain` suggests for the first
    assert weights or repr(suggested) == repr(Hybrid(unify_vgg(as_asked.terms)))
    workloads = (
        Workload(
            "hybrid",
            "L1 + perceptual (VGG-19 conv3_3, conv4_3) + Gram (the same) + LPIPS-VGG",
            2,
            (128, 192, 256, 512),
            {AS_ASKED: as_asked, SUGGESTED: suggested},
        ),
        Workload(
            "perceptual",
            "perceptual alone, Real-ESRGAN's five layers of VGG-19",
            2,
            (128, 256, 512),
            {OURS: perceptual("vgg19", REAL_ESRGAN_LAYERS, weights=weights)},
        ),
        Workload(
            "style",
            "style transfer, five style layers and one content layer of VGG-19",
            1,
            (512,),
            {
                OURS: perceptual("vgg19", CONTENT_LAYER, "l2", weights=weights).on(target="content")
                + style("vgg19", STYLE_LAYERS, weights=weights).on(target="style")
            },
        ),
        Workload("lpips", "LPIPS-VGG alone", 2, (128, 256, 512), {OURS: lpips("vgg", weights=weights)}),
    )
    return {workload.key: workload for workload in workloads}


def build_hybrid(net, weights):
    """Return the first workload's formula, with its perceptual and Gram terms on the given network."""
    return (
        L1()
        + perceptual(net, SHARED_LAYERS, weights=weights)
        + L1() @ Gram() @ VGG(net, SHARED_LAYERS, weights=weights)
        + lpips("vgg", weights=weights)
    )


def make_inputs(workload, side):
    """Return the workload's inputs: photographs, and as prediction the initial output of an upscaling network."""
    names = ("astronaut", "chelsea", "coffee", "rocket")
    target = torch.cat([read_photograph(name, side) for name in names[: workload.batch]])
    style_image = read_photograph("hubble_deep_field", side)
    inputs = {"pred": coarsen(target), "target": target, "content": target, "style": style_image}
    return {name: inputs[name] for name in workload.input_names}


def list_photographs():
    """Return the names of scikit-image's photographs that lossmith lists."""
    return [path.stem for group in list_sample_images() for path in group]


def read_photograph(name, side):
    """Return the central square of one of scikit-image's photographs, (1, 3, side, side)."""
    (path,) = (path for group in list_sample_images() for path in group if path.stem == name)
    image = Image.open(path).convert("RGB")
    shorter = min(image.size)
    left, top = ((length - shorter) // 2 for length in image.size)
    square = image.crop((left, top, left + shorter, top + shorter)).resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255


def coarsen(images, factor=4):
    """Return images that are downsampled and upsampled again by bicubic interpolation."""
    small = F.interpolate(images, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return F.interpolate(small, size=images.shape[2:], mode="bicubic").clamp(0, 1)


def blur(images, sigma=1.5):
    """Return images blurred by a Gaussian."""
    offsets = torch.arange(-4, 5) / sigma
    row = torch.exp(-offsets.square() / 2)
    kernel = (row[:, None] * row / row.sum() ** 2).expand(3, 1, 9, 9)
    return F.conv2d(F.pad(images, (4, 4, 4, 4), "reflect"), kernel, groups=3).clamp(0, 1)

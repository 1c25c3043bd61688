"""The four loads, as lossmith writes them, and the pictures that they are run on."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from lossmith import L1, VGG, Gram, Hybrid, lpips, perceptual, style
from lossmith.data.sample_images import list_sample_images
from lossmith.formula.cost import unify_vgg

SHARED = ["conv3_3", "conv4_3"]
"""The layers of the first load's perceptual and Gram terms."""

STYLE = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
CONTENT = "relu4_2"
"""Gatys's layers of VGG-19."""

REAL_ESRGAN = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
"""Its layers of VGG-19 and their weights."""

AS_ASKED, SUGGESTED, OURS = "lossmith, as asked", "lossmith, on one VGG-16", "lossmith"


@dataclass(frozen=True)
class Load:
    """One of the four.

    Args:
        key: Its short name.
        title: What it is, for people.
        batch: Pictures in a step.
        sides: The pictures' sides in pixels.
        ours: lossmith's forms of it by name; the first computes exactly what BasicSR's classes do.
    """

    key: str
    title: str
    batch: int
    sides: tuple[int, ...]
    ours: dict[str, Hybrid]

    @property
    def best(self):
        """The form that a user is advised to take."""
        return list(self.ours)[-1]

    @property
    def input_names(self):
        return sorted(next(iter(self.ours.values())).input_names)


def loads(weights=None):
    """The loads by key, with real weights (None) or untrained ones ("random")."""
    asked, suggested = hybrid("vgg19", weights), hybrid("vgg16", weights)
    assert weights or repr(suggested) == repr(Hybrid(unify_vgg(asked.terms)))  # it is what `lossmith explain` suggests
    every = (
        Load(
            "hybrid",
            "L1 + perceptual (VGG-19 conv3_3, conv4_3) + Gram (the same) + LPIPS-VGG",
            2,
            (128, 192, 256, 512),
            {AS_ASKED: asked, SUGGESTED: suggested},
        ),
        Load(
            "perceptual",
            "perceptual alone, Real-ESRGAN's five layers of VGG-19",
            2,
            (128, 256, 512),
            {OURS: perceptual("vgg19", REAL_ESRGAN, weights=weights)},
        ),
        Load(
            "style",
            "style transfer, five style layers and one content layer of VGG-19",
            1,
            (512,),
            {
                OURS: perceptual("vgg19", CONTENT, "l2", weights=weights).on(target="content")
                + style("vgg19", STYLE, weights=weights).on(target="style")
            },
        ),
        Load("lpips", "LPIPS-VGG alone", 2, (128, 256, 512), {OURS: lpips("vgg", weights=weights)}),
    )
    return {load.key: load for load in every}


def hybrid(net, weights):
    """The first load, its perceptual and Gram terms on a network."""
    return (
        L1()
        + perceptual(net, SHARED, weights=weights)
        + L1() @ Gram() @ VGG(net, SHARED, weights=weights)
        + lpips("vgg", weights=weights)
    )


def views(load, side):
    """What the load reads: photographs, and a prediction as an up-scaler begins with it."""
    names = ("astronaut", "chelsea", "coffee", "rocket")
    truth = torch.cat([photograph(name, side) for name in names[: load.batch]])
    given = {"pred": coarse(truth), "target": truth, "content": truth, "style": photograph("hubble_deep_field", side)}
    return {name: given[name] for name in load.input_names}


def photographs():
    """The names of all of scikit-image's pictures that lossmith knows."""
    return [path.stem for group in list_sample_images() for path in group]


def photograph(name, side):
    """The middle square of one of scikit-image's pictures, (1, 3, side, side)."""
    (path,) = (path for group in list_sample_images() for path in group if path.stem == name)
    picture = Image.open(path).convert("RGB")
    short = min(picture.size)
    left, top = ((length - short) // 2 for length in picture.size)
    square = picture.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255


def coarse(truth, factor=4):
    """Pictures made small and large again."""
    small = F.interpolate(truth, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return F.interpolate(small, size=truth.shape[2:], mode="bicubic").clamp(0, 1)


def blurred(truth, sigma=1.5):
    """Pictures out of focus."""
    reach = torch.arange(-4, 5) / sigma
    row = torch.exp(-reach.square() / 2)
    kernel = (row[:, None] * row / row.sum() ** 2).expand(3, 1, 9, 9)
    return F.conv2d(F.pad(truth, (4, 4, 4, 4), "reflect"), kernel, groups=3).clamp(0, 1)

"""docs/scales.md, line by line: the weights of other libraries in lossmith, by value and gradient."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith import VGG, Adversarial, Charbonnier, parse

PAGE = Path(__file__).parents[2] / "docs/scales.md"
VGG_LAYERS = {"conv2_2": 0.1, "conv3_4": 1.0}
DISCRIMINATOR = Adversarial("patch", width=2).discriminator  # the initial one of every Adversarial of this width


@dataclass(frozen=True)
class Row:
    """One line of the page.

    Args:
        library: The module of the other library; None if its formula is copied here.
        call: The other library's loss, as on the page.
        ours: The formula of lossmith, as on the page.
        theirs: A function from the library and two images to a scalar.
        tested: The formula that is tested instead, on smaller networks and discriminators.
        side: The side of the images.
        channels: The number of image channels.
    """

    library: str | None
    call: str
    ours: str
    theirs: Callable[..., Tensor]
    tested: str | None = None
    side: int = 32
    channels: int = 3


def compute_features(image: Tensor) -> dict[str, Tensor]:
    return VGG("vgg19", VGG_LAYERS, weights="random")({"pixels": image})


def basicsr_features(x: Tensor, y: Tensor, criterion: Callable[[Tensor, Tensor], Tensor], gram: bool) -> Tensor:
    """Compute BasicSR's PerceptualLoss on an untrained network."""

    def matrix(f: Tensor) -> Tensor:
        n, c, h, w = f.shape
        flat = f.view(n, c, w * h)
        return flat.bmm(flat.transpose(1, 2)) / (c * h * w) if gram else f

    a, b = compute_features(x), compute_features(y)
    return sum((w * criterion(matrix(a[k]), matrix(b[k])) for k, w in VGG_LAYERS.items()), torch.zeros(()))


def basicsr_gan(x: Tensor, y: Tensor, kind: str) -> Tensor:
    """Compute BasicSR's GANLoss as its models call it for the generator."""
    fake = DISCRIMINATOR(x)
    ones = torch.ones_like(fake)
    if kind == "relativistic":
        real = DISCRIMINATOR(y).detach()
        first = F.binary_cross_entropy_with_logits(real - fake.mean(), 0 * ones)
        return (first + F.binary_cross_entropy_with_logits(fake - real.mean(), ones)) / 2
    if kind == "hinge":
        return -fake.mean()
    return (F.mse_loss if kind == "lsgan" else F.binary_cross_entropy_with_logits)(fake, ones)


def basicsr_tv(x: Tensor) -> Tensor:
    return F.l1_loss(x[..., :-1], x[..., 1:]) + F.l1_loss(x[..., :-1, :], x[..., 1:, :])


def mmagic_tv(x: Tensor) -> Tensor:
    padded = F.pad(x, (0, 1, 0, 1), "replicate")
    corner = padded[..., :-1, :-1]
    return ((padded[..., :-1, 1:] - corner) ** 2 + (padded[..., 1:, :-1] - corner) ** 2).mean([1, 2, 3]).mean()


def patch_formula(kind: str) -> str:
    return f'Adversarial("patch", "{kind}", width=2)' if kind != "vanilla" else 'Adversarial("patch", width=2)'


PERCEPTUAL = "perceptual('vgg19', {'conv2_2': 0.1, 'conv3_4': 1}, weights='random')"
FEATURES = "VGG('vgg19', {'conv2_2': 0.1, 'conv3_4': 1}, weights='random')"

ROWS = [
    Row(None, "BasicSR `L1Loss`, `MSELoss`", "L1(), L2()", lambda x, y: F.l1_loss(x, y) + F.mse_loss(x, y), "L1 + L2"),
    Row(None, "BasicSR, mmagic `CharbonnierLoss(eps=1e-12)`", "Charbonnier(1e-6)",
        lambda x, y: torch.sqrt((x - y) ** 2 + 1e-12).mean()),
    Row(None, "BasicSR `WeightedTVLoss`", "TV()", lambda x, _: basicsr_tv(x)),
    Row(None, "BasicSR, mmagic `PerceptualLoss(layers)`", 'perceptual("vgg19", layers)',
        lambda x, y: basicsr_features(x, y, F.l1_loss, False), PERCEPTUAL),
    Row(None, "the same with `criterion='l2'`", 'perceptual("vgg19", layers, "l2")',
        lambda x, y: basicsr_features(x, y, F.mse_loss, False), f"L2 @ {FEATURES}"),
    Row(None, "its style with `criterion='l1'`", 'L1() @ Gram() @ VGG("vgg19", layers)',
        lambda x, y: basicsr_features(x, y, F.l1_loss, True), f"L1 @ Gram @ {FEATURES}"),
    Row(None, "its style with `criterion='l2'`", 'style("vgg19", layers)',
        lambda x, y: basicsr_features(x, y, F.mse_loss, True), f"L2 @ Gram @ {FEATURES}"),
    Row(None, "BasicSR `GANLoss('vanilla')`", 'Adversarial("patch")', lambda x, y: basicsr_gan(x, y, "vanilla"),
        patch_formula("vanilla")),
    Row(None, "BasicSR `GANLoss('lsgan')`", '2 * Adversarial("patch", "lsgan")',
        lambda x, y: basicsr_gan(x, y, "lsgan"), f"2 * {patch_formula('lsgan')}"),
    Row(None, "BasicSR `GANLoss('hinge')`, `'wgan'`", 'Adversarial("patch", "hinge")',
        lambda x, y: basicsr_gan(x, y, "hinge"), patch_formula("hinge")),
    Row(None, "BasicSR `ESRGANModel`'s `GANLoss('vanilla')`", '0.5 * Adversarial("patch", "relativistic")',
        lambda x, y: basicsr_gan(x, y, "relativistic"), f"0.5 * {patch_formula('relativistic')}"),
    Row(None, "mmagic `tv_loss`, for square images of side H", "(1 - 1/H) * TV(squared=True)",
        lambda x, _: mmagic_tv(x), "0.96875 * TV(squared=True)"),
    Row("piq", "`TVLoss('l1')`", 'TV(per="image")', lambda q, x, _: q.TVLoss("l1")(x)),
    Row("piq", "`TVLoss('l2_squared')`", 'TV(squared=True, per="image")', lambda q, x, _: q.TVLoss("l2_squared")(x)),
    Row("piq", "`SSIMLoss(downsample=False)`", "SSIM()", lambda q, x, y: q.SSIMLoss(downsample=False)(x, y)),
    Row("piq", "`1 - multi_scale_ssim()`, sides that halve evenly", "MSSSIM()",
        lambda q, x, y: 1 - q.multi_scale_ssim(x, y), side=176),
    Row("torchmetrics.functional.image", "`total_variation(reduction='mean')`", 'TV(per="image")',
        lambda q, x, _: q.total_variation(x, reduction="mean")),
    Row("pytorch_msssim", "`1 - ssim(data_range=1)`", "SSIM()", lambda q, x, y: 1 - q.ssim(x, y, data_range=1.0)),
    Row("pytorch_msssim", "`1 - ssim(data_range=2)`, images in [-1, 1]", "SSIM()",
        lambda q, x, y: 1 - q.ssim(2 * x, 2 * y, data_range=2.0)),
    Row("kornia.losses", "`SSIMLoss(11, padding='valid')`", "0.5 * SSIM()",
        lambda q, x, y: q.SSIMLoss(11, padding="valid")(x, y)),
    Row("kornia.losses", "`total_variation(x, 'mean').mean()`", "TV()",
        lambda q, x, _: q.total_variation(x, "mean").mean()),
    Row("kornia.losses", "`total_variation(x).mean()`, of RGB", '1/3 * TV(per="image")',
        lambda q, x, _: q.total_variation(x).mean()),
    Row("kornia.losses", "`inverse_depth_smoothness_loss(d, image)`", "EdgeAwareTV(k=1.0)",
        lambda q, x, y: q.inverse_depth_smoothness_loss(x, y)),
    Row("monai.losses", "`SSIMLoss(2)`", "SSIM()", lambda q, x, y: q.SSIMLoss(2)(x, y)),
    Row("monai.losses", "`JukeboxLoss(2)`, for grey images", 'L2() @ Fourier("amplitude")',
        lambda q, x, y: q.JukeboxLoss(2)(x, y), channels=1),
    Row("monai.losses", "`PatchAdversarialLoss(criterion='bce')`", 'Adversarial("patch")',
        lambda q, x, _: q.PatchAdversarialLoss(criterion="bce")(DISCRIMINATOR(x), True, False),
        patch_formula("vanilla")),
    Row("monai.losses", "`PatchAdversarialLoss(no_activation_leastsq=True)`", '2 * Adversarial("patch", "lsgan")',
        lambda q, x, _: q.PatchAdversarialLoss(no_activation_leastsq=True)(DISCRIMINATOR(x), True, False),
        f"2 * {patch_formula('lsgan')}"),
    Row(None, "`L1Loss` on images in [-1, 1]; 0..255", "2 * L1(); 255 * L1()",
        lambda x, y: F.l1_loss(2 * x - 1, 2 * y - 1) + F.l1_loss(255 * x, 255 * y), "257 * L1()"),
    Row(None, "`MSELoss` on images in [-1, 1]; 0..255", "4 * L2(); 65025 * L2()",
        lambda x, y: F.mse_loss(2 * x - 1, 2 * y - 1) + F.mse_loss(255 * x, 255 * y), "65029 * L2()"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.library or 'formula'} {row.call}")
@pytest.mark.filterwarnings("default")  # the libraries' own, at their import
def test_value_and_gradient_agree(row, image_pair, assert_parity):
    library = [pytest.importorskip(row.library)] if row.library else []
    x, y = image_pair(side=row.side, channels=row.channels, dtype=torch.float64)
    ours = parse(row.tested or row.ours)
    assert_parity(lambda x, y: ours(**{n: {"pred": x, "target": y}[n] for n in ours.input_names}),
          lambda x, y: row.theirs(*library, x, y), x, y)  # fmt: skip


def table_rows() -> list[list[str]]:
    """Return the cells of the page's first table."""
    table = PAGE.read_text().split("## Equivalent")[1].split("## ")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row] for row in cells]


def test_the_page_lists_exactly_the_tested_rows():
    assert [(theirs, ours.strip("`")) for theirs, ours, _ in table_rows()] == [
        (f"{LIBRARY[row.library]}{row.call}", row.ours) for row in ROWS
    ]
    assert [how for *_, how in table_rows()] == ["library" if row.library else "formula" for row in ROWS]


LIBRARY = {
    None: "",
    "piq": "piq ",
    "torchmetrics.functional.image": "torchmetrics ",
    "pytorch_msssim": "pytorch-msssim ",
    "kornia.losses": "kornia ",
    "monai.losses": "MONAI ",
}


def test_kornias_charbonnier_is_ours_with_eps_one_minus_one(image_pair):
    kornia = pytest.importorskip("kornia.losses")
    x, y = image_pair(dtype=torch.float64)
    torch.testing.assert_close(kornia.charbonnier_loss(x, y, "mean"), Charbonnier(1.0)(x, y) - 1)

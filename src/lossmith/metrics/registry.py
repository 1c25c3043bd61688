"""The metrics of restored images by name.

To add a metric, write a function ``(pred, target) -> (N,)`` in a file of its own and add one :class:`Metric` to
:data:`METRICS`. The commands, validations, studies and reports take its direction, unit and needs from there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from lossmith.metrics.artefacts import colour_shift, grid_strength
from lossmith.metrics.hdr import psnr_mu, psnr_pu
from lossmith.metrics.image_metrics import ms_ssim, psnr, ssim, texture_ratio
from lossmith.metrics.metric_info import MetricInfo
from lossmith.metrics.network_metrics import dists, lpips
from lossmith.metrics.sliced_wasserstein import swd
from lossmith.metrics.spectral import ergas, sam

__all__ = ["ARTEFACT_METRICS", "DEFAULT_METRICS", "METRICS", "Metric", "default_metrics", "parse_metrics"]


@dataclass(frozen=True, kw_only=True)
class Metric(MetricInfo):
    """A metric of a restored image and its target: how to compute it, and what it needs.

    Args:
        compute: Returns the values (N,) of images (N, C, H, W) in [0, 1] and their targets.
        description: The description that is stored with the values. Results are comparable only if it is equal.
        loss: The key of :func:`lossmith.metrics.network_metrics.network_loss`, for a metric with pretrained weights.
        needs_rgb: Whether the images must have three channels.
        min_channels: The least number of channels of the images.
        min_side: The least side in pixels of an image without its border.
        is_periodic: Whether `compute` takes the period of a pattern in pixels, which is the scale of an upscaler.
    """

    compute: Callable[..., Tensor]
    description: str
    loss: str = ""
    needs_rgb: bool = False
    min_channels: int = 1
    min_side: int = 11
    is_periodic: bool = False


GRID_DESCRIPTION = "strength of a pattern that repeats every {period} px, in grey levels of 255, in blocks of 32 px"

METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric(
            key="psnr_y",
            name="PSNR-Y",
            unit="dB",
            digits=2,
            ideal=None,
            is_headline=True,
            compute=partial(psnr, luma=True),
            description="PSNR in dB on Y of BT.601 (16..235)",
            needs_rgb=True,
        ),
        Metric(
            key="psnr_rgb",
            name="PSNR-RGB",
            unit="dB",
            digits=2,
            ideal=None,
            compute=psnr,
            description="PSNR in dB on RGB",
        ),
        Metric(
            key="ssim_y",
            name="SSIM",
            unit="",
            digits=4,
            ideal=None,
            compute=partial(ssim, luma=True),
            description="SSIM (Wang, 11 px Gaussian window, valid) on Y of BT.601",
            needs_rgb=True,
        ),
        Metric(
            key="ms_ssim_y",
            name="MS-SSIM",
            unit="",
            digits=4,
            ideal=None,
            compute=partial(ms_ssim, luma=True),
            description="MS-SSIM (Wang, five scales, 11 px Gaussian window, valid) on Y of BT.601",
            needs_rgb=True,
            min_side=176,
        ),
        Metric(
            key="psnr_mu",
            name="PSNR-μ",
            unit="dB",
            digits=2,
            ideal=None,
            compute=psnr_mu,
            description="PSNR in dB after the mu-law (5000) of linear values in 0..1",
        ),
        Metric(
            key="psnr_pu",
            name="PSNR-PU",
            unit="dB",
            digits=2,
            ideal=None,
            compute=psnr_pu,
            description="PSNR in dB in PU21 (banding and glare, peak 256), with 1000 cd/m2 for the largest value",
        ),
        Metric(
            key="sam",
            name="SAM",
            unit="°",
            digits=2,
            ideal=0.0,
            compute=partial(sam, degrees=True),
            description="mean spectral angle in degrees; lower is better",
            min_channels=2,
        ),
        Metric(
            key="ergas",
            name="ERGAS",
            unit="",
            digits=3,
            ideal=0.0,
            compute=ergas,
            description="ERGAS with a ratio of 1, to be divided by the scale factor; lower is better",
        ),
        Metric(
            key="lpips_alex",
            name="LPIPS",
            unit="",
            digits=3,
            ideal=0.0,
            network="alex",
            is_headline=True,
            kind="perceptual",
            compute=lpips,
            description="LPIPS 0.1, AlexNet; lower is better",
            loss="lpips_alex",
            needs_rgb=True,
        ),
        Metric(
            key="lpips_vgg",
            name="LPIPS-VGG",
            unit="",
            digits=3,
            ideal=0.0,
            network="vgg16",
            kind="perceptual",
            compute=partial(lpips, net="vgg"),
            description="LPIPS 0.1, VGG-16; lower is better",
            loss="lpips_vgg",
            needs_rgb=True,
        ),
        Metric(
            key="dists",
            name="DISTS",
            unit="",
            digits=3,
            ideal=0.0,
            network="vgg16",
            kind="perceptual",
            compute=dists,
            description="DISTS, VGG-16; lower is better",
            loss="dists",
            needs_rgb=True,
        ),
        Metric(
            key="swd",
            name="Patch distance",
            unit="",
            digits=3,
            ideal=0.0,
            kind="perceptual",
            compute=swd,
            description=(
                "sliced Wasserstein distance of 7 px patches, two finest Laplacian levels, in grey levels; lower is "
                "better"
            ),
            min_side=14,
        ),
        Metric(
            key="texture",
            name="Texture",
            unit="",
            digits=3,
            ideal=1.0,
            kind="perceptual",
            compute=texture_ratio,
            description="energy of detail finer than about 6 px, relative to the truth's; 1 is right",
        ),
        Metric(
            key="grid",
            name="Grid",
            unit="",
            digits=2,
            ideal=0.0,
            compute=grid_strength,
            description=GRID_DESCRIPTION,
            min_side=32,
            is_periodic=True,
        ),
        Metric(
            key="grid_p90",
            name="Grid, worst tenth",
            unit="",
            digits=2,
            ideal=0.0,
            compute=partial(grid_strength, quantile=0.9),
            description=f"{GRID_DESCRIPTION}, ninetieth percentile of the blocks",
            min_side=32,
            is_periodic=True,
        ),
        Metric(
            key="colour",
            name="Colour shift",
            unit="",
            digits=2,
            ideal=0.0,
            compute=colour_shift,
            description="distance of the mean colours in CIELAB; lower is better",
            needs_rgb=True,
        ),
    )
}
"""All metrics by name, accuracy before perceptual quality."""

DEFAULT_METRICS: tuple[str, ...] = ("psnr_y", "psnr_rgb", "ssim_y", "lpips_alex", "texture")
"""The metrics that validations and ``lossmith evaluate`` compute by default; the others take longer."""

ARTEFACT_METRICS: tuple[str, ...] = ("grid", "grid_p90", "colour")
"""The metrics of artefacts of upscalers, which are computed by default too."""


def default_metrics(scale: int) -> tuple[str, ...]:
    """Return the default metrics of a network with an upscaling factor.

    Example:
        >>> default_metrics(1) == DEFAULT_METRICS, default_metrics(4)[-3:]
        (True, ('grid', 'grid_p90', 'colour'))
    """
    return DEFAULT_METRICS if scale == 1 else DEFAULT_METRICS + ARTEFACT_METRICS


def parse_metrics(texts: str | Iterable[str]) -> list[str]:
    """Return the metrics of comma-separated lists, each once.

    Args:
        texts: One list or several, such as ``"psnr_y,dists"``.

    Raises:
        ValueError: A metric is unknown; the message lists the known ones.

    Example:
        >>> parse_metrics(["psnr_y, dists", "swd,dists"])
        ['psnr_y', 'dists', 'swd']
    """
    texts = [texts] if isinstance(texts, str) else texts
    names = list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
    for name in names:
        if name not in METRICS:
            raise ValueError(f"There is no metric {name!r}; the metrics are {', '.join(METRICS)}.")
    return names

"""Published figures of other networks, and whether ours were judged as they were.

All are of four-fold enlargement of what MATLAB's bicubic interpolation made smaller, with a border of 4 px left out;
PSNR on Y. A PSNR under another protocol is another quantity: RRDB has 32.7 dB on Set5 on Y, and 30.6 dB on RGB.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lossmith.metrics import MetricName
from lossmith.metrics import describe_protocol as how
from lossmith.train import Settings

__all__ = ["PublishedResult", "find_published_results"]

SPSR = "Structure-Preserving Super Resolution with Gradient Guidance (Ma et al., 2020), tables of the authors' code"
SETS = {"set5": 5, "set14": 14, "bsd100": 100, "b100": 100, "urban100": 100}
NEAR: dict[MetricName, float] = {"psnr_y": 0.1, "lpips_alex": 0.01}
"""How far our bicubic may be from the published one: another resizing, crop or network shows here first."""


class PublishedResult(NamedTuple):
    """A published network, and its figures."""

    name: str
    figures: Mapping[str, float]
    source: str


def table(rows: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, dict[str, tuple[float, float]]]:
    """The same by test set."""
    sets = ("set5", "set14", "bsd100", "urban100")
    return {name: {row: values[i] for row, values in rows.items()} for i, name in enumerate(sets)}


PUBLISHED = table(
    {  # PSNR-Y in dB, LPIPS with AlexNet
        "bicubic": [(28.420, 0.3407), (26.100, 0.4393), (25.961, 0.5249), (23.145, 0.4726)],
        "SFTGAN": [(29.932, 0.0890), (26.223, 0.1481), (25.505, 0.1769), (24.013, 0.1433)],
        "SRGAN": [(29.168, 0.0882), (26.171, 0.1663), (25.459, 0.1980), (24.397, 0.1551)],
        "ESRGAN": [(30.454, 0.0748), (26.276, 0.1329), (25.317, 0.1614), (24.360, 0.1229)],
        "NatSR": [(30.991, 0.0939), (27.514, 0.1758), (26.445, 0.2114), (25.465, 0.1500)],
        "SPSR": [(30.400, 0.0644), (26.640, 0.1318), (25.505, 0.1611), (24.799, 0.1184)],
    }
)


def find_published_results(
    settings: Settings, val: str, count: int, protocol: Mapping[str, str], bicubic: Mapping[str, float]
) -> tuple[list[PublishedResult], str]:
    """The published figures that may be drawn beside others, and else why there are none.

    Args:
        settings: How the networks that were judged are trained, of which the task counts here.
        val: The folder of pictures that they were judged on.
        count: How many of them were used.
        protocol: What they were judged by: each figure in words, see :func:`lossmith.metrics.protocol`.
        bicubic: The figures of bicubic enlargement as they were measured here.

    Example:
        >>> measured = {"psnr_y": 28.43, "lpips_alex": 0.3435}
        >>> settings, words = Settings(images="photos/", loss="L1", steps=1), how(4, list(NEAR))
        >>> found, _ = anchors(settings, "data/Set5/HR", 5, words, measured)
        >>> [anchor.name for anchor in found]
        ['SFTGAN', 'SRGAN', 'ESRGAN', 'NatSR', 'SPSR']
        >>> anchors(settings, "holiday/", 5, words, measured)[1]
        'Published figures are of set5, set14, bsd100, urban100; these pictures are others.'
    """
    if settings.task != "super-resolution" or settings.options:
        return [], "Published figures are of enlargement from bicubic interpolation; this is another task."
    parts = [part.lower() for part in Path(val).parts[-2:]]
    name = next((part for part in reversed(parts) if part in SETS), None)
    if name is None:
        return [], f"Published figures are of {', '.join(PUBLISHED)}; these pictures are others."
    if count != SETS[name]:
        return [], f"Published figures are of all {SETS[name]} pictures of {name}; {count} were used."
    if settings.scale != 4 or not NEAR.keys() <= protocol.keys():
        return [], f"Published figures are of enlargement by 4, judged by {' and '.join(NEAR)}."
    for axis, words in how(4, list(NEAR)).items():
        if protocol[axis] != words:
            return [], f"Published figures are of {axis} as {words}; here it is {protocol[axis]}."
    rows = PUBLISHED["bsd100" if name == "b100" else name]
    for axis, published in zip(NEAR, rows["bicubic"], strict=True):
        if not abs(bicubic[axis] - published) <= NEAR[axis]:
            return [], (
                f"Published figures were taken otherwise: bicubic has {axis} {published:.4g} there and "
                f"{bicubic[axis]:.4g} here."
            )
    return [
        PublishedResult(row, dict(zip(NEAR, values, strict=True)), SPSR) for row, values in rows.items() if row != "bicubic"
    ], ""

"""Published results of other networks, and checks that they are comparable with results measured here.

All results are for 4x super-resolution from images downsampled by MATLAB's bicubic interpolation, without a border of
4 px, and with PSNR on Y. PSNR under another protocol is another quantity: RRDB has 32.7 dB on Set5 on Y, and 30.6 dB on
RGB.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lossmith.metrics import describe_protocol
from lossmith.train import Settings

__all__ = ["PublishedResult", "find_published_results"]

SPSR = "Structure-Preserving Super Resolution with Gradient Guidance (Ma et al., 2020), tables of the authors' code"
SETS = {"set5": 5, "set14": 14, "bsd100": 100, "b100": 100, "urban100": 100}
"""The names of test sets in paths, and the number of their images."""
TOLERANCES: dict[str, float] = {"psnr_y": 0.1, "lpips_alex": 0.01}
"""The published metrics, and how far bicubic interpolation here may be from the published values.

A larger difference means another downsampling, crop or network of the metric.
"""


class PublishedResult(NamedTuple):
    """The metrics of a published network, and their source."""

    name: str
    metrics: Mapping[str, float]
    source: str


def _by_test_set(rows: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, dict[str, tuple[float, float]]]:
    sets = ("set5", "set14", "bsd100", "urban100")
    return {name: {row: values[i] for row, values in rows.items()} for i, name in enumerate(sets)}


PUBLISHED = _by_test_set(
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
    """Return the published results that are comparable with results measured here, or the reason why none is.

    Args:
        settings: The settings of the training, of which the task counts.
        val: The folder of validation images.
        count: The number of validation images.
        protocol: The description of each metric; see :func:`lossmith.metrics.describe_protocol`.
        bicubic: The metrics of bicubic interpolation measured here.

    Returns:
        The results and "", or an empty list and the reason.

    Example:
        >>> measured = {"psnr_y": 28.43, "lpips_alex": 0.3435}
        >>> settings, protocol = Settings(images="photos/", loss="L1", steps=1), describe_protocol(4, list(TOLERANCES))
        >>> results, _ = find_published_results(settings, "data/Set5/HR", 5, protocol, measured)
        >>> [result.name for result in results]
        ['SFTGAN', 'SRGAN', 'ESRGAN', 'NatSR', 'SPSR']
        >>> find_published_results(settings, "holiday/", 5, protocol, measured)[1]
        'Published results exist for set5, set14, bsd100, urban100; these are other images.'
    """
    if settings.task != "super-resolution" or settings.options:
        return [], "Published results exist for super-resolution of bicubic downsampling; this is another task."
    parts = [part.lower() for part in Path(val).parts[-2:]]
    name = next((part for part in reversed(parts) if part in SETS), None)
    if name is None:
        return [], f"Published results exist for {', '.join(PUBLISHED)}; these are other images."
    if count != SETS[name]:
        return [], f"Published results are means over all {SETS[name]} images of {name}; {count} were used."
    if settings.scale != 4 or not TOLERANCES.keys() <= protocol.keys():
        return [], f"Published results exist for scale 4 and the metrics {' and '.join(TOLERANCES)}."
    for metric, description in describe_protocol(4, list(TOLERANCES)).items():
        if protocol[metric] != description:
            return [], f"Published results have {metric} as {description}; here it is {protocol[metric]}."
    rows = PUBLISHED["bsd100" if name == "b100" else name]
    for metric, published in zip(TOLERANCES, rows["bicubic"], strict=True):
        if not abs(bicubic[metric] - published) <= TOLERANCES[metric]:
            return [], (
                f"Published results were measured differently: bicubic interpolation has {metric} {published:.4g} "
                f"there and {bicubic[metric]:.4g} here."
            )
    return [
        PublishedResult(row, dict(zip(TOLERANCES, values, strict=True)), SPSR)
        for row, values in rows.items()
        if row != "bicubic"
    ], ""

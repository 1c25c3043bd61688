"""Wavelet transforms: the bands of an image, one per scale and direction."""

from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice, check_integer
from lossmith._repr import repr_of
from lossmith.lens import Lens, Maps, get_single_map

__all__ = ["Wavelet"]

Name = Literal["haar", "db2", "db4", "sym4"]

SCALING_FILTERS: dict[str, tuple[float, ...]] = {
    "haar": (0.7071067811865476, 0.7071067811865476),
    "db2": (0.48296291314453416, 0.8365163037378079, 0.2241438680420134, -0.12940952255126037),
    "db4": (
        *(0.2303778133088965, 0.7148465705529157, 0.6308807679298589, -0.027983769416859854),
        *(-0.18703481171909309, 0.030841381835560764, 0.0328830116668852, -0.010597401785069032),
    ),
    "sym4": (
        *(0.0322231006040427, -0.012603967262037833, -0.09921954357684722, 0.29785779560527736),
        *(0.8037387518059161, 0.49761866763201545, -0.02963552764599851, -0.07576571478927333),
    ),
}
"""Daubechies's orthonormal scaling filters (Ten Lectures on Wavelets, tables 6.1 and 6.3)."""


@final
class Wavelet(Lens):
    r"""The bands of an orthonormal wavelet transform, one map per band.

    .. math:: x \mapsto \{LL, LH_1, HL_1, HH_1, \dots, LH_L, HL_L, HH_L\}

    Level 1 is the finest, and LL is the low-pass band after L levels. The first letter is the filter along rows, the
    second that along columns: LH contains the horizontal edges, HL the vertical ones (PyWavelets's cH and cV). Values
    are those of ``pywt.wavedec2`` with mode "symmetric": the image is mirrored at its border, which then is no edge,
    and any size is supported; a filter of K taps maps N values to :math:`\lfloor (N + K - 1) / 2 \rfloor`. The
    filters preserve the energy, so that LL is :math:`2^L` times a local mean.

    A distance is averaged over each band and summed over the bands. For bands with different weights, use one term per
    band, see :func:`wavelet_l1`.

    References:
        | A theory for multiresolution signal decomposition: the wavelet representation (Mallat, 1989)
        | https://doi.org/10.1109/34.192463

    Args:
        name: "haar", "db2", "db4" or "sym4".
        levels: The number of levels, at least 1.
        bands: The names of the bands to return, such as ["LH1", "HL1"]; None for all.

    Returns:
        One map (N, C, h, w) per band.

    Raises:
        ValueError: An unknown wavelet or band, or no level; at the call, more than one map.

    Example:
        >>> maps = Wavelet("haar")({"pixels": torch.ones(1, 3, 4, 6)})
        >>> {name: tuple(band.shape) for name, band in maps.items()}
        {'LL': (1, 3, 2, 3), 'LH1': (1, 3, 2, 3), 'HL1': (1, 3, 2, 3), 'HH1': (1, 3, 2, 3)}
    """

    term_label = "wavelet"
    citation_keys = ("mallat1989",)

    is_linear = True

    def __init__(self, name: Name = "haar", levels: int = 1, *, bands: Sequence[str] | None = None) -> None:
        super().__init__()
        self.name: Name = check_choice("Wavelet name", name, Name)
        self.levels = check_integer("Wavelet levels", levels, low=1)
        known = ["LL", *(f"{band}{level}" for level in range(1, levels + 1) for band in ("LH", "HL", "HH"))]
        if isinstance(bands, Mapping):
            raise ValueError("Wavelet bands must be names without weights; use wavelet_l1 for weighted bands.")
        if isinstance(bands, str):
            bands = [bands]
        for band in bands or ():
            if band not in known:
                raise ValueError(f"Wavelet with levels={levels} has the bands {', '.join(known)}; got {band!r}.")
        if bands is not None and not bands:
            raise ValueError(f"Wavelet bands must contain at least one of {', '.join(known)}; got none.")
        self.bands = known if bands is None else [band for band in known if band in bands]
        self.has_all_bands = self.bands == known

    def forward(self, maps: Maps) -> Maps:
        """Return the bands of the only map, (N, C, H, W)."""
        low = get_single_map(self, maps)
        scaling_filter = SCALING_FILTERS[self.name]
        found = {}
        for level in range(1, self.levels + 1):
            low, found[f"LH{level}"], found[f"HL{level}"], found[f"HH{level}"] = decompose(low, scaling_filter)
        found["LL"] = low
        return {band: found[band] for band in self.bands}

    def __repr__(self) -> str:
        levels = [] if self.levels == 1 else [self.levels]
        return repr_of(self, self.name, *levels, bands=None if self.has_all_bands else self.bands)


def decompose(image: Tensor, scaling_filter: Sequence[float]) -> tuple[Tensor, ...]:
    """Return the four bands LL, LH, HL, HH of a map (N, C, H, W), of half its size."""
    n, c, height, width = image.shape
    taps = len(scaling_filter)
    low = torch.stack([image.new_full((), tap) for tap in scaling_filter])  # copying a list to a GPU synchronises
    high = low.flip(0) * (1 - torch.arange(taps, device=image.device) % 2 * 2)
    kernels = torch.stack([torch.outer(down, along) for along in (low, high) for down in (low, high)])
    mirrored = image[..., get_mirror_indices(height, taps, image.device), :][
        ..., get_mirror_indices(width, taps, image.device)
    ]
    bands = F.conv2d(mirrored.reshape(n * c, 1, *mirrored.shape[-2:]), kernels[:, None], stride=2)
    return bands.view(n, c, *bands.shape[-3:]).unbind(dim=2)


def get_mirror_indices(side: int, taps: int, device: torch.device) -> Tensor:
    """Return the index of each sample of a mirrored side; a side shorter than the filter is mirrored repeatedly."""
    out = (side + taps - 1) // 2
    index = torch.arange(2 - taps, 2 * out, device=device) % (2 * side)
    return torch.minimum(index, 2 * side - 1 - index)

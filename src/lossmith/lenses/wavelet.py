"""Wavelets: the bands of a picture, each scale and direction by itself."""

from collections.abc import Mapping, Sequence
from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import format_literal, repr_of
from lossmith.lens import Lens, Maps, get_single_map

__all__ = ["Wavelet"]

Name = Literal["haar", "db2", "db4", "sym4"]

LOWS: dict[str, tuple[float, ...]] = {
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
    r"""The bands of an orthonormal wavelet transform, each a map of its own.

    .. math:: x \mapsto \{LL, LH_1, HL_1, HH_1, \dots, LH_L, HL_L, HH_L\}

    of which level 1 is the finest, and LL what is left after L halvings. The first letter is the filter along a row,
    the second down a column: LH has the horizontal edges, HL the vertical ones (PyWavelets's cH and cV). Values are
    those of ``pywt.wavedec2`` with mode "symmetric": the picture is mirrored at its border, which is no edge then, and
    any size will do; of N places a filter of K taps leaves :math:`\lfloor (N + K - 1) / 2 \rfloor`. The filters keep
    the energy, so that LL is :math:`2^L` times a local mean.

    A distance is averaged over each band and summed over the bands. Bands of different weights are different terms:
    see :func:`wavelet_l1`.

    References:
        | A theory for multiresolution signal decomposition: the wavelet representation (Mallat, 1989)
        | https://doi.org/10.1109/34.192463

    Args:
        name: "haar", "db2", "db4" or "sym4".
        levels: How often LL is taken apart again, at least once.
        bands: The names of those that are wanted, such as ["LH1", "HL1"]; all by default.

    Returns:
        A map (N, C, h, w) for each band.

    Raises:
        ValueError: An unknown wavelet or band, or no level; at the call, several maps.

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
        if name not in get_args(Name):
            raise ValueError(f"Wavelet knows {', '.join(map(format_literal, get_args(Name)))}; got {name!r}.")
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
            raise ValueError(f"Wavelet wants at least one level, a whole number; got {levels!r}.")
        there = ["LL", *(f"{band}{level}" for level in range(1, levels + 1) for band in ("LH", "HL", "HH"))]
        if isinstance(bands, Mapping):
            raise ValueError("Wavelet wants the names of its bands; wavelet_l1 gives them weights.")
        if isinstance(bands, str):
            bands = [bands]
        for band in bands or ():
            if band not in there:
                raise ValueError(f"Wavelet with levels={levels} has the bands {', '.join(there)}; got {band!r}.")
        if bands is not None and not bands:
            raise ValueError(f"Wavelet wants at least one band of {', '.join(there)}; got none.")
        self.name = name
        self.levels = levels
        self.bands = there if bands is None else [band for band in there if band in bands]
        self.whole = self.bands == there

    def forward(self, maps: Maps) -> Maps:
        """The bands of the one map that there is, (N, C, H, W)."""
        low = get_single_map(self, maps)
        found = {}
        for level in range(1, self.levels + 1):
            low, found[f"LH{level}"], found[f"HL{level}"], found[f"HH{level}"] = analysed(low, LOWS[self.name])
        found["LL"] = low
        return {band: found[band] for band in self.bands}

    def __repr__(self) -> str:
        levels = [] if self.levels == 1 else [self.levels]
        return repr_of(self, self.name, *levels, bands=None if self.whole else self.bands)


def analysed(image: Tensor, low: Sequence[float]) -> tuple[Tensor, ...]:
    """The four half-sized bands LL, LH, HL, HH of a map (N, C, H, W)."""
    n, c, height, width = image.shape
    taps = len(low)
    smooth = torch.stack([image.new_full((), tap) for tap in low])  # a list would be copied there, which waits
    rough = smooth.flip(0) * (1 - torch.arange(taps, device=image.device) % 2 * 2)
    kernels = torch.stack([torch.outer(down, along) for along in (smooth, rough) for down in (smooth, rough)])
    mirrored = image[..., get_mirror_indices(height, taps, image.device), :][
        ..., get_mirror_indices(width, taps, image.device)
    ]
    bands = F.conv2d(mirrored.reshape(n * c, 1, *mirrored.shape[-2:]), kernels[:, None], stride=2)
    return bands.view(n, c, *bands.shape[-3:]).unbind(dim=2)


def get_mirror_indices(side: int, taps: int, device: torch.device) -> Tensor:
    """Where each sample of a mirrored side lies in the side itself; mirrored as often as a tiny side needs."""
    out = (side + taps - 1) // 2
    place = torch.arange(2 - taps, 2 * out, device=device) % (2 * side)
    return torch.minimum(place, 2 * side - 1 - place)

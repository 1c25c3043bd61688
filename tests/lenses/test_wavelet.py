"""Wavelet bands: parity with PyWavelets at every size, and their names."""

import pytest
import torch

from lossmith.lenses.wavelet import SCALING_FILTERS, Wavelet

NAMES = list(SCALING_FILTERS)


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(16, 16), (15, 22), (9, 7), (2, 5), (1, 1)])
def test_the_bands_are_those_of_pywavelets(name, size):
    pywt = pytest.importorskip("pywt")
    image = noise(2, 3, *size)
    low, details = pywt.dwt2(image.numpy(), name, mode="symmetric")
    expected = dict(zip(("LL", "LH1", "HL1", "HH1"), (low, *details), strict=True))
    for band, actual in Wavelet(name)({"pixels": image}).items():
        torch.testing.assert_close(actual, torch.from_numpy(expected[band]), msg=band)


def test_the_levels_are_those_of_pywavelets_finest_first():
    pywt = pytest.importorskip("pywt")
    image = noise(1, 1, 45, 38)
    low, *coarse_to_fine = pywt.wavedec2(image.numpy(), "db2", mode="symmetric", level=3)
    expected = {"LL": low}
    for level, details in enumerate(reversed(coarse_to_fine), start=1):
        expected.update(zip((f"LH{level}", f"HL{level}", f"HH{level}"), details, strict=True))
    actual = Wavelet("db2", 3)({"pixels": image})
    assert list(actual) == list(expected)
    for band, map_ in actual.items():
        torch.testing.assert_close(map_, torch.from_numpy(expected[band]), msg=band)


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_is_orthonormal_to_its_even_shifts(name):
    low = torch.tensor(SCALING_FILTERS[name], dtype=torch.float64)
    for shift in range(0, len(low), 2):
        product = (low[shift:] * low[: len(low) - shift]).sum()
        torch.testing.assert_close(product, torch.tensor(float(shift == 0), dtype=torch.float64), rtol=0, atol=1e-10)


def test_haar_preserves_the_energy_of_an_image_with_even_sides():
    image = noise(1, 3, 8, 12)
    energy = sum(band.square().sum() for band in Wavelet("haar", 2)({"pixels": image}).values())
    torch.testing.assert_close(energy, image.square().sum())


def test_horizontal_stripes_are_in_lh_and_vertical_ones_in_hl():
    stripes = torch.tensor([0.0, 1.0]).repeat(4).view(1, 1, 8, 1).expand(1, 1, 8, 8)
    bands = Wavelet("haar")({"pixels": stripes})
    assert bands["LH1"].abs().min() > 0.9
    assert bands["HL1"].abs().max() == 0
    assert Wavelet("haar")({"pixels": stripes.mT})["HL1"].abs().min() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_image_has_no_detail_at_its_border(name):
    constant = torch.full((1, 1, 9, 12), 0.7, dtype=torch.float64)
    bands = Wavelet(name, 2)({"pixels": constant})
    torch.testing.assert_close(bands.pop("LL"), torch.full_like(Wavelet(name, 2)({"pixels": constant})["LL"], 4 * 0.7))
    assert all(band.abs().max() < 1e-9 for band in bands.values())


def test_only_requested_bands_are_returned_in_order():
    assert list(Wavelet("haar", 2, bands=["HH2", "LL"])({"pixels": noise(1, 1, 8, 8)})) == ["LL", "HH2"]


def test_the_repr_omits_defaults():
    assert repr(Wavelet(bands=["HH1", "HL1", "LL", "LH1"])) == 'Wavelet("haar")'
    assert repr(Wavelet("sym4", 2, bands=["HH2"])) == 'Wavelet("sym4", 2, bands=["HH2"])'
    assert repr(Wavelet(bands="LL")) == 'Wavelet("haar", bands=["LL"])'


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wavelet("db3"), "Wavelet name must be one of 'haar', 'db2', 'db4', 'sym4'; got 'db3'."),
        (lambda: Wavelet(levels=0), "Wavelet levels must be an integer at least 1; got 0."),
        (lambda: Wavelet(levels=1.5), "Wavelet levels must be an integer at least 1; got 1.5."),
        (lambda: Wavelet(bands=["HH2"]), "Wavelet with levels=1 has the bands LL, LH1, HL1, HH1; got 'HH2'."),
        (
            lambda: Wavelet(bands={"LL": 0.1}),
            "Wavelet bands must be names without weights; use wavelet_l1 for weighted bands.",
        ),
        (lambda: Wavelet(bands=[]), "Wavelet bands must contain at least one of LL, LH1, HL1, HH1; got none."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()

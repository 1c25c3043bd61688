"""The separable Gaussian filter."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lossmith._filters import gaussian_filter, gaussian_taps


@pytest.mark.parametrize("size", [1, 4, 11])
def test_taps_are_normalised_samples_of_a_gaussian(size):
    offsets = np.arange(size) - (size - 1) / 2
    expected = np.exp(-(offsets**2) / (2 * 1.5**2))
    taps = gaussian_taps(size, 1.5, like=torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(taps, torch.from_numpy(expected / expected.sum()), rtol=1e-15, atol=0)


@pytest.mark.parametrize("pad", [True, False])
def test_the_filter_equals_a_two_dimensional_convolution_of_each_channel(pad):
    image = torch.rand(2, 3, 20, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    taps = gaussian_taps(7, 1.2, like=image)
    padded = F.pad(image, (3, 3, 3, 3), mode="replicate") if pad else image
    channels = [F.conv2d(padded[:, c : c + 1], (taps[:, None] * taps)[None, None]) for c in range(3)]
    torch.testing.assert_close(gaussian_filter(image, 7, 1.2, pad=pad), torch.cat(channels, dim=1), rtol=1e-13, atol=0)

import pytest
import torch
from torch.testing import assert_close

from lossmith.losses import Dispersive, HiddenAlignment


def test_dispersive_is_a_contrast_without_positives():
    hidden = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distances = torch.cdist(hidden.flatten(1), hidden.flatten(1)).square() / 18
    assert_close(Dispersive(0.7).measure(hidden), torch.exp(-distances / 0.7).mean(dim=1).log())


def test_dispersive_of_images_of_one_group_is_0():
    assert_close(Dispersive().measure(torch.randn(2, 5), groups=torch.tensor([7, 7])), torch.zeros(2))


def test_alignment_is_invariant_to_rotation_and_scale_of_the_features():
    hidden, target = torch.randn(2, 6, 4, 4, dtype=torch.float64), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    rotated = 3 * torch.einsum("cd,ndhw->nchw", rotation, hidden)
    align = HiddenAlignment()
    assert_close(align.measure(target, rotated), align.measure(target, hidden))
    pooled = torch.nn.functional.adaptive_avg_pool2d(target, 4)
    assert_close(align.measure(target, pooled), torch.zeros(2, dtype=torch.float64))


def test_alignment_takes_rounded_sizes_and_raises_on_another_aspect_ratio():
    target = torch.rand(1, 3, 30, 45)
    assert HiddenAlignment()(target=target, hidden=torch.rand(1, 2, 8, 12)).isfinite()
    with pytest.raises(ValueError, match=r"\(8, 6\).*\(30, 45\)"):
        HiddenAlignment()(target=target, hidden=torch.rand(1, 2, 8, 6))

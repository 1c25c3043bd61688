"""The Gram matrix: its norms by hand, and its precision."""

import pytest
import torch

from lossmith import L2, VGG, Gram


@pytest.mark.parametrize(("norm", "divisor"), [("chw", 3 * 8 * 10), ("hw", 8 * 10), ("none", 1)])
def test_each_norm_divides_by_its_name(norm, divisor):
    features = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.einsum("nihw,njhw->nij", features, features) / divisor
    torch.testing.assert_close(Gram(norm)({"pixels": features})["pixels"], expected)


def test_positions_do_not_matter():
    features = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    shuffled = features.flatten(2)[..., torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(
        features
    )
    torch.testing.assert_close(Gram()({"a": shuffled})["a"], Gram()({"a": features})["a"])


@pytest.mark.parametrize("norm", ["chw", "hw"])
def test_repeating_an_image_changes_nothing_with_a_mean_over_positions(norm):
    features = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    tiled = Gram(norm)({"a": features.repeat(1, 1, 3, 2)})["a"]
    torch.testing.assert_close(tiled, Gram(norm)({"a": features})["a"])


def test_a_half_precision_map_does_not_overflow():
    pixels = torch.full((1, 3, 256, 256), 1.5, dtype=torch.float16)
    assert (L2() @ Gram("none"))(pixels, torch.zeros_like(pixels)).isfinite()


def test_autocast_does_not_lower_the_precision():
    pred, target = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = L2() @ Gram("none")
    expected = loss(pred, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(pred, target), expected)


def test_every_layer_of_a_network_gets_a_matrix():
    maps = (Gram() @ VGG("vgg16", ["relu1_1", "relu2_1"], weights="random"))({"pixels": torch.rand(1, 3, 8, 8)})
    assert {layer: tuple(matrix.shape) for layer, matrix in maps.items()} == {
        "relu1_1": (1, 64, 64),
        "relu2_1": (1, 128, 128),
    }

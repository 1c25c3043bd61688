import pytest
import torch

from lossmith.data import draw_mask
from lossmith.data.masks import draw_boxes, draw_strokes


def seeded_mask(shape, seed, height=48, width=64):
    return draw_mask(height, width, shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", ["strokes", "boxes", "both"])
def test_a_mask_is_binary_and_leaves_a_quarter_of_the_image(shape):
    for seed in range(20):
        mask = seeded_mask(shape, seed)
        assert mask.shape == (1, 48, 64) and set(mask.unique().tolist()) == {0.0, 1.0}
        assert 0 < mask.mean() <= 0.75


def test_a_mask_is_a_function_of_the_seed():
    assert torch.equal(seeded_mask("both", 3), seeded_mask("both", 3))
    assert not torch.equal(seeded_mask("both", 3), seeded_mask("both", 4))


def test_boxes_are_filled_boxes():
    mask = draw_boxes(40, 40, torch.Generator().manual_seed(1))[0]
    rows = [row for row in mask if row.any()]
    assert all(int(row.diff().abs().sum()) <= 6 for row in rows)  # at most three runs with two ends each


def test_strokes_grow_with_the_image():
    small, large = (
        torch.stack([draw_strokes(n, n, torch.Generator().manual_seed(seed)) for seed in range(12)]).mean()
        for n in (32, 128)
    )
    assert small.item() == pytest.approx(large.item(), rel=0.25)


def test_an_unknown_shape_raises_a_value_error():
    with pytest.raises(ValueError, match="must be one of 'strokes', 'boxes', 'both'; got 'dots'"):
        draw_mask(8, 8, "dots", torch.Generator())

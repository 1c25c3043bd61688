import pytest
import torch

from lossmith.data import hole
from lossmith.data.masks import boxes, strokes


def drawn(kind, seed, height=48, width=64):
    return hole(height, width, kind, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["strokes", "boxes", "both"])
def test_a_hole_is_ones_and_zeros_and_leaves_something(kind):
    for seed in range(20):
        mask = drawn(kind, seed)
        assert mask.shape == (1, 48, 64) and set(mask.unique().tolist()) == {0.0, 1.0}
        assert 0 < mask.mean() <= 0.75


def test_a_hole_is_a_function_of_the_seed():
    assert torch.equal(drawn("both", 3), drawn("both", 3))
    assert not torch.equal(drawn("both", 3), drawn("both", 4))


def test_boxes_are_full_boxes():
    mask = boxes(40, 40, torch.Generator().manual_seed(1))[0]
    rows = [row for row in mask if row.any()]
    assert all(int(row.diff().abs().sum()) <= 6 for row in rows)  # at most three runs, two ends each


def test_strokes_grow_with_the_picture():
    small, large = (
        torch.stack([strokes(n, n, torch.Generator().manual_seed(seed)) for seed in range(12)]).mean()
        for n in (32, 128)
    )
    assert small.item() == pytest.approx(large.item(), rel=0.25)


def test_other_holes_are_refused():
    with pytest.raises(ValueError, match="Holes are strokes, boxes, both; got 'dots'"):
        hole(8, 8, "dots", torch.Generator())

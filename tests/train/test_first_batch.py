"""The first batch: captions of at least two groups for contrastive terms, and pairs that differ."""

import shutil
from collections import defaultdict

import pytest
import torch

from lossmith import parse
from lossmith.data import list_images
from lossmith.image import to_pil
from lossmith.tasks import Paired
from lossmith.train.first_batch import COMPARED_PAIRS, SEARCHED_SAMPLES, find_equal_pairs, first_batch

CONTRASTIVE = parse("imagen + 0.05 * ContrastiveFlow.on(groups='group') + Dispersive.on(groups='group')")


def items(*groups):
    """Return an endless sequence of samples of these groups; the last group repeats."""
    last = {"group": torch.tensor(groups[-1])}
    return defaultdict(lambda: last, {k: {"group": torch.tensor(group)} for k, group in enumerate(groups)})


def test_a_batch_dependent_loss_gets_four_samples_and_another_loss_one():
    assert first_batch(CONTRASTIVE, items(1, 2, 2, 3, 4))["group"].tolist() == [1, 2, 2, 3]
    assert first_batch(parse("imagen"), items(1, 2))["group"].tolist() == [1]


def test_the_first_sample_of_another_group_is_found():
    assert first_batch(CONTRASTIVE, items(*[7] * (SEARCHED_SAMPLES - 1), 8))["group"].tolist() == [7, 7, 7, 8]


def test_captions_of_one_group_raise_for_a_contrastive_term():
    with pytest.raises(ValueError, match="ContrastiveFlow and Dispersive must see captions of different meaning"):
        first_batch(CONTRASTIVE, items(*[7] * SEARCHED_SAMPLES, 8))
    assert first_batch(parse("imagen + Dispersive"), items(7))["group"].tolist() == [7] * 4


def test_copies_of_the_targets_as_inputs_give_a_warning(tmp_path):
    to_pil(torch.rand(3, 40, 40)).save(tmp_path / "1.png")
    shutil.copytree(tmp_path, tmp_path / "copies")
    task = Paired(inputs=str(tmp_path / "copies"))
    (warning,) = find_equal_pairs(task.training_set(list_images(tmp_path), crop=16, seed=0))
    assert "the network learns to return its input" in warning


@pytest.mark.parametrize("scale", [1, 2])
def test_pairs_of_which_one_differs_give_no_warning(scale):
    flat, other = torch.zeros(3, 8, 8), torch.ones(3, 8 // scale, 8 // scale)
    pairs = [{"input": flat, "target": flat}] * (COMPARED_PAIRS - 1) + [{"input": other, "target": flat}]
    assert find_equal_pairs(pairs) == []

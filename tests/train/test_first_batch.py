"""The first batch: for contrastive terms it holds captions of at least two groups."""

from collections import defaultdict

import pytest
import torch

from lossmith import parse
from lossmith.train.first_batch import SEARCHED_SAMPLES, first_batch

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

"""What is looked at before a training: pictures of more than one meaning, if they are told apart."""

from collections import defaultdict

import pytest
import torch

from lossmith import parse
from lossmith.train.first_batch import SEARCHED_SAMPLES, first_batch

APART = parse("imagen + 0.05 * ContrastiveFlow.on(groups='group') + Dispersive.on(groups='group')")


def items(*groups):
    """An endless row of items of these groups, the last for ever."""
    last = {"group": torch.tensor(groups[-1])}
    return defaultdict(lambda: last, {k: {"group": torch.tensor(group)} for k, group in enumerate(groups)})


def test_four_are_compared_with_each_other_and_one_is_enough_alone():
    assert first_batch(APART, items(1, 2, 2, 3, 4))["group"].tolist() == [1, 2, 2, 3]
    assert first_batch(parse("imagen"), items(1, 2))["group"].tolist() == [1]


def test_the_first_of_another_meaning_is_found():
    assert first_batch(APART, items(*[7] * (SEARCHED_SAMPLES - 1), 8))["group"].tolist() == [7, 7, 7, 8]


def test_captions_of_one_meaning_alone_get_one_line():
    with pytest.raises(ValueError, match="ContrastiveFlow and Dispersive tell pictures of different captions"):
        first_batch(APART, items(*[7] * SEARCHED_SAMPLES, 8))
    assert first_batch(parse("imagen + Dispersive"), items(7))["group"].tolist() == [7] * 4

"""What is looked at before a training: pictures of more than one meaning, if they are told apart."""

from collections import defaultdict

import pytest
import torch

from lossmith import parse
from lossmith.train.first_batch import LOOKED_AT, drawn

APART = parse("imagen + 0.05 * ContrastiveFlow.on(groups='group') + Dispersive.on(groups='group')")


def items(*groups):
    """An endless row of items of these groups, the last for ever."""
    last = {"group": torch.tensor(groups[-1])}
    return defaultdict(lambda: last, {k: {"group": torch.tensor(group)} for k, group in enumerate(groups)})


def test_four_are_compared_with_each_other_and_one_is_enough_alone():
    assert drawn(APART, items(1, 2, 2, 3, 4))["group"].tolist() == [1, 2, 2, 3]
    assert drawn(parse("imagen"), items(1, 2))["group"].tolist() == [1]


def test_the_first_of_another_meaning_is_found():
    assert drawn(APART, items(*[7] * (LOOKED_AT - 1), 8))["group"].tolist() == [7, 7, 7, 8]


def test_captions_of_one_meaning_alone_get_one_line():
    with pytest.raises(ValueError, match="ContrastiveFlow and Dispersive tell pictures of different captions"):
        drawn(APART, items(*[7] * LOOKED_AT, 8))
    assert drawn(parse("imagen + Dispersive"), items(7))["group"].tolist() == [7] * 4

"""The first batch of a training, which goes through everything before anything is written."""

from collections.abc import Mapping
from functools import partial

import torch
from torch.utils.data import default_collate

from lossmith.doctor import check
from lossmith.formula.loss import Loss
from lossmith.image import inspect
from lossmith.models import Network
from lossmith.tasks import Batch, Items, Task
from lossmith.train.folder import RunFolder

__all__ = ["look"]

LOOKED_AT = 64
"""Pictures among which captions of more than one meaning must be found."""


def look(
    task: Task, model: Network, loss: Loss, items: Items, folder: RunFolder, knobs: Mapping[str, float]
) -> list[str]:
    """A first batch through everything, before anything is written: the ranges, the shapes, the networks' weights.

    Args:
        task: The task.
        model: The network.
        loss: The loss.
        items: What is trained on.
        folder: The run's folder.
        knobs: Where the knobs stand, if there are any.

    Returns:
        What the doctor warns of; nothing for a run that goes on.

    Raises:
        ValueError: A picture, the captions or the loss is not what it should be.
    """
    batch = drawn(loss, items)
    pictured = {v for t in loss.terms if t.distance.pictures for p, v in t.reads.items() if p not in t.distance.bare}
    for name in pictured & batch.keys():  # a network's input may be noisy beyond [0, 1]
        inspect(name, batch[name])
    model.eval()
    with torch.no_grad():
        views = task.views(partial(model, **knobs) if knobs else model, batch)
        loss.evaluate(views)
    model.train()
    if folder.checkpoint.is_file():
        return []
    return [str(finding) for finding in check(loss, views).raise_if_broken().findings]


def drawn(loss: Loss, items: Items) -> Batch:
    """The first picture, or four where they are compared with each other, not all of one meaning.

    Raises:
        ValueError: All captions mean the same, and the loss wants to tell them apart.
    """
    if not any(term.distance.mixes for term in loss.terms):
        return default_collate([items[0]])  # type: ignore[no-any-return]
    rows = [items[k] for k in range(4)]
    apart = [name for name, term in zip(loss.names, loss.terms, strict=True) if "group" in term.reads.values()]
    if apart and len({int(row["group"]) for row in rows}) == 1:
        rest = (items[k] for k in range(len(rows), LOOKED_AT))
        other = next((row for row in rest if int(row["group"]) != int(rows[0]["group"])), None)
        if other is None:
            raise ValueError(
                f"{' and '.join(apart)} tell pictures of different captions apart, and the first {LOOKED_AT} have "
                "one meaning. Leave that out of the formula, or give pictures of more."
            )
        rows[-1] = other
    return default_collate(rows)  # type: ignore[no-any-return]

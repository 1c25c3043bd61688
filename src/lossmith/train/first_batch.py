"""The check of the first training batch, before anything is written."""

import math
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lossmith.balance import Balance, Fixed
from lossmith.data.missing import fill_missing
from lossmith.doctor import check
from lossmith.doctor.balance_checks import bind_knobs, check_balance
from lossmith.formula.loss import Loss
from lossmith.image import check_images
from lossmith.models import Network
from lossmith.tasks import Batch, Task, TrainingSet
from lossmith.train.folder import RunFolder

__all__ = ["check_first_batch"]

SEARCHED_SAMPLES = 64
"""Samples among which captions of two groups must be found."""
COMPARED_PAIRS = 16
"""Crops in which input and target are compared: one crop of an undegraded area may be equal."""


def check_first_batch(
    task: Task,
    model: Network,
    loss: Loss,
    items: TrainingSet,
    folder: RunFolder,
    knobs: Mapping[str, tuple[float, float]],
    balance: Balance | None,
) -> list[str]:
    """Run a first batch through the network and the loss: check value ranges, shapes, balance and networks' weights.

    Args:
        task: The task.
        model: The network.
        loss: The loss.
        items: The training set.
        folder: The run folder.
        knobs: The training range of each knob, at whose geometric mean the batch is run; empty without knobs.
        balance: The balancer, which makes the weights of the formula shares; None for weights as they are.

    Returns:
        The doctor's warnings; an empty list for a run that resumes.

    Raises:
        ValueError: An image, the captions or the loss is invalid.
    """
    batch = first_batch(loss, items)
    for name in image_inputs(loss) & batch.keys():  # a network's own input may be noisy beyond [0, 1]
        check_images(name, fill_missing(batch[name]), channels=task.pixels.channels)
    model.eval()
    with torch.no_grad():
        midpoints = {name: math.sqrt(low * high) for name, (low, high) in knobs.items()}
        inputs = task.compute_inputs(partial(model, **midpoints) if midpoints else model, batch)
        loss.evaluate(inputs)
    model.train()
    if folder.checkpoint.is_file():
        return []
    findings = check(loss, inputs).raise_if_broken().findings
    pairs = find_equal_pairs(items) if task.reads_pairs else []
    if balance is not None and not isinstance(balance, Fixed):
        return [*pairs, *(str(finding) for finding in findings if finding.check != "balance")]
    return [*pairs, *map(str, findings), *find_negligible_terms(loss, inputs, knobs)]


def find_equal_pairs(items: TrainingSet) -> list[str]:
    """Return a warning if inputs and targets of pairs are equal, of which a network learns to return its input."""
    if not all(torch.equal((item := items[k])["input"], item["target"]) for k in range(COMPARED_PAIRS)):
        return []
    return [
        f"Input and target are equal in the first {COMPARED_PAIRS} crops: the network learns to return its input. "
        "Give the degraded images as inputs."
    ]


def find_negligible_terms(
    loss: Loss, inputs: Mapping[str, Tensor], knobs: Mapping[str, tuple[float, float]]
) -> Iterator[str]:
    """Yield a warning for each end of the knobs' ranges at which a term has hardly any effect."""
    for end in (0, 1) if knobs else ():
        values = {name: ends[end] for name, ends in knobs.items()}
        at = ", ".join(f"{name}={value:g}" for name, value in values.items())
        for finding in check_balance(bind_knobs(loss, values), loss.names, inputs, (0, 0)):
            yield f"{finding.severity}: {finding.term} at {at}: {finding.message} Narrow --knob, or use --calibrate."


def image_inputs(loss: Loss) -> set[str]:
    """Return the names of the loss's inputs that are images."""
    return {
        name
        for term in loss.terms
        if term.distance.reads_images
        for parameter, name in term.inputs.items()
        if parameter not in term.distance.unlensed_inputs
    }


def first_batch(loss: Loss, items: TrainingSet) -> Batch:
    """Return one sample, or for a batch-dependent loss four samples of at least two caption groups.

    Raises:
        ValueError: A term contrasts captions, but all captions have the same meaning.
    """
    if not any(term.distance.is_batch_dependent for term in loss.terms):
        return default_collate([items[0]])  # type: ignore[no-any-return]
    rows = [items[k] for k in range(4)]
    contrastive = [name for name, term in zip(loss.names, loss.terms, strict=True) if "group" in term.inputs.values()]
    if contrastive and len({int(row["group"]) for row in rows}) == 1:
        rest = (items[k] for k in range(len(rows), SEARCHED_SAMPLES))
        other = next((row for row in rest if int(row["group"]) != int(rows[0]["group"])), None)
        if other is None:
            raise ValueError(
                f"{' and '.join(contrastive)} must see captions of different meaning, but the first {SEARCHED_SAMPLES} "
                "captions have the same meaning. Remove the term, or use data with more captions."
            )
        rows[-1] = other
    return default_collate(rows)  # type: ignore[no-any-return]

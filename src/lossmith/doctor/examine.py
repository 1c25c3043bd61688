"""The whole examination of a loss."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lossmith.doctor import anatomy, behaviour, measures, slopes
from lossmith.doctor.inputs import Inputs, first_images, min_batch_size, make_inputs, image_inputs, with_untrained_networks
from lossmith.doctor.probe import TermProbe, copy_loss
from lossmith.doctor.report import Finding, DoctorReport, describe_error
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.term import Term

__all__ = ["check"]

SIDES = (64, 96, 192)
"""The pictures that the examination makes do with, if the loss can look at them."""


def check(loss: Loss, views: Mapping[str, Tensor] | None = None, *, shape: Sequence[int] | None = None) -> DoctorReport:
    """Examines a loss on a copy of it, in training mode, as a parent module has it.

    Each term is tried on noise, for structure, and on hostile views, for what is not finite. With views, such as the
    first batch of a run, their ranges are looked at and the terms are weighed on them; the noise is then of their
    shapes, or of a corner of 64 px where all are pictures of one size. Nothing that is random elsewhere is drawn, and
    neither the loss nor the views are changed.

    Args:
        loss: The loss.
        views: What it will read, by name; without them, views are made up.
        shape: The shape (N, 3, H, W) of the pictures to make up; by default two, of the first of 64, 96 and 192 px a
            side that every term can look at.

    Returns:
        What was found, the worst first; `raise_if_broken()` stops a training before it begins.

    Raises:
        ValueError: The shape is no such shape, or a view that the loss reads is not there.

    Example:
        >>> from lossmith import L1, TV
        >>> print(check(0.5 * L1() + TV()))
        0.5 * L1() + TV(): sound.
        >>> check(L1(), {"pred": torch.rand(1, 3, 8, 8), "target": 255 * torch.rand(1, 3, 8, 8)}).errors[0].cure
        'Divide by 255.'
    """
    if shape is not None and (len(shape) != 4 or min(shape) < 1):
        raise ValueError(f"check wants the shape of a batch, (N, 3, H, W); got {tuple(shape)}.")
    device = next(iter(views.values())).device if views else torch.device("cpu")
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.inference_mode(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = list(_examined(loss, views, shape))
    return DoctorReport.of(repr(loss), findings)


def _examined(loss: Loss, views: Mapping[str, Tensor] | None, shape: Sequence[int] | None) -> Iterator[Finding]:
    whole, missing = with_untrained_networks(loss)
    whole = copy_loss(whole).train()
    for message in missing:
        yield Finding("warning", "weights", "", "Examined with an untrained network, whatever it will see.", message)
    if views is not None:
        views = {name: view.detach() for name, view in views.items()}
        whole.feature_cache(views)
        yield from measures.check_input_range(whole, views)
    well: list[str] = []
    partial: list[Finding] = []
    for name, term in zip(whole.names, whole.terms, strict=True):
        found = _term(name, term, views, shape)
        yield from (finding for finding in found if finding.check != "partial")
        partial += (finding for finding in found if finding.check == "partial")
        if not any(finding.severity == "error" for finding in found):
            well.append(name)
    shared = len(partial) < sum("pred" in term.inputs for term in whole.terms)  # another term reaches the rest
    yield from (replace(finding, severity="warning") if shared else finding for finding in partial)
    if well and (views is None or "pred" in views):
        side = (shape[2], shape[3]) if shape else _fitting(whole)
        yield from measures.check_balance(whole, well, None if views is None else first_images(whole, views, min_batch_size(whole)), side)


def _term(name: str, term: Term, views: Mapping[str, Tensor] | None, shape: Sequence[int] | None) -> list[Finding]:
    """All that is found of one term, also if it stops on the way."""
    found: list[Finding] = []
    alone = Hybrid([Term(term.distance, lens=term.lens, input_renames=term.input_renames)])
    try:
        noise = _noise(alone, views, shape)
        for finding in _checks(TermProbe(name, term, noise, tuple(image_inputs(alone, noise)))):
            found.append(finding)  # what was found before an error stays
    except Exception as error:  # whatever a foreign callable may raise
        cure = "Try it on these pictures by hand; nothing after this could be looked at."
        found.append(Finding("error", "refuses", name, f"It stops on ordinary pictures: {describe_error(error)}", cure))
    return found


def _checks(patient: TermProbe) -> Iterator[Finding]:
    """All checks of one term, those first that tell why others fail."""
    if misshapen := list(behaviour.check_output_shape(patient)):
        yield from misshapen
        return
    before = patient.state()
    yield from behaviour.check_mutation(patient)
    yield from anatomy.check_trainable(patient)
    unsteady = list(behaviour.check_determinism(patient))
    yield from unsteady
    yield from behaviour.check_precision(patient)
    yield from anatomy.check_aliasing(patient)
    answer = patient.ask(patient.views)
    yield from behaviour.check_state(patient, before)
    yield from measures.check_value_range(patient, answer)
    yield from measures.check_direction(patient, answer)
    if not any(finding.severity == "error" for finding in unsteady):
        yield from measures.check_batch_independence(patient, answer)
        yield from measures.check_scale(patient, answer)
        if answer.norm:
            yield from slopes.check_derivative(patient, answer)
    yield from slopes.check_coverage(patient, answer)
    if answer.norm:
        yield from slopes.check_dead_zone(patient, answer)
    yield from slopes.check_finite(patient, answer)
    yield from anatomy.check_dtype(patient)


def _noise(loss: Hybrid, views: Mapping[str, Tensor] | None, shape: Sequence[int] | None) -> Inputs:
    """Ordinary views for one term: noise of the shapes that are given, other kinds of views as they are given."""
    if views is None:
        if shape is None:
            return make_inputs(loss, _fitting(loss))
        return make_inputs(loss, (shape[2], shape[3]), n=max(shape[0], min_batch_size(loss)))
    ordered = sorted(loss.input_names, key=lambda name: name != "pred")
    given = first_images(loss, {name: views[name] for name in ordered}, min_batch_size(loss))
    pictures = image_inputs(loss, given)
    generator = torch.Generator().manual_seed(0)
    for name in pictures:
        given[name] = torch.rand(given[name].shape, generator=generator).to(given[name].device)
    target = given.get("target")
    if "pred" in pictures and target is not None and target.shape == given["pred"].shape:
        given["pred"] = (given["pred"] + target) / 2
    sizes = {tuple(view.shape[2:]) for view in given.values() if view.dim() == 4}
    if len(sizes) == 1 and all(view.dim() == 4 for view in given.values()):
        for side in SIDES:
            corner = {name: view[..., :side, :side] for name, view in given.items()}
            if min(*sizes.pop() if sizes else (0, 0)) > side and _fits(loss, corner):
                return corner
    return given


def _fitting(loss: Hybrid) -> tuple[int, int]:
    """The first size of pictures that it can look at."""
    fitting = (side for side in SIDES if _fits(loss, make_inputs(loss, (side, side))))
    side = next(fitting, SIDES[0])
    return side, side


def _fits(loss: Hybrid, views: Inputs) -> bool:
    try:
        with torch.no_grad():
            loss.evaluate(views)
    except ValueError:
        return False
    except RuntimeError:  # which will be named where it is looked for
        return True
    return True

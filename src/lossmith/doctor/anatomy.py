"""What a term is made of: weights that would train, layers that change their mood, in-place layers, casts."""

from collections.abc import Iterator

import torch

from lossmith.doctor.probe import TermProbe
from lossmith.doctor.report import Finding, join_names, dtype_name
from lossmith.lens import Features
from lossmith.losses.external import MODE_DEPENDENT, External

__all__ = ["check_aliasing", "check_dtype", "check_trainable"]


def check_dtype(patient: TermProbe) -> Iterator[Finding]:
    """Whether pictures of another precision recast its weights for good; a foreign module may do so."""
    before = patient.state()
    for dtype in (torch.float64, torch.float16) if before else ():
        views = {name: view.to(dtype) if view.is_floating_point() else view for name, view in patient.one.items()}
        try:
            patient.ask(views, gradient=False)
        except (RuntimeError, ValueError):  # what it refuses changes nothing
            continue
        after = patient.state()
        patient.ask(patient.one, gradient=False)
        recast = [name for name, t in after.items() if name in before and t.dtype != before[name].dtype]
        if recast:
            yield patient.finds(
                "warning",
                "drift",
                f"Pictures in {dtype_name(dtype)} recast its weights ({join_names(recast)}: {dtype_name(before[recast[0]].dtype)} to "
                f"{dtype_name(after[recast[0]].dtype)}); half precision would round them for good.",
                "Cast the pictures to the weights' precision, not the weights to the pictures'. In a term it is safe: "
                "half-precision pictures arrive in float32.",
            )


def check_trainable(patient: TermProbe) -> Iterator[Finding]:
    """Whether it has weights that an optimizer would train, or layers that behave otherwise in training mode."""
    term = patient.term
    if isinstance(term.distance, External) and term.distance.arrived:
        yield patient.finds("note", "frozen", f"It came with {term.distance.arrived}; External froze its copy.")
    if patient.loss.terms[0].distance.discriminator_step is not None:
        return  # a critic is meant to learn
    weights = {f"{n}.{key}": p for n, m in patient.modules.items() for key, p in m._parameters.items() if p is not None}
    free = {name.lstrip("."): p.numel() for name, p in weights.items() if p.requires_grad}
    if numbers := sum(count for count in free.values() if count > 1):
        yield patient.finds(
            "error",
            "check_trainable",
            f"It has {numbers:,} weights that would train ({join_names(list(free))}): an optimizer that is given them "
            "lowers the loss by bending its yardstick.",
            "Freeze them: requires_grad_(False), and keep them out of nn.Module's registration.",
        )
    elif free:
        yield patient.finds("note", "check_trainable", f"It has {len(free)} number(s) that train: {join_names(list(free))}.")
    moody = [
        f"{name} ({type(m).__name__})" for name, m in patient.modules.items() if m.training and isinstance(m, MODE_DEPENDENT)
    ]
    if moody:
        yield patient.finds(
            "error",
            "mode",
            f"In training mode, into which any parent module puts it, {join_names(moody)} is not what it was "
            "in evaluation.",
            "Keep its network in eval mode: override train(), or keep it out of nn.Module's registration.",
        )


def check_aliasing(patient: TermProbe) -> Iterator[Finding]:
    """Whether what should be the output of a convolution is what a ReLU made of it in place."""
    for _, lens in patient.term.path:
        if isinstance(lens, Features) and len(patient.pictures):
            yield from _clipped(patient, lens)
    inplace = [m for m in patient.modules.values() if getattr(m, "inplace", False) is True]
    if not inplace:
        return
    usual = patient.ask(patient.one, gradient=False).value
    for module in inplace:
        module.inplace = False  # type: ignore[assignment]
    apart = patient.ask(patient.one, gradient=False).value
    for module in inplace:
        module.inplace = True  # type: ignore[assignment]
    if not torch.allclose(usual, apart, rtol=1e-4, atol=0):
        yield patient.finds(
            "error",
            "alias",
            f"Its value is {float(usual[0]):.4g}, and {float(apart[0]):.4g} once the {len(inplace)} in-place layers of "
            "its network work on copies: what it reads before a ReLU has been overwritten by this ReLU.",
            "Clone each layer's output as it is read, or set inplace=False.",
        )


def _clipped(patient: TermProbe, lens: Features) -> Iterator[Finding]:
    picture = patient.one[patient.pictures[0]]
    if picture.shape[1] != 3:
        return
    layers = [layer for layer in lens.layers if "conv" in layer.lower()]
    with torch.no_grad():
        seen = lens.backbone(picture, layers) if layers else {}
    for layer, features in seen.items():
        if features.numel() > 64 and bool((features >= 0).all()):
            yield patient.finds(
                "error",
                "alias",
                f"Its layer {layer!r} of {lens.backbone.key} is called a convolution, and none of its "
                f"{features.numel():,} values is negative: a ReLU behind it has overwritten it.",
                "Clone the layer's output as it is read, or make that ReLU not work in place.",
            )

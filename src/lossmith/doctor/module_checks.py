"""Checks of a term's modules: trainable weights, training mode, in-place layers, casts."""

from collections.abc import Iterator

import torch

from lossmith.doctor.probe import TermProbe
from lossmith.doctor.report import Finding, dtype_name, join_names
from lossmith.lens import Features
from lossmith.losses.external import MODE_DEPENDENT, External

__all__ = ["check_dtype", "check_inplace_layers", "check_trainable"]


def check_dtype(probe: TermProbe) -> Iterator[Finding]:
    """Find weights that images of another precision cast permanently, as a module of another library may do."""
    before = probe.copy_state()
    for dtype in (torch.float64, torch.float16) if before else ():
        inputs = {name: t.to(dtype) if t.is_floating_point() else t for name, t in probe.single_inputs.items()}
        try:
            probe.evaluate(inputs, gradient=False)
        except (RuntimeError, ValueError):  # a rejected input changes nothing
            continue
        after = probe.copy_state()
        probe.evaluate(probe.single_inputs, gradient=False)
        cast = [name for name, t in after.items() if name in before and t.dtype != before[name].dtype]
        if cast:
            yield probe.finding(
                "warning",
                "dtype",
                f"Images in {dtype_name(dtype)} cast the weights permanently ({join_names(cast)}: "
                f"{dtype_name(before[cast[0]].dtype)} to {dtype_name(after[cast[0]].dtype)}); half precision would "
                "round them.",
                "Cast the images to the dtype of the weights, not the weights to that of the images. In a term, this "
                "is harmless: half-precision images are converted to float32.",
            )


def check_trainable(probe: TermProbe) -> Iterator[Finding]:
    """Find weights that an optimizer would train, and layers that behave differently in training mode."""
    distance = probe.term.distance
    if isinstance(distance, External) and distance.frozen_parts:
        yield probe.finding("note", "frozen", f"The module had {distance.frozen_parts}; External froze its copy.")
    if probe.loss.terms[0].distance.discriminator_step is not None:
        return  # a discriminator is trainable on purpose
    weights = {f"{n}.{key}": p for n, m in probe.modules.items() for key, p in m._parameters.items() if p is not None}
    sizes = {name.lstrip("."): p.numel() for name, p in weights.items() if p.requires_grad}
    if total := sum(size for size in sizes.values() if size > 1):
        yield probe.finding(
            "error",
            "trainable",
            f"The term has {total:,} trainable weights ({join_names(list(sizes))}): an optimizer that receives them "
            "lowers the loss by changing the loss.",
            "Freeze them: requires_grad_(False), and keep them out of nn.Module's registration.",
        )
    elif sizes:
        yield probe.finding(
            "note", "trainable", f"The term has {len(sizes)} trainable number(s): {join_names(list(sizes))}."
        )
    modules = probe.modules.items()
    layers = [f"{n} ({type(m).__name__})" for n, m in modules if m.training and isinstance(m, MODE_DEPENDENT)]
    if layers:
        yield probe.finding(
            "error",
            "training mode",
            f"In training mode, which every parent module sets, {join_names(layers)} gives another output than in "
            "eval mode.",
            "Keep the network in eval mode: override train(), or keep it out of nn.Module's registration.",
        )


def check_inplace_layers(probe: TermProbe) -> Iterator[Finding]:
    """Find features of a convolution that a later in-place ReLU has overwritten."""
    for _, lens in probe.term.path:
        if isinstance(lens, Features) and len(probe.images):
            yield from _find_clipped_features(probe, lens)
    inplace = [m for m in probe.modules.values() if getattr(m, "inplace", False) is True]
    if not inplace:
        return
    value = probe.evaluate(probe.single_inputs, gradient=False).value
    for module in inplace:
        module.inplace = False  # type: ignore[assignment]
    value_on_copies = probe.evaluate(probe.single_inputs, gradient=False).value
    for module in inplace:
        module.inplace = True  # type: ignore[assignment]
    if not torch.allclose(value, value_on_copies, rtol=1e-4, atol=0):
        yield probe.finding(
            "error",
            "in-place layers",
            f"The value is {float(value[0]):.4g}, but {float(value_on_copies[0]):.4g} if the {len(inplace)} in-place "
            "layers of the network work on copies: features before a ReLU have been overwritten by this ReLU.",
            "Clone each layer's output when it is read, or set inplace=False.",
        )


def _find_clipped_features(probe: TermProbe, lens: Features) -> Iterator[Finding]:
    image = probe.single_inputs[probe.images[0]]
    if image.shape[1] != 3:
        return
    layers = [layer for layer in lens.layers if "conv" in layer.lower()]
    with torch.no_grad():
        maps = lens.backbone(image, layers) if layers else {}
    for layer, features in maps.items():
        if features.numel() > 64 and bool((features >= 0).all()):
            yield probe.finding(
                "error",
                "in-place layers",
                f"The layer {layer!r} of {lens.backbone.key} has the name of a convolution, but none of its "
                f"{features.numel():,} values is negative: a later ReLU has overwritten it.",
                "Clone the layer's output when it is read, or set inplace=False in the ReLU.",
            )

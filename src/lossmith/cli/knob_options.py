"""Where a command line wants a knob to stand: a value, a place of the slider, an outcome, or a map from a picture."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.formula.weight import WeightValue
    from lossmith.models import Restorer
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.models.output_interpolation import OutputInterpolation

__all__ = ["WAYS", "knobbed", "mixed", "turned"]

WAYS = "--at 0.5 (the slider), --at lam=0.7, --at 'psnr>=28', or --at map.png (black low, white high)"
NAMED = re.compile(r"([a-z]\w*)=(?!=)(.+)")


def knobbed(what: str) -> "ConditionedNetwork":
    """The network with a knob in a run folder or in a file of weights.

    Raises:
        ValueError: There is none, or it has no knob.
    """
    from lossmith.cli.networks import chosen
    from lossmith.models.conditioned import ConditionedNetwork

    model = chosen(what)
    if not isinstance(model, ConditionedNetwork):
        raise ValueError(f"{what!r} has no knob; train one with --loss 'L1 + lam*perceptual' --knob lam=0.03:30.")
    return model


def mixed(model: "Restorer", what: str) -> "OutputInterpolation":
    """The same network, turned by mixing its answers at both ends as the losses are mixed that it was trained on.

    Raises:
        ValueError: It has no knob or several, or its formula is none that can be mixed.
    """
    from lossmith.cli.networks import file_of
    from lossmith.knob.interpolation import balanced_value
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.models.files import read_header
    from lossmith.models.output_interpolation import OutputInterpolation
    from lossmith.parser import parse

    if not isinstance(model, ConditionedNetwork):
        raise ValueError(f"{what!r} has no knob; leave --mix-ends out.")
    if len(model.knobs) > 1 or not (loss := read_header(file_of(what)).get("loss")):
        return OutputInterpolation(model)  # which refuses several, and takes weights that say no loss for L1 + lam * another
    return OutputInterpolation(model, balanced_value(parse(loss), next(iter(model.knobs))))


def turned(model: "Restorer", at: "Sequence[str]", what: str) -> "Callable[[Tensor], dict[str, WeightValue]]":
    """Where the knobs stand for an image (1, 3, H, W), as some --at ask; what is not a map is said on the way.

    Raises:
        ValueError: The network has no knob, a knob is left open, or one of them cannot be read or had.
    """
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.models.output_interpolation import OutputInterpolation

    if not isinstance(model, ConditionedNetwork | OutputInterpolation):
        if at:
            raise ValueError(f"{what!r} has no knob; leave --at out.")
        return lambda image: {}
    values: dict[str, WeightValue] = {}
    if len(slid := [text for text in at if not NAMED.fullmatch(text)]) > 1:
        raise ValueError(f"There is one slider; --at {slid[0]} and --at {slid[1]} cannot both be had.")
    for text in slid:
        if Path(text).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"):
            return mapped(model, Path(text), at)
        t = slider(model, text, what)
        values |= model.knobs_at(t)
        told(model, t, values)
    for text in at:
        if named := NAMED.fullmatch(text):
            name, number = named.groups()
            if name not in model.knobs:
                raise ValueError(f"{what!r} has no knob {name!r}; it has {', '.join(model.knobs)}.")
            values[name] = numbered(text, number)
    if still := [name for name in model.knobs if name not in values]:
        low, high = model.knobs[still[0]]
        raise ValueError(f"{what!r} has the knob {still[0]!r}, {low:g} to {high:g}; say where to turn it: {WAYS}.")
    return lambda image: values


def slider(model: "ConditionedNetwork | OutputInterpolation", text: str, what: str) -> float:
    """The place of the slider that a number or an outcome asks for."""
    from lossmith.models.output_interpolation import OutputInterpolation

    if not re.search("[<>]", text):
        return numbered(text, text)
    if model.slider is None:
        command = f"lossmith knob sweep {what}{' --mix-ends' if isinstance(model, OutputInterpolation) else ''}"
        raise ValueError(f"What the slider of {what!r} does was not measured yet: {command}.")
    return model.slider.find_position(text)


def numbered(text: str, number: str) -> float:
    """A number, or one line on how --at is written."""
    try:
        return float(number)
    except ValueError:
        raise ValueError(f"--at {text} cannot be read; write {WAYS}.") from None


def told(model: "ConditionedNetwork | OutputInterpolation", t: float, values: "dict[str, WeightValue]") -> None:
    """Says where the slider stands, and what was measured there."""
    from lossmith.models.output_interpolation import OutputInterpolation

    where = ", ".join(f"{name} = {value:.3g}" for name, value in values.items())
    if isinstance(model, OutputInterpolation):
        where += f", {model.share(next(iter(values.values()))):.0%} of the high end's answer"
    print(f"slider {t:.3g}: {where}")
    if model.slider is not None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in model.slider.expected_metrics(t).items())
        print(f"there, on {model.slider.images}: {figures}")


def mapped(model: "ConditionedNetwork | OutputInterpolation", file: Path, at: "Sequence[str]") -> "Callable[[Tensor], dict[str, WeightValue]]":
    """A slider for each pixel, from the brightness of a picture that is brought to the size of each image."""
    import torch.nn.functional as F

    from lossmith.data.image_files import decode_image
    from lossmith.image import to_float

    if len(at) > 1:
        raise ValueError(f"A map turns all knobs; leave --at {next(text for text in at if text != str(file))} out.")
    try:
        grey = to_float(decode_image(file)).mean(dim=0)[None, None]
    except (ValueError, OSError) as error:
        raise ValueError(f"The map {str(file)!r} cannot be read: {error}.") from error

    def places(image: "Tensor") -> "dict[str, WeightValue]":
        size = image.shape[-2:]
        t = F.interpolate(grey, size=size, mode="bilinear", align_corners=False, antialias=True)
        return model.knobs_at(t.clamp(0, 1).to(image.device))

    return places

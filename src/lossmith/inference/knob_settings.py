"""Knob settings on the command line: a value, a slider position, an outcome, or a map from an image."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.formula.weight import WeightValue
    from lossmith.models import Restorer
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.models.knob_network import KnobNetwork
    from lossmith.models.output_interpolation import OutputInterpolation
    from lossmith.models.textured_edsr import TexturedEDSR

    KnobValues = Callable[[Tensor], dict[str, WeightValue]]

__all__ = [
    "MAP_FORMATS",
    "describe_position",
    "interpolate_ends",
    "knobs_of_map",
    "load_knob_network",
    "parse_knob_settings",
]

FORMS = "--at 0.5 (the slider), --at lam=0.7, --at 'psnr>=28', or --at map.png (black low, white high)"
NAMED_VALUE = re.compile(r"([a-z]\w*)=(?!=)(.+)")
MAP_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def load_knob_network(source: str) -> "ConditionedNetwork | TexturedEDSR":
    """Return the network with a knob of a run folder, of a file of weights, or of the package.

    Raises:
        ValueError: There is no network, or it has no knob.
    """
    from lossmith.inference.networks import load_trained_network
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.models.textured_edsr import TexturedEDSR

    model = load_trained_network(source)
    if not isinstance(model, ConditionedNetwork | TexturedEDSR):
        raise ValueError(
            f"{source!r} has no knob; train one with --loss 'L1 + lam*perceptual' --knob lam=0.03:30 --calibrate."
        )
    return model


def interpolate_ends(model: "Restorer", source: str) -> "OutputInterpolation":
    """Return a network that interpolates the outputs at both ends of the knob, by the formula of its training.

    Raises:
        ValueError: The network has no knob or several, or the formula does not allow interpolation.
    """
    from lossmith.inference.networks import find_weights_file
    from lossmith.knob.interpolation import balanced_value
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.models.files import read_header
    from lossmith.models.output_interpolation import OutputInterpolation
    from lossmith.models.textured_edsr import TexturedEDSR
    from lossmith.parser import parse

    if isinstance(model, TexturedEDSR):
        raise ValueError(f"{source!r} always interpolates its outputs; omit --interpolate-outputs.")
    if not isinstance(model, ConditionedNetwork):
        raise ValueError(f"{source!r} has no knob; omit --interpolate-outputs.")
    loss = read_header(find_weights_file(source)).get("loss")
    if len(model.knobs) > 1 or not loss:
        return OutputInterpolation(model)  # raises for several knobs; without a formula assumes L1 + lam * another term
    return OutputInterpolation(model, balanced_value(parse(loss), next(iter(model.knobs))))


def parse_knob_settings(
    model: "Restorer", at: "Sequence[str]", source: str, report: "Callable[[str], object]" = print
) -> "KnobValues":
    """Return a function from an image (1, 3, H, W) to the knob values of all --at options.

    A slider position is reported with the metrics that were measured there. A network with a texture branch has a
    default position.

    Args:
        model: The network.
        at: The values of ``--at``.
        source: The name of the network, for messages.
        report: Called with the description of a slider position.

    Raises:
        ValueError: The network has no knob, a knob has no value, or an option cannot be parsed or satisfied.
    """
    from lossmith.models.knob_network import KnobNetwork
    from lossmith.models.textured_edsr import DEFAULT_REALISM, TexturedEDSR

    if not isinstance(model, KnobNetwork):
        if at:
            raise ValueError(f"{source!r} has no knob; omit --at.")
        return lambda image: {}
    values: dict[str, WeightValue] = {}
    if len(positions := [text for text in at if not NAMED_VALUE.fullmatch(text)]) > 1:
        raise ValueError(f"--at {positions[0]} and --at {positions[1]} both set the one slider; give one of them.")
    for text in positions:
        if Path(text).suffix.lower() in MAP_FORMATS:
            return slider_map(model, Path(text), at)
        t = parse_position(model, text, source)
        values |= model.knobs_at(t)
        report(describe_position(model, t))
    for text in at:
        if match := NAMED_VALUE.fullmatch(text):
            name, number = match.groups()
            if name not in model.knobs:
                raise ValueError(f"{source!r} has no knob {name!r}; its knobs are {', '.join(model.knobs)}.")
            values[name] = parse_value(text, number)
    if not at and isinstance(model, TexturedEDSR):
        values = model.knobs_at(DEFAULT_REALISM)
        report(describe_position(model, DEFAULT_REALISM))
    if unset := [name for name in model.knobs if name not in values]:
        low, high = model.knobs[unset[0]]
        raise ValueError(f"{source!r} has the knob {unset[0]!r}, {low:g} to {high:g}; set it with {FORMS}.")
    return lambda image: values


def parse_position(model: "KnobNetwork", text: str, source: str) -> float:
    """Return the slider position of a number or of an outcome such as ``psnr>=28``."""
    from lossmith.models.output_interpolation import OutputInterpolation

    if not re.search("[<>]", text):
        return parse_value(text, text)
    if model.slider is None:
        flag = " --interpolate-outputs" if isinstance(model, OutputInterpolation) else ""
        raise ValueError(f"The slider of {source!r} is not measured yet; run lossmith knob sweep {source}{flag}.")
    return model.slider.find_position(text)


def parse_value(text: str, number: str) -> float:
    """Return the number in an --at option."""
    try:
        return float(number)
    except ValueError:
        raise ValueError(f"--at {text} cannot be parsed; write {FORMS}.") from None


def describe_position(model: "KnobNetwork", t: float) -> str:
    """Return a slider position, its knob values, and in a second line the metrics measured there, if there are any."""
    from lossmith.models.output_interpolation import OutputInterpolation

    values = model.knobs_at(t)
    knobs = ", ".join(f"{name} = {value:.3g}" for name, value in values.items())
    if isinstance(model, OutputInterpolation):
        knobs += f", {model.interpolation_weight(next(iter(values.values()))):.0%} of the output at the high end"
    if model.slider is None:
        return f"slider {t:.3g}: {knobs}"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in model.slider.expected_metrics(t).items())
    return f"slider {t:.3g}: {knobs}\nmeasured there on {model.slider.images}: {metrics}"


def slider_map(model: "KnobNetwork", file: Path, at: "Sequence[str]") -> "KnobValues":
    """Return a function from an image to knob values per pixel, by the brightness of a map of any size."""
    from lossmith.data.image_files import decode_image
    from lossmith.image import to_float

    if len(at) > 1:
        raise ValueError(f"A map sets all knobs; omit --at {next(text for text in at if text != str(file))}.")
    try:
        brightness = to_float(decode_image(file)).mean(dim=0)
    except (ValueError, OSError) as error:
        raise ValueError(f"The map {str(file)!r} cannot be read: {error}.") from error
    return lambda image: knobs_of_map(model, brightness, image)


def knobs_of_map(model: "KnobNetwork", brightness: "Tensor", image: "Tensor") -> "dict[str, WeightValue]":
    """Return the knob values at each pixel of an image by the brightness of a map.

    Args:
        model: The network.
        brightness: The slider position at each place of the map, (h, w), of any size.
        image: The input (1, C, H, W).
    """
    import torch.nn.functional as F

    size = image.shape[-2:]
    t = F.interpolate(brightness[None, None], size=size, mode="bilinear", align_corners=False, antialias=True)
    return model.knobs_at(t.clamp(0, 1).to(image.device))

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
    from lossmith.models.output_interpolation import OutputInterpolation
    from lossmith.models.textured_edsr import TexturedEDSR

    KnobNetwork = ConditionedNetwork | OutputInterpolation | TexturedEDSR
    KnobValues = Callable[[Tensor], dict[str, WeightValue]]

__all__ = ["interpolate_ends", "load_conditioned_network", "parse_knob_settings"]

FORMS = "--at 0.5 (the slider), --at lam=0.7, --at 'psnr>=28', or --at map.png (black low, white high)"
NAMED_VALUE = re.compile(r"([a-z]\w*)=(?!=)(.+)")
MAP_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def load_conditioned_network(source: str) -> "ConditionedNetwork":
    """Return the conditioned network of a run folder or of a file of weights.

    Raises:
        ValueError: There is no network, or it has no knob.
    """
    from lossmith.cli.networks import load_trained_network
    from lossmith.models.conditioned import ConditionedNetwork

    model = load_trained_network(source)
    if not isinstance(model, ConditionedNetwork):
        raise ValueError(
            f"{source!r} has no knob; train one with --loss 'L1 + lam*perceptual' --knob lam=0.03:30 --calibrate."
        )
    return model


def interpolate_ends(model: "Restorer", source: str) -> "OutputInterpolation":
    """Return a network that interpolates the outputs at both ends of the knob, by the formula of its training.

    Raises:
        ValueError: The network has no knob or several, or the formula does not allow interpolation.
    """
    from lossmith.cli.networks import find_weights_file
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


def parse_knob_settings(model: "Restorer", at: "Sequence[str]", source: str) -> "KnobValues":
    """Return a function from an image (1, 3, H, W) to the knob values of all --at options.

    A slider position is printed with the metrics that were measured there. A network with a texture branch has a
    default position.

    Raises:
        ValueError: The network has no knob, a knob has no value, or an option cannot be parsed or satisfied.
    """
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.models.output_interpolation import OutputInterpolation
    from lossmith.models.textured_edsr import DEFAULT_REALISM, TexturedEDSR

    if not isinstance(model, ConditionedNetwork | OutputInterpolation | TexturedEDSR):
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
        print_position(model, t, values)
    for text in at:
        if match := NAMED_VALUE.fullmatch(text):
            name, number = match.groups()
            if name not in model.knobs:
                raise ValueError(f"{source!r} has no knob {name!r}; its knobs are {', '.join(model.knobs)}.")
            values[name] = parse_value(text, number)
    if not at and isinstance(model, TexturedEDSR):
        values = model.knobs_at(DEFAULT_REALISM)
        print_position(model, DEFAULT_REALISM, values)
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


def print_position(model: "KnobNetwork", t: float, values: "dict[str, WeightValue]") -> None:
    """Print a slider position, its knob values, and the metrics measured there."""
    from lossmith.models.output_interpolation import OutputInterpolation

    knobs = ", ".join(f"{name} = {value:.3g}" for name, value in values.items())
    if isinstance(model, OutputInterpolation):
        knobs += f", {model.interpolation_weight(next(iter(values.values()))):.0%} of the output at the high end"
    print(f"slider {t:.3g}: {knobs}")
    if model.slider is not None:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in model.slider.expected_metrics(t).items())
        print(f"measured there on {model.slider.images}: {metrics}")


def slider_map(model: "KnobNetwork", file: Path, at: "Sequence[str]") -> "KnobValues":
    """Return a function from an image to knob values per pixel, by the brightness of a map of any size."""
    import torch.nn.functional as F

    from lossmith.data.image_files import decode_image
    from lossmith.image import to_float

    if len(at) > 1:
        raise ValueError(f"A map sets all knobs; omit --at {next(text for text in at if text != str(file))}.")
    try:
        brightness = to_float(decode_image(file)).mean(dim=0)[None, None]
    except (ValueError, OSError) as error:
        raise ValueError(f"The map {str(file)!r} cannot be read: {error}.") from error

    def values(image: "Tensor") -> "dict[str, WeightValue]":
        size = image.shape[-2:]
        t = F.interpolate(brightness, size=size, mode="bilinear", align_corners=False, antialias=True)
        return model.knobs_at(t.clamp(0, 1).to(image.device))

    return values

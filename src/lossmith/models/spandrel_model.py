"""Architectures and published checkpoints from the library spandrel."""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from lossmith.models.base import Restorer
from lossmith.models.padding import PadMode, crop_to, next_multiple, pad_to

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

__all__ = ["SPANDREL_PREFIX", "SpandrelModel", "import_spandrel", "load_architectures", "suggest_architecture"]

SPANDREL_PREFIX = "spandrel:"
SCALE_ARGUMENTS = {"scale", "upscale", "upscaling", "upscaling_factor"}
"""Names of the upscaling factor in the constructors of the architectures."""


@final
class SpandrelModel(Restorer):
    """A network of an architecture that spandrel supports.

    :meth:`from_architecture` builds an untrained network; :meth:`from_weights` detects the architecture of a
    checkpoint. Images are padded to the sides that the architecture requires, and the output is cropped. Scale and
    channels are those that spandrel detects from the weights.

    Args:
        description: spandrel's description of the network.
        spec: Arguments of :func:`build_network` that build the network; without architecture arguments, the
            architecture is detected from the weights.
        network: The network, if it is another instance than the description's.

    Raises:
        ValueError: The network has other numbers of input and output channels.
    """

    def __init__(
        self, description: "ImageModelDescriptor[Any]", spec: Mapping[str, Any], network: nn.Module | None = None
    ) -> None:
        channels = description.input_channels, description.output_channels
        name = str(description.architecture.id)
        if channels[0] != channels[1]:
            raise ValueError(
                f"{name} has {channels[0]} input and {channels[1]} output channels; networks must return as many "
                "channels as they take."
            )
        super().__init__(description.scale, None, spec)
        self.image_channels = self.in_channels = channels[0]  # part of the architecture's own arguments
        self.network = description.model if network is None else network
        self.network.train()
        self.size_requirements = description.size_requirements
        self.inner_padding: tuple[int, PadMode] | None = None
        """A multiple to which the architecture pads images itself, and how; if set, the images are padded before."""
        self.call = description._call_fn  # calling the descriptor itself would clip and discard the gradient

    @classmethod
    def from_architecture(cls, name: str, scale: int, arguments: Mapping[str, Any]) -> "SpandrelModel":
        """Return an untrained network.

        Args:
            name: Name of the architecture in spandrel, such as "SwinIR" or "RealPLKSR".
            scale: Upscaling factor, passed to the argument of the constructor with this meaning.
            arguments: Further arguments of the constructor.

        Raises:
            ValueError: The architecture does not exist, or the arguments are invalid.
        """
        constructor = find_architecture(name)
        parameters = inspect.signature(constructor).parameters
        accepts_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if not accepts_all and (unknown := set(arguments) - set(parameters)):
            raise ValueError(f"{name} has no argument {min(unknown)!r}; it has {', '.join(parameters)}.")
        scales = {} if SCALE_ARGUMENTS & set(arguments) else {n: scale for n in SCALE_ARGUMENTS if n in parameters}
        arguments = scales | dict(arguments)
        window = arguments.get("window_size", _default_of(parameters, "window_size"))
        side = _default_of(parameters, "img_size")
        if isinstance(window, int) and isinstance(side, int) and side % window:
            arguments = {"img_size": next_multiple(side, window)} | arguments  # the default must fit the windows
        if scale > 1 and _default_of(parameters, "upsampler") == "":
            arguments = {"upsampler": "pixelshuffle"} | arguments  # the default keeps the size
        try:
            with warnings.catch_warnings(action="ignore"):  # deprecation warnings that the user cannot fix
                network = constructor(**arguments)
        except Exception as error:  # architectures raise different exception types
            hint = _window_hint({"name": name, **arguments})
            raise ValueError(f"{name} cannot be built with {arguments}: {error}.{hint}") from error
        spec = {"name": SPANDREL_PREFIX + name, **arguments}
        return cls(describe_weights(network.state_dict(), name), spec, network)

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], source: str) -> "SpandrelModel":
        """Return the network of a state dict, with its weights.

        Args:
            state: The state dict.
            source: Name of the weights in error messages.

        Raises:
            ValueError: No architecture of spandrel has such weights.
        """
        description = describe_weights(state, source)
        return cls(description, {"name": f"{SPANDREL_PREFIX}{description.architecture.id}"})

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored images."""
        height, width = image.shape[-2:]
        padded = self.pad(image)
        if padded is image:
            padded = image.clone()  # RCAN scales its input in place
        if self.inner_padding is not None:
            multiple, mode = self.inner_padding
            rows, columns = (next_multiple(side, multiple) for side in padded.shape[-2:])
            padded = pad_to(padded, rows, columns, mode)
        try:
            output: Tensor = self.call(self.network, padded)
        except (RuntimeError, ValueError) as error:  # the shapes of windows, or a batch normalisation of one value
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            raise ValueError(
                f"{self.spec['name']} fails on inputs of {height}x{width} px, batch {len(image)}: {reason}."
                f"{_window_hint(self.spec)}"
            ) from error
        return crop_to(output, height * self.scale, width * self.scale)

    def pad(self, image: Tensor) -> Tensor:
        """Return the images padded on the right and below to the required sides, reflected as far as possible."""
        needs = self.size_requirements
        if needs.none:
            return image
        height, width = (
            next_multiple(torch.sym_max(side, needs.minimum), needs.multiple_of) for side in image.shape[-2:]
        )
        if needs.square:
            height = width = torch.sym_max(height, width)  # type: ignore[assignment]  # symbols under torch.export
        return pad_to(image, height, width, "reflect")


def _window_hint(arguments: Mapping[str, Any]) -> str:
    """Return the cure for sides that do not fit the windows of an architecture; "" without windows."""
    name = str(arguments.get("name", "")).removeprefix(SPANDREL_PREFIX)
    constructor = load_architectures().get(name)
    parameters = inspect.signature(constructor).parameters if constructor else {}
    window = arguments.get("window_size", _default_of(parameters, "window_size"))
    if not isinstance(window, int):
        return ""
    return (
        f" Its windows have {window} px: train with a --crop whose size at the input, crop / scale, is a multiple of "
        f"{window}, or set --model-option window_size=8."
    )


def _default_of(parameters: Mapping[str, inspect.Parameter], name: str) -> Any:
    """Return the default of a parameter; None without such a parameter."""
    return parameters[name].default if name in parameters else None


def suggest_architecture(name: str) -> str | None:
    """Return the name for ``build_network`` of an architecture, for its name without prefix or its class."""
    try:
        constructors = load_architectures()
    except ValueError:  # spandrel is not installed
        return None
    plain = name.lower()
    for known, constructor in constructors.items():
        if plain in (known.lower(), constructor.__name__.lower()):
            return SPANDREL_PREFIX + known
    return None


def import_spandrel() -> Any:
    """Return the module spandrel.

    Raises:
        ValueError: spandrel is not installed or cannot be imported.
    """
    try:
        return importlib.import_module("spandrel")
    except ImportError as error:
        raise ValueError(
            f"Architectures of other authors need spandrel, which cannot be imported ({error}): "
            "pip install -e '.[train]'."
        ) from error


def describe_weights(state: Mapping[str, Tensor], source: str) -> "ImageModelDescriptor[Any]":
    """Return spandrel's description of the network of a state dict.

    Raises:
        ValueError: No architecture of spandrel has such weights, or the network does not map images to images.
    """
    spandrel = import_spandrel()
    try:
        with warnings.catch_warnings(action="ignore"):  # deprecation warnings that the user cannot fix
            description = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
    except Exception as error:
        reason = str(error) if str(error).strip() else type(error).__name__
        raise ValueError(f"{source}: spandrel detects no architecture ({reason.splitlines()[0]}).") from error
    if not isinstance(description, spandrel.ImageModelDescriptor):
        raise ValueError(f"{source} is a {description.purpose} network; a network must map an image to an image.")
    return description


def load_architectures() -> dict[str, Any]:
    """Return the constructor of each architecture by name."""
    import_spandrel()
    package = importlib.import_module("spandrel.architectures")
    constructors: dict[str, Any] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        if not module_info.name.startswith("_"):
            module = importlib.import_module(f"{package.__name__}.{module_info.name}")
            constructors |= {n: getattr(module, n) for n in module.__all__ if not n.endswith("Arch")}
    return constructors


def find_architecture(name: str) -> Any:
    """Return the constructor of an architecture.

    Raises:
        ValueError: spandrel has no architecture of this name.
    """
    constructors = load_architectures()
    if name not in constructors:
        near = suggest_architecture(name)
        known = f"did you mean {near!r}?" if near else f"it has {', '.join(sorted(constructors))}."
        raise ValueError(f"spandrel has no architecture {name!r}; {known}")
    return constructors[name]

"""Architectures and published checkpoints from the library spandrel."""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.models.base import Restorer

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

__all__ = ["SPANDREL_PREFIX", "SpandrelModel", "import_spandrel", "load_architectures"]

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
        ValueError: The network does not map RGB to RGB.
    """

    def __init__(
        self, description: "ImageModelDescriptor[Any]", spec: Mapping[str, Any], network: nn.Module | None = None
    ) -> None:
        channels = description.input_channels, description.output_channels
        name = str(description.architecture.id)
        if channels != (3, 3):
            raise ValueError(
                f"{name} has {channels[0]} input and {channels[1]} output channels; networks must map RGB to RGB."
            )
        super().__init__(description.scale, None, spec)
        self.network = description.model if network is None else network
        self.network.train()
        self.size_requirements = description.size_requirements
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
        try:
            with warnings.catch_warnings(action="ignore"):  # deprecation warnings that the user cannot fix
                network = constructor(**arguments)
        except Exception as error:  # architectures raise different exception types
            raise ValueError(f"{name} cannot be built with {arguments}: {error}") from error
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
        output: Tensor = self.call(self.network, self.pad(image))
        return output[..., : height * self.scale, : width * self.scale]

    def pad(self, image: Tensor) -> Tensor:
        """Return the images padded on the right and below to the required sides, reflected as far as possible."""
        if torch.compiler.is_exporting():
            return self._pad_exported(image)
        height, width = image.shape[-2:]
        right, below = self.size_requirements.get_padding(width, height)
        if right or below:
            reflected = min(right, width - 1), min(below, height - 1)
            image = F.pad(image, (0, reflected[0], 0, reflected[1]), mode="reflect")
            image = F.pad(image, (0, right - reflected[0], 0, below - reflected[1]), mode="replicate")
        return image

    def _pad_exported(self, image: Tensor) -> Tensor:
        """Return the images padded as by :meth:`pad`, without a branch on their sides, which are symbols in export."""
        needs = self.size_requirements
        if needs.none:
            return image
        sides = [-(-torch.sym_max(side, needs.minimum) // needs.multiple_of) for side in image.shape[-2:]]
        if needs.square:
            sides = [torch.sym_max(*sides)] * 2  # type: ignore[no-untyped-call]
        for dim, side in zip((-2, -1), sides, strict=True):
            last = image.shape[dim] - 1
            position = torch.arange(side * needs.multiple_of, device=image.device)
            image = image.index_select(dim, (last - (position - last).abs()).clamp(min=0))
        return image


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
        raise ValueError(f"spandrel has no architecture {name!r}; it has {', '.join(sorted(constructors))}.")
    return constructors[name]

"""Networks of other people, by spandrel: some forty architectures, and their published checkpoints."""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.models.base import Restorer

if TYPE_CHECKING:
    from import_spandrel import ImageModelDescriptor

__all__ = ["SpandrelModel"]

SPANDREL_PREFIX = "spandrel:"
SCALES = {"scale", "upscale", "upscaling", "upscaling_factor"}  # as the architectures call it


@final
class SpandrelModel(Restorer):
    """A network that spandrel knows; :meth:`made` builds one from scratch, :meth:`found` recognises one by its weights.

    Images are padded to the sides that the architecture asks for, and cut back. Its scale and channels are those that
    spandrel reads from its weights.

    Args:
        description: spandrel's description of the network.
        spec: What builds it again; without arguments it is recognised by its weights.
        network: The network, if it is another instance than the description's.

    Raises:
        ValueError: It is not from RGB to RGB.
    """

    def __init__(
        self, description: "ImageModelDescriptor[Any]", spec: Mapping[str, Any], network: nn.Module | None = None
    ) -> None:
        channels = description.input_channels, description.output_channels
        name = str(description.architecture.id)
        if channels != (3, 3):
            raise ValueError(
                f"{name} has {channels[0]} channels in and {channels[1]} out; lossmith wants a network from RGB to RGB."
            )
        super().__init__(description.scale, None, spec)
        self.network = description.model if network is None else network
        self.network.train()
        self.sides = description.size_requirements
        self.call = description._call_fn  # the descriptor's own call clips, and keeps no gradient

    @classmethod
    def from_architecture(cls, name: str, scale: int, arguments: Mapping[str, Any]) -> "SpandrelModel":
        """An architecture from scratch.

        Args:
            name: As spandrel calls it, such as "SwinIR" or "RealPLKSR".
            scale: By how much it shall enlarge, for whichever argument of its constructor means that.
            arguments: Its constructor's others, and all of them must be ones that it has.

        Raises:
            ValueError: No such architecture, or arguments that do not fit.
        """
        constructor = architecture(name)
        known = inspect.signature(constructor).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()) and (wrong := set(arguments) - set(known)):
            raise ValueError(f"{name} has no argument {min(wrong)!r}; it has {', '.join(known)}.")
        asked = {n: scale for n in SCALES if n in known and not SCALES & set(arguments)} | dict(arguments)
        try:
            with warnings.catch_warnings(action="ignore"):  # old code warns about what its user cannot change
                network = constructor(**asked)
        except Exception as error:  # each architecture complains in its own way
            raise ValueError(f"{name} cannot be built with {asked}: {error}") from error
        return cls(describe(network.state_dict(), name), {"name": SPANDREL_PREFIX + name, **asked}, network)

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], where: str) -> "SpandrelModel":
        """The network that some weights belong to.

        Raises:
            ValueError: No architecture that spandrel knows has such weights.
        """
        description = describe(state, where)
        return cls(description, {"name": f"{PREFIX}{description.architecture.id}"})

    def forward(self, image: Tensor) -> Tensor:
        """The image restored."""
        height, width = image.shape[-2:]
        answer: Tensor = self.call(self.network, self.pad(image))
        return answer[..., : height * self.scale, : width * self.scale]

    def pad(self, image: Tensor) -> Tensor:
        """The image mirrored to the right and below, as far as it goes, up to the sides of the architecture."""
        height, width = image.shape[-2:]
        right, below = self.sides.get_padding(width, height)
        if right or below:
            mirrored = min(right, width - 1), min(below, height - 1)
            image = F.pad(image, (0, mirrored[0], 0, mirrored[1]), mode="reflect")
            image = F.pad(image, (0, right - mirrored[0], 0, below - mirrored[1]), mode="replicate")
        return image


def import_spandrel() -> Any:
    """The library.

    Raises:
        ValueError: It is missing, or cannot be imported.
    """
    try:
        return importlib.import_module("import_spandrel")
    except ImportError as error:
        raise ValueError(
            f"Networks of other people come through spandrel, which cannot be imported ({error}): "
            "pip install -e '.[train]'."
        ) from error


def describe(state: Mapping[str, Tensor], who: str) -> "ImageModelDescriptor[Any]":
    """spandrel's description of the network that some weights belong to."""
    library = import_spandrel()
    try:
        with warnings.catch_warnings(action="ignore"):  # as above
            description = library.ModelLoader("cpu").load_from_state_dict(dict(state))
    except Exception as error:
        reason = str(error) if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{who}: spandrel knows no architecture with such weights ({reason.splitlines()[0]})."
        ) from error
    if not isinstance(description, library.ImageModelDescriptor):
        raise ValueError(f"{who} is a {description.purpose} network; lossmith wants one from image to image.")
    return description


def load_architectures() -> dict[str, Any]:
    """The constructor of every architecture by its name."""
    import_spandrel()
    rooms = importlib.import_module("spandrel.architectures")
    known: dict[str, Any] = {}
    for room in pkgutil.iter_modules(rooms.__path__):
        if not room.name.startswith("_"):
            module = importlib.import_module(f"{rooms.__name__}.{room.name}")
            known |= {n: getattr(module, n) for n in module.__all__ if not n.endswith("Arch")}
    return known


def architecture(name: str) -> Any:
    """The constructor of an architecture by its name."""
    known = load_architectures()
    if name not in known:
        raise ValueError(f"spandrel has no architecture {name!r}; it has {', '.join(sorted(known))}.")
    return known[name]

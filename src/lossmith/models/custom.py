"""Networks of the user: any module from images to images, trained and restored as the networks of lossmith."""

import inspect
from collections.abc import Mapping
from typing import Any, final

from torch import Tensor, nn

from lossmith.models.base import Network, Restorer
from lossmith.models.spandrel_model import SCALE_ARGUMENTS

__all__ = ["CustomRestorer", "build_custom", "check_network_class", "wrap_network"]


@final
class CustomRestorer(Restorer):
    """A module from images (N, 3, h, w) to images (N, 3, scale h, scale w), RGB in [0, 1].

    Args:
        network: The module; it is not copied.
        scale: Upscaling factor.
        spec: Arguments of :func:`build_network` that build the network, see :class:`Network`.

    Example:
        >>> import torch
        >>> CustomRestorer(nn.Upsample(scale_factor=2), 2, {"name": "upsample"})(torch.rand(1, 3, 4, 5)).shape
        torch.Size([1, 3, 8, 10])
    """

    def __init__(self, network: nn.Module, scale: int, spec: Mapping[str, Any]) -> None:
        super().__init__(scale, None, spec)
        self.network = network

    def forward(self, image: Tensor, **knobs: Any) -> Tensor:
        """Return the restored images.

        Raises:
            ValueError: The module returns no tensor, or a tensor of another shape.
        """
        output = self.network(image, **knobs)
        expected = (*image.shape[:-2], image.shape[-2] * self.scale, image.shape[-1] * self.scale)
        if not isinstance(output, Tensor):
            raise ValueError(f"{self.spec['name']} must return a tensor; got a {type(output).__name__}.")
        if output.shape != expected:
            raise ValueError(
                f"{self.spec['name']} must return {tuple(expected)} for {tuple(image.shape)} at scale {self.scale}; "
                f"got {tuple(output.shape)}."
            )
        return output


def wrap_network(network: nn.Module, scale: int) -> Network:
    """Return a module of the user as a network whose specification names its class.

    Args:
        network: The module; one that is a :class:`Network` is returned as it is.
        scale: Upscaling factor.

    Raises:
        ValueError: The object is no module.
    """
    if isinstance(network, Network):
        return network
    if not isinstance(network, nn.Module):
        raise ValueError(f"The network must be a torch.nn.Module; got {network!r}.")
    kind = type(network)
    return CustomRestorer(network, scale, {"name": f"{kind.__module__}:{kind.__qualname__}"})


def build_custom(constructor: Any, name: str, scale: int, arguments: Mapping[str, Any]) -> Network:
    """Return a network of a registered class, or of a class of another package.

    A constructor with an argument for the scale, such as "scale" or "upscale", is given the scale.

    Args:
        constructor: A subclass of ``torch.nn.Module``, or a function that returns a module.
        name: The name by which the network is rebuilt.
        scale: Upscaling factor.
        arguments: Further arguments of the constructor.

    Raises:
        TypeError: The constructor does not accept an argument.
        ValueError: The constructor returns no module, or raises.
    """
    parameters = inspect.signature(constructor).parameters
    scales = {key: scale for key in SCALE_ARGUMENTS & parameters.keys() if key not in arguments}
    try:
        network = constructor(**scales, **arguments)
    except (TypeError, ValueError):
        raise
    except Exception as error:  # code of the user raises anything
        raise ValueError(f"{name} cannot be built: {type(error).__name__}: {error}") from error
    wrapped = wrap_network(network, scale)
    wrapped.spec = {"name": name, **{k: v for k, v in wrapped.spec.items() if k != "name"}, **arguments}
    return wrapped


def check_network_class(group: str, name: str, found: Any) -> None:
    """Raise ValueError unless an object of an entry point can build a network."""
    if not (issubclass(found, nn.Module) if isinstance(found, type) else callable(found)):
        raise ValueError(f"it must be a subclass of torch.nn.Module; got {found!r}.")

"""The base of losses of another library, by the name that they have there."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.losses.external import External

__all__ = ["LibraryLoss"]


class LibraryLoss(Distance, ABC):
    """A loss of another library; images are clamped to [0, 1], which the libraries require.

    The library defines value and gradient. The loss is not computed in chunks or exactly in tiles, since nothing is
    known of its structure.

    Args:
        name: The name of the loss in its library.
        options: Its options there, by name.
    """

    library: ClassVar[str]
    """The package to install."""
    functions: ClassVar[Mapping[str, Any]]
    """The losses of the library that are differentiable, compare two images and need no download, by name."""
    is_batched: ClassVar[bool]
    """Whether the library returns one value per image."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        check_choice(f"{type(self).__name__} name", name, self.functions)
        self.name, self.options = name, options
        try:
            function = self.build()
        except ImportError as error:
            raise ValueError(
                f"{type(self).__name__} needs the package {self.library!r}, which cannot be imported ({error}): "
                "pip install -e '.[piq]'."
            ) from None
        except (TypeError, AssertionError) as error:
            raise ValueError(f"{self!r}: {str(error).split('() ')[-1] or 'an option is out of range'}.") from None
        self.external = External(function, batched=self.is_batched)

    @abstractmethod
    def build(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the library's function of prediction and target with the options."""

    def load(self, module: str) -> Any:
        """Return the object of the library with this loss's name."""
        return getattr(import_module(module), self.name)

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the library's value of each image, (N,)."""
        is_nan = pred.isnan().flatten(1).any(dim=1) | target.isnan().flatten(1).any(dim=1)  # which the libraries refuse
        pred, target = (_clamp(image.where(~is_nan.view(-1, 1, 1, 1), 0)) for image in (pred, target))
        try:
            return self.external.measure(pred, target).where(~is_nan, torch.nan)
        except (AssertionError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"{self!r} failed on {tuple(pred.shape)}: {(str(error).splitlines() or [''])[0]}"
            ) from error

    def __repr__(self) -> str:
        return repr_of(self, self.name, **self.options)


def _clamp(image: Tensor) -> Tensor:
    """Return an image clamped to [0, 1], with the gradient of black and white pixels, which that of `clamp` lacks."""
    return image.where(image >= 0, 0).where(image <= 1, 1)

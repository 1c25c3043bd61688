"""Restoration at the picture's own size: denoising, deblurring, JPEG repair."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, final, get_args

import torch
from torch import Tensor

from lossmith.data import (
    Pictures,
    Spoilt,
    SpoiltPictures,
    blurred,
    gaussian_kernel,
    gaussian_noise,
    jpeg,
    motion_kernel,
    poisson_noise,
)
from lossmith.tasks.base import Batch, Task

__all__ = ["Deblurring", "Denoising", "JPEGRepair", "Restoration"]

Range = float | Sequence[float]
"""A number, or the ends of a range that each picture's is drawn from."""


class Restoration(Task):
    """A picture that was spoilt and kept its size; its views are "pred", "target", and "input", the spoilt one.

    What was drawn for each picture stands in the batch beside them.
    """

    gives: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline: ClassVar[str] = "input"

    def __init__(self, scale: int = 1) -> None:
        if scale != 1:
            raise ValueError(f"{self.name} keeps a picture's size, scale 1; got {scale!r}.")
        super().__init__(scale)
        self.border = 0

    @abstractmethod
    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One picture (1, 3, H, W) spoilt, "input", and what was drawn for it."""

    def views(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """The restored picture beside the true and the spoilt one."""
        return {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Spoilt:
        """Crops of a side; see :class:`lossmith.data.Spoilt`."""
        return Spoilt(Pictures(files, least=crop), crop, self.degrade, seed=seed)

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> SpoiltPictures:
        """Whole pictures, spoilt alike each time; see :class:`lossmith.data.SpoiltPictures`."""
        return SpoiltPictures(pictures, self.degrade, limit=limit)

    def plain(self, batch: Batch) -> Tensor:
        """The spoilt picture as it is."""
        return batch["input"].clamp(0, 1)


@final
class Denoising(Restoration):
    """Takes noise away.

    Args:
        scale: 1.
        sigma: The Gaussian noise's standard deviation in units of 1/255, or the ends of a range (blind); it is added
            and not clipped, as the papers have it. For "poisson" the photons that a white pixel counts.
        noise: "gaussian" or "poisson".

    Raises:
        ValueError: A number that cannot be, or another noise.
    """

    name: ClassVar[str] = "denoising"
    Noise = Literal["gaussian", "poisson"]

    def __init__(self, scale: int = 1, *, sigma: Range = 25.0, noise: str = "gaussian") -> None:
        super().__init__(scale)
        if noise not in get_args(self.Noise):
            raise ValueError(f"denoising knows the noise {', '.join(get_args(self.Noise))}; got {noise!r}.")
        self.sigma, self.noise = ends(self.name, "sigma", sigma, above=0), noise

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The picture with noise, and its "sigma", (1,)."""
        sigma = between(self.sigma, generator)
        add: Any = gaussian_noise if self.noise == "gaussian" else poisson_noise
        return {"input": add(image, sigma, generator=generator), "sigma": torch.tensor([sigma])}


@final
class Deblurring(Restoration):
    """Takes blur away, of a lens out of focus or of a shaking hand, and the little noise that comes with it.

    Args:
        scale: 1.
        blur: "gaussian" or "motion".
        size: The Gaussian's standard deviation, or the path's length, in pixels: a number or the ends of a range.
        noise: The standard deviation of the noise in units of 1/255.

    Raises:
        ValueError: A number that cannot be, or another blur.
    """

    name: ClassVar[str] = "deblurring"
    Blur = Literal["gaussian", "motion"]

    def __init__(
        self, scale: int = 1, *, blur: str = "gaussian", size: Range | None = None, noise: float = 1.0
    ) -> None:
        super().__init__(scale)
        if blur not in get_args(self.Blur):
            raise ValueError(f"deblurring knows the blur {', '.join(get_args(self.Blur))}; got {blur!r}.")
        usual = (1.0, 3.0) if blur == "gaussian" else (5.0, 20.0)
        self.size = ends(self.name, "size", usual if size is None else size, above=0)
        self.blur, (self.noise, _) = blur, ends(self.name, "noise", noise, least=0)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The picture blurred, and its "size", (1,)."""
        size = between(self.size, generator)
        if self.blur == "gaussian":
            kernel = gaussian_kernel(2 * round(3 * self.size[1]) + 1, size)
        else:
            kernel = motion_kernel(2 * round(self.size[1] / 2) + 3, size, generator=generator)
        spoilt = gaussian_noise(blurred(image, kernel[None]), self.noise, generator=generator)
        return {"input": spoilt.clamp(0, 1), "size": torch.tensor([size])}


@final
class JPEGRepair(Restoration):
    """Takes away what JPEG left: blocks, ringing, lost colour.

    Args:
        scale: 1.
        quality: libjpeg's, 1 to 100, or the ends of a range.

    Raises:
        ValueError: A quality that is none.
    """

    name: ClassVar[str] = "jpeg"

    def __init__(self, scale: int = 1, *, quality: Range = (10.0, 60.0)) -> None:
        super().__init__(scale)
        self.quality = ends(self.name, "quality", quality, least=1, most=100)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The picture compressed, and its "quality", (1,)."""
        quality = float(round(between(self.quality, generator)))
        return {"input": jpeg(image, quality), "quality": torch.tensor([quality])}


def ends(
    who: str, what: str, value: Range, *, above: float | None = None, least: float | None = None, most: float = 1e9
) -> tuple[float, float]:
    """The ends of a range; a number is a range of one.

    Raises:
        ValueError: It is none, or goes beyond what can be.
    """
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in pair)
    low = least if above is None else above
    assert low is not None
    fits = len(pair) == 2 and numbers and low <= pair[0] <= pair[1] <= most and (above is None or pair[0] > above)
    if not fits:
        bound = f"above {low:g}" if above is not None else f"of at least {low:g}"
        upto = f" and at most {most:g}" if most < 1e9 else ""
        raise ValueError(f"{who} wants {what} as a number {bound}{upto}, or a range of two; got {value!r}.")
    return float(pair[0]), float(pair[1])


def between(both: tuple[float, float], generator: torch.Generator) -> float:
    """A number drawn evenly from a range."""
    return both[0] + (both[1] - both[0]) * float(torch.rand(1, generator=generator))

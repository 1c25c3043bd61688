"""Factors that let a term act on a part of the data: on some steps, on some images, or on a window of each image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from lossmith._checks import check_integer, check_number
from lossmith._repr import format_literal
from lossmith.formula.weight import Factor, Weight, WeightValue

__all__ = ["Every", "Part", "Window"]

FactorT = TypeVar("FactorT", bound=Factor)


@dataclass(frozen=True)
class Every(Factor):
    r"""A lazy weight: the term acts in every k-th training step, and its networks rest in between.

    .. math:: s(t) = g \text{ if } t \bmod k = p, \text{ else } 0

    With the default gain :math:`g = k`, the mean of the weighted gradient over steps is that of the term without the
    factor. Adam divides a gradient by its root mean square, so that a term in every k-th step with k times its weight
    is not equal to the plain term; a smaller gain weakens the term. Terms with equal k and phase act in the same steps
    and share the passes of their networks.

    A lazy term needs the training step: ``loss(pred, target, step=step)``. After ``loss.eval()``, the term acts in each
    step with the mean of its weight, :math:`g / k`. A discriminator is trained in each step even if its term is lazy.

    Args:
        k: The number of steps from one to the next in which the term acts, at least 1.
        gain: The factor :math:`g` in these steps; None for k.
        phase: The first of these steps, in [0, k).

    Raises:
        ValueError: An argument is out of range.

    References:
        Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), lazy regularization,
        https://arxiv.org/abs/1912.04958

    Example:
        >>> [Every(3).value_at(t, {}) for t in range(4)]
        [3.0, 0.0, 0.0, 3.0]
    """

    unique_name = "Every"
    k: int
    gain: float | None = None
    phase: int = 0

    def __post_init__(self) -> None:
        check_integer("Every k", self.k, low=1)
        check_integer("Every phase", self.phase, low=0, high=self.k - 1)
        if self.gain is not None:
            check_number("Every gain", self.gain, low=0, open_low=True)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the gain at the steps of the term, 0 in between."""
        return self._gain if step % self.k == self.phase else 0.0

    def mean_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the mean over k steps: 1 with the default gain."""
        return self._gain / self.k

    @property
    def _gain(self) -> float:
        return float(self.k) if self.gain is None else self.gain

    def __repr__(self) -> str:
        gain = "" if self.gain is None else f", gain={format_literal(self.gain)}"
        phase = f", phase={self.phase}" if self.phase else ""
        return f"Every({self.k}{gain}{phase})"


@dataclass(frozen=True)
class Part(Factor):
    r"""A sparse weight: the term is evaluated on a random part of the batch.

    Of N images, :math:`n = \max(1, \operatorname{round}(f N))` neighbours are drawn; every image is equally likely.
    Their values are multiplied by N / n and those of the others are 0, so that the expected mean over the batch is that
    of the whole batch. The images are drawn with PyTorch's random generator; equal fractions draw the same images in a
    step and share the passes of their networks. If another term needs the whole batch from the same network, its pass
    is used.

    A term is sampled in :meth:`lossmith.Loss.forward` unless the loss is in evaluation mode, and in
    :meth:`lossmith.Loss.evaluate` if ``step`` is given.

    Args:
        fraction: The fraction :math:`f` of the images, in (0, 1].

    Raises:
        ValueError: The fraction is out of range.

    Example:
        >>> from lossmith import parse
        >>> loss = parse("L1 + 0.1*Part(0.25)*perceptual('vgg16', weights='random')")
        >>> cost = loss.plan((8, 3, 64, 64))
        >>> [(each.network, each.input_name, each.shape) for each in cost.passes]
        [('vgg16', 'pred', (2, 3, 64, 64)), ('vgg16', 'target', (2, 3, 64, 64))]
    """

    unique_name = "Part"
    fraction: float

    def __post_init__(self) -> None:
        check_number("Part fraction", self.fraction, low=0, high=1, open_low=True)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return 1: the values of the images are weighted instead, where they are drawn."""
        return 1.0

    def count_images(self, batch_size: int) -> int:
        """Return the number of images that are drawn from a batch."""
        return max(1, round(self.fraction * batch_size))

    def __repr__(self) -> str:
        return f"Part({format_literal(self.fraction)})"


@dataclass(frozen=True)
class Window(Factor):
    r"""A sparse weight: the term is evaluated on a random window of each image.

    Each side of the images is divided into equal tiles of about the given size, and one tile is drawn, the same for all
    images of the batch. A term that is a mean over positions is weighted by the tile's part of the image, so that the
    expected value is that of the whole image; a term that is a sum is multiplied by the number of tiles. Through a
    network and in windowed losses such as SSIM, a tile's border counts like an image's border. The value of a statistic
    of the whole image, such as a Gram matrix, is that of a window, and not an estimate of that of the image. Equal
    sizes draw the same window in a step. For the modes in which a term is sampled, see :class:`Part`.

    Args:
        size: The approximate side of a window in pixels; images that are smaller are used whole.

    Raises:
        ValueError: The size is not a positive integer, or at the call the inputs differ in height or width.

    Example:
        >>> [Window(96).split(side) for side in (192, 200, 64)]
        [[0, 96, 192], [0, 100, 200], [0, 64]]
    """

    unique_name = "Window"
    size: int

    def __post_init__(self) -> None:
        check_integer("Window size", self.size, low=1)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return 1: the values of the images are weighted instead, where the window is drawn."""
        return 1.0

    def split(self, side: int) -> list[int]:
        """Return the borders of the tiles along a side, in pixels."""
        count = max(1, round(side / self.size))
        return [i * side // count for i in range(count + 1)]

    def __repr__(self) -> str:
        return f"Window({self.size})"


def find_factor(weight: Weight, kind: type[FactorT]) -> FactorT | None:
    """Return the factor of a class among the factors of a weight; None without one."""
    return next((factor for factor in weight.factors if isinstance(factor, kind)), None)

"""What a distance measures, and the traits by which the engine knows how it may be run."""

from abc import ABC
from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor, nn

__all__ = ["Measure"]


class Measure(nn.Module, ABC):
    """A map from input tensors to one value per image, with the traits that the engine needs to run it.

    The names of the parameters of :attr:`measure` are the inputs that it reads.
    """

    measure: Callable[..., Tensor]
    study: Callable[..., dict[str, Tensor]] | None = None
    """Of a loss with a critic: one step of the critic on the views that `measure` reads, to figures for logs."""
    since: int | None = None
    """Of a loss with a critic: the step from which the critic learns even while the term's weight is 0."""
    papers: ClassVar[tuple[str, ...]] = ()
    """The keys of its sources in `lossmith.citations`."""
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    """Between what its values lie for pictures in [0, 1]; through a lens there is no upper bound."""
    mixes: bool = False
    """Whether the value of one image depends on the others of its batch, as a contrast between them does."""
    mean_preserving: bool = False
    """Whether its minimiser, where many answers are right, is their mean, as that of a squared error is; or it does not
    look at the answer at all. A diffusion step needs the mean at every noise level; what prefers one answer of the many
    is gated to where the signal dominates."""
    opens: ClassVar[float | None] = None
    """The log-SNR from which on such a loss acts, unless a formula says; None for -1.7 through a network, 1 without."""
    frugal: ClassVar[bool] = False
    """Whether its backward pass keeps less than a number a value, so that its gradient is better not kept instead."""
    tiling: ClassVar[Literal["mean", "sum"] | None] = None
    """Whether its value is the mean, or the sum, of the values of the picture's tiles; None if it is neither."""
    bare: ClassVar[frozenset[str]] = frozenset({"mask"})
    """The parameters of `measure` that no lens looks at: masks, and what is no picture, such as latents."""
    pictures: ClassVar[bool] = True
    """Whether the views that it reads are pictures; vectors, latents, logits and attention maps are none."""

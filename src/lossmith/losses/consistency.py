"""Consistency: an enlarged picture, made small again, is the small picture."""

from typing import final, get_args

from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.formula.distance import Distance
from lossmith.lenses.lowpass import Downsample, Kernel

__all__ = ["LRConsistency"]


@final
class LRConsistency(Distance):
    r"""The mean absolute difference of the prediction, made small again, from the small picture that was enlarged.

    .. math:: \frac{1}{C h w} \sum_i \lvert ((k * x) \downarrow_s)_i - z_i \rvert

    It reads "pred" and "input", and no target. Of all that would make a plausible large picture it leaves only what
    agrees with the given one, and so it keeps the colours of a network that invents detail. The kernel must be the one
    that made the input. Where an input was rounded to 8 bits the true picture itself is off by about 0.001.

    The lens :class:`Downsample` would show both views smaller; here only the prediction is.

    References:
        | Improving Resolution by Image Registration (Irani and Peleg, 1991)
        | https://doi.org/10.1016/1049-9652(91)90045-L

    Args:
        scale: The factor; by default what the sizes of the two pictures say.
        kernel: "bicubic", as MATLAB's and all benchmarks' is, or "area" for the mean of each block.

    Raises:
        ValueError: A bad argument, or at the call sizes that do not stand in this proportion.

    Example:
        >>> import torch
        >>> large, small = torch.full((1, 3, 8, 12), 0.5), torch.full((1, 3, 2, 3), 0.25)
        >>> LRConsistency(4)(large, input=small)
        tensor(0.2500)
    """

    papers = ("irani1991",)
    bounds = (0.0, 1.0)

    def __init__(self, scale: int | None = None, kernel: Kernel = "bicubic") -> None:
        super().__init__()
        if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int) or scale < 1):
            raise ValueError(f"LRConsistency wants a whole scale of at least 1; got {scale!r}.")
        if kernel not in get_args(Kernel):
            known = ", ".join(map(quoted, get_args(Kernel)))
            raise ValueError(f"LRConsistency knows the kernels {known}; got {kernel!r}.")
        self.scale = scale
        self.kernel = kernel

    def measure(self, pred: Tensor, input: Tensor) -> Tensor:
        """The distance for each image, (N,)."""
        scale = self.scale or pred.shape[-1] // input.shape[-1]
        if pred.shape != (*input.shape[:-2], *(scale * side for side in input.shape[-2:])):
            raise ValueError(
                f"{self!r} wants a prediction {self.scale or 'a whole number of'} times as large as the input; "
                f"got {tuple(pred.shape)} and {tuple(input.shape)}."
            )
        small = Downsample(scale, self.kernel).smaller(pred)
        return (small - input.detach()).abs().flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        scale = [] if self.scale is None else [self.scale]
        return spelled(self, *scale, kernel=None if self.kernel == "bicubic" else self.kernel)

"""Consistency of an upscaled image with its low-resolution input."""

from collections.abc import Mapping
from typing import final

from torch import Tensor

from lossmith._checks import check_choice, check_integer
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput
from lossmith.lenses.lowpass import Downsample, Kernel

__all__ = ["LRConsistency"]


@final
class LRConsistency(Distance):
    r"""Mean absolute difference of the downscaled prediction and the low-resolution input.

    .. math:: \frac{1}{C h w} \sum_i \lvert ((k * x) \downarrow_s)_i - z_i \rvert

    The inputs are "pred" and "input"; there is no target. The loss excludes all plausible predictions that do not agree
    with the input, and so keeps the colours of a network that generates detail. The kernel must be the one that made
    the input. If the input was rounded to 8 bits, the value of the true image is about 0.001.

    The lens :class:`Downsample` would downscale both inputs; here only the prediction is downscaled.

    References:
        | Improving Resolution by Image Registration (Irani and Peleg, 1991)
        | https://doi.org/10.1016/1049-9652(91)90045-L

    Args:
        scale: The scale factor; by default the ratio of the sizes of the two images.
        kernel: "bicubic" as in MATLAB and all benchmarks, or "area" for the mean of each block.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the sizes do not have this ratio.

    Example:
        >>> import torch
        >>> large, small = torch.full((1, 3, 8, 12), 0.5), torch.full((1, 3, 2, 3), 0.25)
        >>> LRConsistency(4)(large, input=small)
        tensor(0.2500)
    """

    citation_keys = ("irani1991",)
    value_range = (0.0, 1.0)

    def __init__(self, scale: int | None = None, kernel: Kernel = "bicubic") -> None:
        super().__init__()
        self.scale = None if scale is None else check_integer("LRConsistency scale", scale, low=1)
        self.kernel = check_choice("LRConsistency kernel", kernel, Kernel)

    @property
    def example_inputs(self) -> Mapping[str, ExampleInput]:  # type: ignore[override]
        """An input that is `scale` times smaller than the prediction."""
        return {"input": ExampleInput(requires_grad=False, downscale=self.scale or 2)}

    def measure(self, pred: Tensor, input: Tensor) -> Tensor:
        """Compute the distance of each image, (N,)."""
        scale = self.scale or pred.shape[-1] // input.shape[-1]
        if pred.shape != (*input.shape[:-2], *(scale * side for side in input.shape[-2:])):
            raise ValueError(
                f"{self!r} needs a prediction {self.scale or 'an integer number of'} times as large as the input; "
                f"got {tuple(pred.shape)} and {tuple(input.shape)}."
            )
        small = Downsample(scale, self.kernel).downsample(pred)
        return (small - input.detach()).abs().flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        scale = [] if self.scale is None else [self.scale]
        return repr_of(self, *scale, kernel=None if self.kernel == "bicubic" else self.kernel)

"""The measure of a distance, and the traits that tell the engine how to run it."""

from abc import ABC
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from lossmith.formula.example_input import ExampleInput

__all__ = ["Measure"]


class Measure(nn.Module, ABC):
    """A map from input tensors to one value per image, (N,), with the traits that the engine needs to run it.

    The names of the parameters of :attr:`measure` are the inputs that the measure reads.
    """

    measure: Callable[..., Tensor]
    measure_map: Callable[..., Tensor] | None = None
    """For a mean over positions: compute the values before the mean, (N, C or 1, h, w), without a mask."""
    discriminator_step: Callable[..., dict[str, Tensor]] | None = None
    """For an adversarial loss: train the discriminator for one step on the inputs of `measure`, return logs."""
    discriminator_start_step: int | None = None
    """For an adversarial loss: the step from which the discriminator is trained even while the term's weight is 0."""
    discriminator_every: int = 1
    """For an adversarial loss: the number of training steps from one step of the discriminator to the next."""
    citation_keys: ClassVar[tuple[str, ...]] = ()
    """The keys of the papers to cite in `lossmith.citations`, or BibTeX entries."""
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    """The least and largest value for images in [0, 1]; through a lens there is no upper bound."""
    is_batch_dependent: bool = False
    """Whether the value of an image depends on the other images of the batch, as in a contrastive loss."""
    is_mean_seeking: bool = False
    """Whether the minimiser over several possible targets is their mean, as for a squared error, or the loss does not
    depend on the target. A diffusion step needs the mean at every noise level; other losses are gated to the noise
    levels at which the signal dominates."""
    default_gate_logsnr: ClassVar[float | None] = None
    """The log-SNR at which the default gate of a diffusion step opens; None for -1.7 through a network, 1 without."""
    has_compact_backward: ClassVar[bool] = False
    """Whether the backward pass saves less than one number per value, so that saving the gradient would cost more."""
    tiling: ClassVar[Literal["mean", "sum"] | None] = None
    """Whether the value of an image is the mean or the sum of the values of its tiles; None if neither holds."""
    unlensed_inputs: ClassVar[frozenset[str]] = frozenset({"mask"})
    """The parameters of `measure` that bypass the lens: masks, and inputs that are not images, such as latents."""
    compares_channels: ClassVar[bool] = True
    """Whether pred and target must have equal channels, and not only equal height and width."""
    reads_images: ClassVar[bool] = True
    """Whether the inputs are images, and not vectors, latents, logits or attention maps."""
    input_dims: ClassVar[frozenset[int]] = frozenset({4})
    """The numbers of dimensions that an image input may have: 4 for (N, C, H, W); a distance that compares embeddings
    (N, D), of a network or given as inputs, adds 2."""
    example_formula: ClassVar[str | None] = None
    """The text of a formula with the loss, for a loss that needs an argument or a lens; None for the class's name."""
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {}
    """Kind and shape of example inputs by parameter, where the defaults of :meth:`example_input` do not fit."""
    gradient_note: ClassVar[str | None] = None
    """The reason for a gradient that is deliberately not the derivative of the value, such as "the weights are held
    constant, as published"; None for an exact gradient."""

    def example_input(self, parameter: str) -> ExampleInput:
        """Return kind and shape of an example of an input, for checks on made-up tensors.

        Args:
            parameter: A parameter of `measure`.

        Returns:
            The entry of :attr:`example_inputs`; else a mask for "mask", a vector as long as the lens's features for an
            unlensed input, an image for a loss that reads images, and a vector of 16 numbers for another loss.
        """
        if parameter in self.example_inputs:
            return self.example_inputs[parameter]
        if parameter == "mask":
            return ExampleInput("binary", (1, "height", "width"), requires_grad=None)
        requires_grad = parameter != "target"
        if parameter in self.unlensed_inputs:
            return ExampleInput("normal", ("features",), requires_grad=requires_grad)
        if self.reads_images:
            return ExampleInput(requires_grad=requires_grad)
        return ExampleInput("normal", (16,), requires_grad=requires_grad)

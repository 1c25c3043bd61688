"""Contrastive flow matching: the predicted flow of an image differs from the flows of other images."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from lossmith._checks import check_bool
from lossmith._repr import repr_of
from lossmith.distributed import all_gather_with_gradient
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput
from lossmith.losses._info_nce import positive_mask

__all__ = ["ContrastiveFlow"]


@final
class ContrastiveFlow(Distance):
    r"""Negative squared distance of a predicted flow from the flows of the other images of the batch.

    .. math:: -\frac{1}{|J_i|} \sum_{j \in J_i} \frac{1}{D} \lVert \hat v_i - (\epsilon_j - x_j) \rVert^2

    The inputs are ``velocity`` :math:`\hat v`, ``clean`` :math:`x` and ``noise`` :math:`\epsilon`, (N, ...); only the
    velocity receives a gradient. Use it beside a denoising loss of weight 1 with the noise-level weighting of a flow,
    ``DenoisingMSE("flow")`` or ``DenoisingMSE("v", weighting="flow")``, with a weight :math:`w` below 1: the sum then
    has a minimum at :math:`(E[v] - w E[v_j]) / (1 - w)`, the flow moved away from the mean flow of all images by a
    known amount, at every noise level. Beside another weighting, such as min-SNR, it outweighs the denoising loss at
    high or low noise levels, and the sum has no minimum; training warns about it. The authors sample one other image;
    this is the mean over all, the expectation of theirs.

    Two optional inputs are read if ``.on()`` names them: ``groups``, (N,), are numbers: images of one group are not
    negatives of each other, for example images with equal captions; ``conditioned``, (N,), are booleans: an image whose
    caption was hidden from the network has the value 0.

    References:
        | Contrastive Flow Matching (Stoica et al., 2025)
        | https://arxiv.org/abs/2506.05350

    Args:
        gather: Whether the batches of all processes, which must have one size, form one batch.

    Raises:
        ValueError: If `gather` is not a bool; or at the call, if the shapes do not match.

    Example:
        >>> v, x = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
        >>> noise = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> 0.05 * ContrastiveFlow()
        0.05 * ContrastiveFlow()
        >>> ContrastiveFlow().measure(v, x, noise)
        tensor([-4., -1.])
    """

    citation_keys = ("stoica2025",)
    value_range = (-float("inf"), 0.0)
    is_mean_seeking = True
    is_batch_dependent = True
    reads_images = False
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "velocity": ExampleInput("normal"),
        "clean": ExampleInput("normal", requires_grad=False),
        "noise": ExampleInput("normal", requires_grad=False),
        "groups": ExampleInput("uniform", (), requires_grad=False),
    }

    def __init__(self, *, gather: bool = False) -> None:
        super().__init__()
        self.gather = check_bool("ContrastiveFlow gather", gather)

    def measure(
        self,
        velocity: Tensor,
        clean: Tensor,
        noise: Tensor,
        groups: Tensor | None = None,
        conditioned: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of each image, (N,), at most 0."""
        if not velocity.shape == clean.shape == noise.shape:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (velocity, clean, noise))
            raise ValueError(f"{self!r} needs velocity, clean and noise of one shape (N, ...); got {shapes}.")
        n = len(velocity)
        for name, tensor in (("groups", groups), ("conditioned", conditioned)):
            if tensor is not None and tuple(tensor.shape) != (n,):
                raise ValueError(f"{self!r} needs {name} ({n},), one per image; got {tuple(tensor.shape)}.")
        prediction, flows = velocity.flatten(1), (noise - clean).detach().flatten(1)
        flows = all_gather_with_gradient(flows) if self.gather else flows
        _, same_group = positive_mask(n, groups, prediction.device, gather=self.gather)
        weights = (~same_group).to(prediction)
        count = weights.sum(dim=1)
        weights = weights / count.clamp_min(1)[:, None]
        # the mean squared distance, split into the distance from the negatives' mean and their variance
        mean = weights @ flows
        distance = (prediction - mean).square().mean(dim=1) * (count > 0)
        variance = weights @ flows.square().mean(dim=1) - mean.square().mean(dim=1)
        value = -(distance + variance)
        return value if conditioned is None else torch.where(conditioned, value, 0)

    def __repr__(self) -> str:
        return repr_of(self, gather=self.gather or None)

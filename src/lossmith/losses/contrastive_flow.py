"""Contrastive flow matching: the flow of one picture is not that of another."""

from typing import final

import torch
from torch import Tensor

from lossmith._repr import spelled
from lossmith.distributed import gathered
from lossmith.formula.distance import Distance
from lossmith.losses.contrastive import kin
from lossmith.losses.cosine import check_switches

__all__ = ["ContrastiveFlow"]


@final
class ContrastiveFlow(Distance):
    r"""How far a predicted flow is from those of the other pictures of the batch; it rewards distance, hence the sign.

    .. math:: -\frac{1}{|J_i|} \sum_{j \in J_i} \frac{1}{D} \lVert \hat v_i - (\epsilon_j - x_j) \rVert^2

    It reads ``velocity`` :math:`\hat v`, ``clean`` :math:`x` and ``noise`` :math:`\epsilon`, (N, ...); the velocity
    alone learns. Beside a denoising loss of weight 1 that weighs levels as a flow does, ``Denoising("flow")`` or
    ``Denoising("v", weighting="flow")``, it wants a weight :math:`w` of less than 1, where the sum still has a least
    value: :math:`(E[v] - w E[v_j]) / (1 - w)`, the flow moved away from the mean flow of all pictures by a known
    amount, at every noise level. Beside another weighting, min-SNR's at least, it outweighs the denoising where there
    is much noise, or little, and the sum has none; a training warns of it. The authors draw one other picture; this is
    the mean over all, to which theirs comes.

    Two more views count where ``.on()`` names them: ``groups``, (N,), numbers: pictures of one number are no negatives
    of each other, as those with equal captions are none; and ``conditioned``, (N,), truth values: a picture that was
    shown to the network without its text gives 0.

    References:
        | Contrastive Flow Matching (Stoica et al., 2025)
        | https://arxiv.org/abs/2506.05350

    Args:
        gather: Whether the batches of all processes, which must be of one size, are one batch.

    Raises:
        ValueError: `gather` is no truth value, or at the call views that do not fit each other.

    Example:
        >>> v, x = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
        >>> noise = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> 0.05 * ContrastiveFlow()
        0.05 * ContrastiveFlow()
        >>> ContrastiveFlow().measure(v, x, noise)
        tensor([-4., -1.])
    """

    papers = ("stoica2025",)
    bounds = (-float("inf"), 0.0)
    mean_preserving = True
    mixes = True
    pictures = False

    def __init__(self, *, gather: bool = False) -> None:
        super().__init__()
        check_switches("ContrastiveFlow", gather=gather)
        self.gather = gather

    def measure(
        self,
        velocity: Tensor,
        clean: Tensor,
        noise: Tensor,
        groups: Tensor | None = None,
        conditioned: Tensor | None = None,
    ) -> Tensor:
        """How near each flow is to those of others, (N,), negative."""
        if not velocity.shape == clean.shape == noise.shape:
            shapes = ", ".join(str(tuple(view.shape)) for view in (velocity, clean, noise))
            raise ValueError(f"{self!r} wants velocity, clean and noise of one shape (N, ...); got {shapes}.")
        for name, view in (("groups", groups), ("conditioned", conditioned)):
            if view is not None and tuple(view.shape) != (len(velocity),):
                raise ValueError(f"{self!r} wants {name} ({len(velocity)},), one an image; got {tuple(view.shape)}.")
        flow, others = velocity.flatten(1), (noise - clean).detach().flatten(1)
        others = gathered(others) if self.gather else others
        _, alike = kin(len(flow), groups, flow.device, gather=self.gather)
        share = (~alike).to(flow)
        count = share.sum(dim=1)
        share = share / count.clamp_min(1)[:, None]
        # the squares of the distances from the mean of the others, and of these from each other
        mean = share @ others
        apart = (flow - mean).square().mean(dim=1) * (count > 0)
        spread = share @ others.square().mean(dim=1) - mean.square().mean(dim=1)
        value = -(apart + spread)
        return value if conditioned is None else torch.where(conditioned, value, 0)

    def __repr__(self) -> str:
        return spelled(self, gather=self.gather or None)

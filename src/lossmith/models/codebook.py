"""Vector quantisation: each latent vector is replaced by the nearest entry of a learned codebook."""

from typing import NamedTuple, final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.distributed import all_reduce_sum, rank_and_world_size

__all__ = ["Codebook", "QuantizedLatents"]

USAGE_DECAY = 0.99
"""Decay of the usage statistics in one training pass."""
DEAD_SHARE = 0.03
"""Share of the uniform usage below which an entry is dead; an unused entry falls below it after 350 passes."""


@final
class QuantizedLatents(NamedTuple):
    """The output of a codebook for latents (N, D, h, w)."""

    straight_through: Tensor
    """The codes, (N, D, h, w), with the straight-through gradient to the latents."""
    codes: Tensor
    """The codes, (N, D, h, w), with their gradient to the codebook."""
    indices: Tensor
    """Indices of the codes, (N, h, w)."""


@final
class Codebook(nn.Module):
    r"""Replaces the latent vector at each position by the nearest entry.

    .. math:: e_{k(z)}, \quad k(z) = \arg\min_k \lVert z - e_k \rVert^2

    The entries are parameters; :class:`lossmith.losses.VQCommitment` on latents and codes trains them. In training
    mode, an entry that has hardly been used for about 350 passes is dead and is moved to a random latent of the batch.
    All entries are dead at first, so that training begins with entries at latents. In distributed training all
    processes have the same entries; dead entries move to latents of the first process.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
        | Jukebox: A Generative Model for Music (Dhariwal et al., 2020), for the restart of dead codes
        | https://arxiv.org/abs/2005.00341

    Args:
        size: Number of entries.
        channels: Length of an entry.
    """

    usage: Tensor
    revived: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(size, channels))
        self.register_buffer("usage", torch.zeros(size))  # running mean of the share of positions that use each entry
        self.register_buffer("revived", torch.zeros((), dtype=torch.long))

    def forward(self, latents: Tensor) -> QuantizedLatents:
        """Return the nearest entries of latents (N, D, h, w)."""
        with torch.autocast(latents.device.type, enabled=False):  # half precision would select other entries
            exact = latents.float()
            vectors = exact.permute(0, 2, 3, 1).flatten(0, 2)
            with torch.no_grad():
                if self.training:
                    self.restart_dead_entries(vectors)
                distances = self.entries.square().sum(dim=1) - 2 * vectors @ self.entries.t()
                flat_indices = distances.argmin(dim=1)
                if self.training:
                    self.update_usage(flat_indices)
            indices = flat_indices.view(latents.shape[0], *latents.shape[2:])  # len() is no symbol in torch.export
            codes = F.embedding(indices, self.entries).permute(0, 3, 1, 2)
            return QuantizedLatents(exact + (codes - exact).detach(), codes, indices)

    @torch.no_grad()
    def restart_dead_entries(self, vectors: Tensor) -> None:
        """Move dead entries to randomly drawn latent vectors (M, D) of the batch."""
        size = len(self.entries)
        drawn = vectors[torch.randint(len(vectors), (size,), device=vectors.device)]
        if rank_and_world_size()[1] > 1:
            dist.broadcast(drawn, 0)
        is_dead = (self.usage < DEAD_SHARE / size) & drawn.isfinite().all(dim=1)
        self.entries.copy_(torch.where(is_dead[:, None], drawn, self.entries))
        self.usage.copy_(torch.where(is_dead, 1 / size, self.usage))
        self.revived += is_dead.sum()

    @torch.no_grad()
    def update_usage(self, indices: Tensor) -> None:
        """Update the running share of each entry with the indices (M,) of a batch."""
        ones = torch.ones_like(indices, dtype=torch.float)
        counts = all_reduce_sum(torch.zeros_like(self.usage).scatter_add_(0, indices, ones))
        self.usage.mul_(USAGE_DECAY).add_(counts / counts.sum(), alpha=1 - USAGE_DECAY)

    def usage_metrics(self) -> dict[str, Tensor]:
        """Return scalars: the perplexity of the usage, the number of entries in use, and the number of restarts."""
        share = self.usage / self.usage.sum().clamp_min(1e-12)
        entropy = -torch.special.xlogy(share, share).sum()
        used = (self.usage >= DEAD_SHARE / len(self.usage)).sum()
        return {"perplexity": entropy.exp(), "codes": used, "revived": self.revived}

"""A codebook: each vector is replaced by the nearest of a few hundred that are learnt."""

from typing import NamedTuple, final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.distributed import rank_and_world_size, all_reduce_sum

__all__ = ["Codebook", "QuantizedLatents"]

DECAY = 0.99  # of the usage, a training pass
DEAD = 0.03  # of an even share; a code that nobody chooses falls below that after 350 passes


@final
class QuantizedLatents(NamedTuple):
    """What a codebook makes of latents (N, D, h, w)."""

    straight: Tensor
    """The codes, whose gradient goes to the latents as if nothing had happened."""
    codes: Tensor
    """The same codes with a gradient of their own, to the codebook."""
    indices: Tensor
    """Which they are, (N, h, w)."""


@final
class Codebook(nn.Module):
    r"""Replaces the latents at each place by the nearest entry.

    .. math:: e_{k(z)}, \quad k(z) = \arg\min_k \lVert z - e_k \rVert^2

    The entries are parameters, which a :class:`lossmith.VQCommitment` on latents and codes trains. In training mode an
    entry that has hardly been chosen for some 350 passes is dead, and moves to where a latent of the batch lies; at
    first all are, so that training begins with entries that are latents. On several processes, all have the same
    entries: those that move go to latents of the first.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
        | Jukebox: A Generative Model for Music (Dhariwal et al., 2020), for codes that begin again
        | https://arxiv.org/abs/2005.00341

    Args:
        size: The number of entries.
        channels: The length of each.
    """

    usage: Tensor
    revived: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(size, channels))
        self.register_buffer("usage", torch.zeros(size))  # the share of places that choose each, a running mean
        self.register_buffer("revived", torch.zeros((), dtype=torch.long))

    def forward(self, latents: Tensor) -> QuantizedLatents:
        """The nearest entries."""
        with torch.autocast(latents.device.type, enabled=False):  # half precision would choose others
            exact = latents.float()
            places = exact.permute(0, 2, 3, 1).flatten(0, 2)
            with torch.no_grad():
                if self.training:
                    self.revive(places)
                distances = self.entries.square().sum(dim=1) - 2 * places @ self.entries.t()
                indices = distances.argmin(dim=1)
                if self.training:
                    self.count(indices)
            chosen = indices.view(len(latents), *latents.shape[2:])
            codes = F.embedding(chosen, self.entries).permute(0, 3, 1, 2)
            return QuantizedLatents(exact + (codes - exact).detach(), codes, chosen)

    @torch.no_grad()
    def revive(self, places: Tensor) -> None:
        """Moves dead entries to latents of the batch, which are drawn at random."""
        size = len(self.entries)
        chosen = places[torch.randint(len(places), (size,), device=places.device)]
        if rank_and_world_size()[1] > 1:
            dist.broadcast(chosen, 0)
        dead = (self.usage < DEAD / size) & chosen.isfinite().all(dim=1)
        self.entries.copy_(torch.where(dead[:, None], chosen, self.entries))
        self.usage.copy_(torch.where(dead, 1 / size, self.usage))
        self.revived += dead.sum()

    @torch.no_grad()
    def count(self, indices: Tensor) -> None:
        """Follows how often each entry is chosen."""
        ones = torch.ones_like(indices, dtype=torch.float)
        counts = all_reduce_sum(torch.zeros_like(self.usage).scatter_add_(0, indices, ones))
        self.usage.mul_(DECAY).add_(counts / counts.sum(), alpha=1 - DECAY)

    def usage_metrics(self) -> dict[str, Tensor]:
        """Scalars: how many entries are in use, as the exponential of their entropy and by number; and the revived."""
        share = self.usage / self.usage.sum().clamp_min(1e-12)
        entropy = -torch.special.xlogy(share, share).sum()
        used = (self.usage >= DEAD / len(self.usage)).sum()
        return {"perplexity": entropy.exp(), "codes": used, "revived": self.revived}

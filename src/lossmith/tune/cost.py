"""The cost of a training step, counted without training: operations of the network and of the loss."""

import json
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from lossmith.models import build_network
from lossmith.parser import parse
from lossmith.train import Settings

__all__ = ["count_step_operations"]


def count_step_operations(settings: Settings) -> float:
    """Return the floating-point operations of a training step, forward and backward, on average over steps.

    The operations are those of the trained network and of the networks of the loss, see
    :class:`lossmith.formula.cost.CostPlan`. Discriminators, the optimizer and the loading of data are not counted.

    Args:
        settings: The settings of the training.

    Raises:
        ValueError: The formula or the network is invalid.
    """
    network = _count_network_operations(json.dumps(dict(settings.model)), settings.scale, settings.crop)
    channels = 3 if settings.channels is None else settings.channels
    return settings.batch * network + _count_loss_operations(settings.loss, settings.batch, channels, settings.crop)


@lru_cache(maxsize=256)
def _count_loss_operations(formula: str, batch: int, channels: int, crop: int) -> float:
    plan = parse(formula).plan((batch, channels, crop, crop))
    return plan.mean_forward_flops + plan.mean_backward_flops


@lru_cache(maxsize=16)
def _count_network_operations(model: str, scale: int, crop: int) -> float:
    """Return the operations for one image, for the network of a JSON text."""
    with torch.random.fork_rng(devices=[]):
        network = build_network(**{"scale": scale, **json.loads(model)})
        image = torch.rand(1, network.in_channels, crop // scale, crop // scale)
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    return float(counter.get_total_flops())

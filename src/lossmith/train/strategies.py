"""How several processes share the work of a training: each with the whole network, or with a shard of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, final

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

from lossmith._checks import check_choice

__all__ = ["Strategy", "build_strategy", "match_strides", "shard_network", "unsharded"]

Strategy = Literal["auto", "ddp", "fsdp"]


def build_strategy(name: Strategy, processes: int, precision: str) -> "str | ShardedStrategy":
    """Return the strategy of Lightning's trainer.

    Args:
        name: "auto" for one process or DDP; "ddp" for copies of the network; "fsdp" for shards of the network, its
            gradients and the state of its optimizer.
        processes: The number of processes on all machines.
        precision: The precision of the training.

    Raises:
        ValueError: The network cannot be sharded.
    """
    check_choice("strategy", name, Strategy)
    if name != "fsdp":
        return name
    if processes < 2:
        raise ValueError("The strategy fsdp needs at least 2 processes; got 1. Use --devices 2, or --strategy auto.")
    if precision not in ("32", "bf16-mixed"):
        raise ValueError(f"The strategy fsdp trains with precision 32 or bf16-mixed; got {precision}.")
    return ShardedStrategy(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)


@final
class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 with checkpoints of one file, which runs of all strategies read.

    Lightning's own numbers the optimizer's parameters among those of the whole module.
    """

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the whole state of an optimizer in the form of ``Optimizer.state_dict``; empty past rank 0."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        assert self.model is not None
        state: dict[str, Any] = get_optimizer_state_dict(self.model, optimizer, options=options)  # type: ignore[assignment]
        if self.global_rank:
            return {}
        numbers = {name: i for i, name in enumerate(n for group in state["param_groups"] for n in group["params"])}
        groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
        return {"state": {numbers[name]: each for name, each in state["state"].items()}, "param_groups": groups}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Load the weights and the states of the optimizers, each process its shard; return the checkpoint."""
        checkpoint: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        options = StateDictOptions(full_state_dict=True)
        assert self.model is not None
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            ordered = [names[id(weight)] for group in optimizer.param_groups for weight in group["params"]]
            named = _with_names(state, ordered)
            set_optimizer_state_dict(self.model, optimizer, named, options=options)
        return checkpoint


def _with_names(state: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the state of an optimizer with the names of its parameters in place of their numbers."""
    groups = [{**group, "params": [names[i] for i in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[i]: each for i, each in state["state"].items()}, "param_groups": groups}


def match_strides(optimizer: Optimizer) -> None:
    """Give the states of an optimizer the strides of their parameters, which fused optimizers assume.

    Checkpoints of a sharded network, whose tensors are contiguous, and of a whole one in channels_last differ in them.
    """
    for weight, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the parameters of a network over the processes of a mesh, gathered block by block in each pass.

    The blocks are the members of the network's outermost lists.
    """
    network.to(memory_format=torch.contiguous_format)  # FSDP2 shards contiguous parameters
    for block in _outermost_blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _outermost_blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if any(True for _ in block.parameters()))
        else:
            yield from _outermost_blocks(child)


@contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """Gather the parameters of a sharded network for the block; all processes must call this."""
    shards = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            module.reshard()

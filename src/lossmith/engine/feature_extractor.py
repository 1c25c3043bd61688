"""Extraction of intermediate outputs from a module of any form, without running anything beyond the deepest one.

A forward hook on each requested submodule records its output, and the last hook ends the pass. The hooks are on a copy
of the module's structure that shares its weights, so that one network can serve several extractors.
"""

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import isqrt
from threading import RLock
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lossmith.engine.low_memory_ops import LowMemoryOps
from lossmith.engine.second_derivatives import is_transformed, outside_transforms

__all__ = ["FeatureExtractor", "LayerInfo", "inspect_layers"]


@dataclass(frozen=True)
class LayerInfo:
    """The format of a submodule's output.

    Args:
        form: (N, C, H, W); (N, H, W, C); "tokens" (N, L, C), those of a grid after some prefix tokens; a "vector"
            (N, C); or "rows" (N, L, C) that are no grid.
        stride: Pixels per token.
        prefix_tokens: The number of class and register tokens before the grid.
        overwritten: Whether a later in-place operation, such as a ReLU, overwrites the output.
    """

    form: Literal["NCHW", "NHWC", "tokens", "vector", "rows"]
    stride: int
    prefix_tokens: int
    overwritten: bool

    def to_nchw(self, features: Tensor, height: int, width: int) -> Tensor:
        """Return the output for an image of this size as (N, C, H, W); rows are returned as they are."""
        if self.form == "NHWC":
            return features.permute(0, 3, 1, 2)
        if self.form == "vector":
            return features[:, :, None, None]
        if self.form == "tokens":
            grid = features[:, self.prefix_tokens :].transpose(1, 2)
            rows = -(-height // self.stride)
            if grid.shape[2] != rows * -(-width // self.stride):
                rows = height // self.stride  # the remainder was cropped, not padded
            return grid.reshape(*grid.shape[:2], rows, -1)
        return features


def inspect_layers(model: nn.Module, image_size: int) -> dict[str, LayerInfo]:
    """Return the output formats of all submodules of a module on the meta device, in the order of their calls.

    Repeated calls of a submodule get the suffixes "_1", "_2", ...

    Args:
        model: A module that takes (N, 3, image_size, image_size).
        image_size: The side of its images in pixels.
    """
    names = {name for name, _ in model.named_modules()}
    calls: dict[str, int] = {}
    outputs: dict[str, tuple[Tensor, int]] = {}

    def record(name: str, module: nn.Module, args: Any, output: Any) -> None:
        key = _next_call_name(name, calls)
        is_unambiguous = key == name or key not in names
        if is_unambiguous and isinstance(output, Tensor) and output.is_floating_point() and 1 < output.dim() < 5:
            outputs[key] = output, output._version

    hooks = [part.register_forward_hook(partial(record, name)) for name, part in model.named_modules() if name]
    try:
        with outside_transforms():
            model(torch.empty(2, 3, image_size, image_size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    prefix_tokens = int(getattr(model, "num_prefix_tokens", hasattr(model, "class_token")))
    return {
        name: LayerInfo(*_infer_form(output.shape, image_size, prefix_tokens), overwritten=output._version != version)
        for name, (output, version) in outputs.items()
        if len(output) == 2
    }


class FeatureExtractor:
    """A function from images to the outputs of some submodules, which runs nothing beyond the deepest of them.

    Args:
        model: The frozen module; it is not modified.
        layers: The names of submodules, with their formats from :func:`inspect_layers`.
        recompute: Whether the backward pass recomputes each block from its input (activation checkpointing).
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, LayerInfo], *, recompute: bool = False) -> None:
        tensors = [*model.parameters(), *model.buffers()]
        self.model = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
        self.layers = layers
        self._outputs: dict[str, Tensor] | None = None  # None outside a pass
        self._calls: dict[str, int] = {}
        self._lock = RLock()
        for name, part in self.model.named_modules():
            if any(layer == name or layer.startswith(f"{name}_") for layer in layers):
                part.register_forward_hook(partial(self._record, name))
        for block in _find_blocks(self.model) if recompute else ():
            block.forward = partial(self._forward_checkpointed, block.forward)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the outputs by layer name, in the module's own format."""
        with nullcontext() if torch.compiler.is_compiling() else self._lock:
            self._outputs, self._calls = {}, {}
            try:
                with self._low_memory(image):
                    self.model(image)
            except _AllRecorded:
                pass
            finally:
                outputs, self._outputs = self._outputs, None
        return outputs

    def _record(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        if self._outputs is None:  # a block is recomputed in the backward pass
            return
        key = _next_call_name(name, self._calls)
        if key in self.layers:
            self._outputs[key] = output.clone() if self.layers[key].overwritten else output
            if len(self._outputs) == len(self.layers):
                raise _AllRecorded

    def _forward_checkpointed(self, forward: Any, *args: Any, **kwargs: Any) -> Any:
        # a compiler chooses what to recompute
        if torch.compiler.is_compiling() or is_transformed() or not torch.is_grad_enabled():
            return forward(*args, **kwargs)

        def block(*args: Any, **kwargs: Any) -> Any:
            with LowMemoryOps() if self._outputs is None else nullcontext():
                try:
                    return forward(*args, **kwargs)
                except _AllRecorded:  # must not propagate through the checkpoint
                    return None

        output = checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
        if self._outputs is not None and len(self._outputs) == len(self.layers):
            raise _AllRecorded
        return output

    def _low_memory(self, image: Tensor) -> AbstractContextManager[Any]:
        has_backward = torch.is_grad_enabled() and image.requires_grad and not torch.compiler.is_compiling()
        return LowMemoryOps() if has_backward else nullcontext()


class _AllRecorded(Exception):
    """Signal that all requested outputs are recorded."""


def _next_call_name(name: str, calls: dict[str, int]) -> str:
    """Count a call of a submodule, and return the name of this call."""
    count = calls.get(name, 0)
    calls[name] = count + 1
    return f"{name}_{count}" if count else name


def _infer_form(shape: torch.Size, image_size: int, prefix_tokens: int) -> tuple[Any, int, int]:
    if len(shape) == 4:
        is_channels_last = shape[1] == shape[2] != shape[3]
        return ("NHWC" if is_channels_last else "NCHW"), 1, 0
    if len(shape) == 2:
        return "vector", 1, 0
    for prefix in (prefix_tokens, 0):
        tokens = shape[1] - prefix
        if tokens > 0 and isqrt(tokens) ** 2 == tokens:
            return "tokens", max(image_size // isqrt(tokens), 1), prefix
    return "rows", 1, 0


def _find_blocks(module: nn.Module, limit: float | None = None) -> list[nn.Module]:
    """Return the largest submodules for activation checkpointing: no containers, and at most half of the network."""
    limit = _count_parameters(module) / 2 if limit is None else limit
    blocks: list[nn.Module] = []
    for child in module.children():
        if type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) or _count_parameters(child) > limit:
            blocks += _find_blocks(child, limit)
        elif next(child.children(), None) is not None:
            blocks.append(child)
    return blocks


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

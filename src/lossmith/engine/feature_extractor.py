"""Looking into a module of any form: what its parts give, as deep as is asked and no deeper.

A hook on each part that is asked for takes what the part gives, and the last one ends the pass. All works on a copy of
the module's structure that shares its weights, so that one network can be looked at in many ways.
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

from lossmith.engine.low_memory_ops import Frugal

__all__ = ["Layer", "Tapped", "survey"]


@dataclass(frozen=True)
class Layer:
    """What is known of a part's output.

    Args:
        form: How it lies: (N, C, H, W); (N, H, W, C); tokens (N, L, C), those of a grid behind some others; a vector
            (N, C); or rows (N, L, C) in which there is no grid.
        stride: Pixels to a token.
        others: How many tokens come before the grid: class tokens and registers.
        overwritten: Whether a later part writes over it, as a ReLU in place does.
    """

    form: Literal["NCHW", "NHWC", "tokens", "vector", "rows"]
    stride: int
    others: int
    overwritten: bool

    def shown(self, features: Tensor, height: int, width: int) -> Tensor:
        """The output as (N, C, H, W), for a picture of a size; rows stay as they are."""
        if self.form == "NHWC":
            return features.permute(0, 3, 1, 2)
        if self.form == "vector":
            return features[:, :, None, None]
        if self.form == "tokens":
            grid = features[:, self.others :].transpose(1, 2)
            high = -(-height // self.stride)
            if grid.shape[2] != high * -(-width // self.stride):
                high = height // self.stride  # what is left over was cut, not padded
            return grid.reshape(*grid.shape[:2], high, -1)
        return features


def survey(model: nn.Module, side: int) -> dict[str, Layer]:
    """What a module on the meta device has to show, in the order in which a picture meets it.

    A part that is called again has "_1", "_2", ... behind its name.

    Args:
        model: It takes (N, 3, side, side).
        side: The side of its pictures in pixels.
    """
    names = {name for name, _ in model.named_modules()}
    calls: dict[str, int] = {}
    notes: dict[str, tuple[Tensor, int]] = {}

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        key = _called(name, calls)
        own = key == name or key not in names
        if own and isinstance(output, Tensor) and output.is_floating_point() and 1 < output.dim() < 5:
            notes[key] = output, output._version

    hooks = [part.register_forward_hook(partial(note, name)) for name, part in model.named_modules() if name]
    try:
        with torch.inference_mode(False), torch.no_grad():
            model(torch.empty(2, 3, side, side, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    others = int(getattr(model, "num_prefix_tokens", hasattr(model, "class_token")))
    return {
        name: Layer(*_form(output.shape, side, others), overwritten=output._version != version)
        for name, (output, version) in notes.items()
        if len(output) == 2
    }


class Tapped:
    """A module that gives what some of its parts give, and runs nothing beyond the deepest of them.

    Args:
        model: The module, frozen; nothing in it is changed.
        layers: The parts' names, and what :func:`survey` knows of them.
        recompute: Whether the backward pass computes each block again instead of keeping what happened in it.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, Layer], *, recompute: bool = False) -> None:
        tensors = [*model.parameters(), *model.buffers()]
        self.model = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
        self.layers = layers
        self.seen: dict[str, Tensor] | None = None  # while no pass is on
        self.calls: dict[str, int] = {}
        self.lock = RLock()
        for name, part in self.model.named_modules():
            if any(layer == name or layer.startswith(f"{name}_") for layer in layers):
                part.register_forward_hook(partial(self._take, name))
        for block in _blocks(self.model) if recompute else ():
            block.forward = partial(self._recomputed, block.forward)

    def __call__(self, picture: Tensor) -> dict[str, Tensor]:
        """What the parts give, by name, each as the module has it."""
        with nullcontext() if torch.compiler.is_compiling() else self.lock:
            self.seen, self.calls = {}, {}
            try:
                with self._frugal(picture):
                    self.model(picture)
            except _Enough:
                pass
            finally:
                seen, self.seen = self.seen, None
        return seen

    def _take(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        if self.seen is None:  # a block is computed again
            return
        key = _called(name, self.calls)
        if key in self.layers:
            self.seen[key] = output.clone() if self.layers[key].overwritten else output
            if len(self.seen) == len(self.layers):
                raise _Enough

    def _recomputed(self, forward: Any, *args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():  # a compiler chooses for itself
            return forward(*args, **named)

        def block(*args: Any, **named: Any) -> Any:
            with Frugal() if self.seen is None else nullcontext():
                try:
                    return forward(*args, **named)
                except _Enough:  # which must not leave the checkpoint half way
                    return None

        output = checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False, **named)
        if self.seen is not None and len(self.seen) == len(self.layers):
            raise _Enough
        return output

    def _frugal(self, picture: Tensor) -> AbstractContextManager[Any]:
        keeps = torch.is_grad_enabled() and picture.requires_grad and not torch.compiler.is_compiling()
        return Frugal() if keeps else nullcontext()


class _Enough(Exception):
    """All that was asked for has been seen."""


def _called(name: str, calls: dict[str, int]) -> str:
    """The name of this call of a part, which is counted."""
    count = calls.get(name, 0)
    calls[name] = count + 1
    return f"{name}_{count}" if count else name


def _form(shape: torch.Size, side: int, others: int) -> tuple[Any, int, int]:
    if len(shape) == 4:
        last = shape[1] == shape[2] != shape[3]
        return ("NHWC" if last else "NCHW"), 1, 0
    if len(shape) == 2:
        return "vector", 1, 0
    for before in (others, 0):
        cells = shape[1] - before
        if cells > 0 and isqrt(cells) ** 2 == cells:
            return "tokens", max(side // isqrt(cells), 1), before
    return "rows", 1, 0


def _blocks(part: nn.Module, half: float | None = None) -> list[nn.Module]:
    """The largest parts worth to be computed again one by one: neither rows of others, nor half of the network."""
    half = _size(part) / 2 if half is None else half
    blocks: list[nn.Module] = []
    for child in part.children():
        if type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) or _size(child) > half:
            blocks += _blocks(child, half)
        elif next(child.children(), None) is not None:
            blocks.append(child)
    return blocks


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())

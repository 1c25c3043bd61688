"""A network as a graph of torch.export: symbolic height, width and batch, and an input for each knob."""

import contextlib
import copy
import inspect
import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from lossmith._checks import check_number
from lossmith.models import Network, Restorer
from lossmith.models.spandrel_model import SpandrelModel

__all__ = [
    "KnobInput",
    "TracedNetwork",
    "check_fixed_knobs",
    "describe_network",
    "knob_ranges",
    "quiet",
    "trace_network",
]

KnobInput = Literal["image", "map"]

EXAMPLE_SHAPE = (2, 40, 56)
"""Batch, height and width of the traced example: unequal, not 1, and multiples of the windows of most networks."""


@final
@dataclass(frozen=True)
class TracedNetwork:
    """A network and its graph.

    Args:
        model: The network, in eval mode on the CPU.
        program: The graph, with the input "image" and one input for each knob.
        knob_input: Kind of the knob inputs: "image", one number for each image, or "map".
        fixed_knobs: Knob values that are constants of the graph.
        has_dynamic_batch: Whether the batch size is free; else it is 1.
        half: Whether the graph computes in float16.
    """

    model: Restorer
    program: ExportedProgram
    knob_input: KnobInput
    fixed_knobs: Mapping[str, float]
    has_dynamic_batch: bool
    half: bool = False

    @property
    def knobs(self) -> dict[str, tuple[float, float]]:
        """The range of each knob that is an input of the graph."""
        return {} if self.fixed_knobs else knob_ranges(self.model)

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs of the graph."""
        return ["image", *self.knobs]

    def dynamic_axes(self) -> tuple[Any, ...]:
        """Return the name of each symbolic axis, for each argument of the graph."""
        image = {2: "height", 3: "width"} | ({0: "batch"} if self.has_dynamic_batch else {})
        knob = {0: "knob_batch"} if self.has_dynamic_batch else {}
        if self.knob_input == "map":
            knob |= {2: "height", 3: "width"}
        return (image, tuple(knob for _ in self.knobs)) if self.knobs else (image,)


class _KnobArguments(nn.Module):
    """A network whose knobs are positional arguments, limited to their ranges, and which takes and returns float32."""

    def __init__(
        self,
        model: Restorer,
        knobs: Mapping[str, tuple[float, float]],
        fixed: Mapping[str, float],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.model, self.knobs, self.fixed, self.dtype = model, dict(knobs), dict(fixed), dtype

    def forward(self, image: Tensor, *values: Tensor) -> Tensor:
        """Return the restored images."""
        pairs = zip(self.knobs.items(), values, strict=True)
        knobs = {name: value.clamp(low, high).to(self.dtype) for (name, (low, high)), value in pairs}
        restored: Tensor = self.model(image.to(self.dtype), **self.fixed, **knobs)
        return restored.float()


def trace_network(
    model: Network,
    *,
    knob_input: KnobInput = "image",
    fixed_knobs: Mapping[str, float] | None = None,
    half: bool = False,
) -> TracedNetwork:
    """Return the graph of a network.

    The batch size is free unless the network's code depends on it; then it is 1.

    Args:
        model: The network; it is copied.
        knob_input: Kind of the knob inputs: "image" for one number for each image, (N,), or "map", (N, 1, H, W).
        fixed_knobs: Values of all knobs, which become constants of the graph.
        half: Whether the graph computes in float16.

    Raises:
        ValueError: The network does not map images to images, or cannot be traced with symbolic sizes.
    """
    if not isinstance(model, Restorer):
        raise ValueError(
            f"{describe_network(model)} cannot be exported, because it does not map images to images; "
            "use lossmith sample."
        )
    model = copy.deepcopy(model).eval().cpu().float()
    prepared = copy.deepcopy(model)  # the graph is compared with the network as it is
    _fuse_convolutions(prepared)
    try:
        _declare_padding(prepared)
    except Exception as error:  # architectures raise many types
        raise ValueError(
            f"{describe_network(model)} cannot be exported: it does not run ({_reason(error)})."
        ) from error
    fixed, dtype = dict(fixed_knobs or {}), torch.float16 if half else torch.float32
    prepared.to(dtype)
    reasons: list[str] = []
    for has_dynamic_batch in (True, False):
        traced = TracedNetwork(model, None, knob_input, fixed, has_dynamic_batch)  # type: ignore[arg-type]
        graph = _KnobArguments(prepared, traced.knobs, fixed, dtype)
        try:
            program = _trace(graph, _example_inputs(traced), traced.dynamic_axes())
        except Exception as error:  # torch.export raises many types, some of them private
            reasons.append(_reason(error))
        else:
            return TracedNetwork(model, program, knob_input, fixed, has_dynamic_batch, half)
    raise ValueError(
        f"{describe_network(model)} cannot be exported: its code depends on the size of the image ({reasons[-1]})."
    )


def _fuse_convolutions(model: nn.Module) -> None:
    """Let the convolutions of SPAN fuse their weights once, and not in each pass, which torch.export cannot trace."""
    for module in model.modules():
        if callable(update := getattr(module, "update_params", None)):
            update()
            module.update_params = lambda: None  # type: ignore[assignment]


@torch.no_grad()
def _declare_padding(model: Restorer) -> None:
    """Let the images be padded before a network of spandrel that pads them itself, in a branch on their size.

    Mode and multiple are those with which the network pads images of some sizes.
    """
    for network in model.modules():
        if not isinstance(network, SpandrelModel):
            continue
        images = [network.pad(torch.zeros(1, network.in_channels, side, side)) for side in (37, 43, 53)]
        with mock.patch.object(F, "pad", wraps=F.pad) as pad:
            for image in images:
                network.call(network.network, image)
        calls = [inspect.signature(F.pad).bind(*call.args, **call.kwargs) for call in pad.call_args_list]
        found = [call.arguments for call in calls if _is_padding_of_images(network, call.arguments)]
        if found:
            sides = [each["input"].shape[-1] + each["pad"][1] for each in found]
            network.inner_padding = math.gcd(*sides), found[0].get("mode", "constant")


def _is_padding_of_images(network: SpandrelModel, arguments: Mapping[str, Any]) -> bool:
    """Return whether the arguments of ``F.pad`` extend images on the right and below."""
    image, pad = arguments["input"], tuple(arguments["pad"])
    return image.ndim == 4 and image.shape[1] == network.in_channels and len(pad) == 4 and pad[::2] == (0, 0)


def describe_network(model: Network) -> str:
    """Return the name of a network, with that of the network inside of a conditioned one."""
    inner = getattr(model, "network", None)
    name = str(model.spec.get("name", type(model).__name__))
    return f"{name}({describe_network(inner)})" if isinstance(inner, Network) else name


def knob_ranges(model: Network) -> dict[str, tuple[float, float]]:
    """Return the range of each knob of a network; empty without knobs."""
    return dict(getattr(model, "knobs", {}))


def check_fixed_knobs(model: Network, values: Mapping[str, float]) -> None:
    """Raise ValueError if the values are not one number in its range for each knob; no value at all is valid."""
    ranges = knob_ranges(model)
    if unknown := [name for name in values if name not in ranges]:
        has = f"the knobs {', '.join(ranges)}" if ranges else "no knob"
        raise ValueError(f"{describe_network(model)} has no knob {unknown[0]!r}; it has {has}.")
    for name, (low, high) in ranges.items() if values else ():
        if name not in values:
            raise ValueError(f"fixed_knobs must set all knobs; {name!r}, {low:g} to {high:g}, has no value.")
        check_number(f"The knob {name!r}", values[name], low=low, high=high)


def _example_inputs(traced: TracedNetwork) -> tuple[Tensor, ...]:
    batch, height, width = EXAMPLE_SHAPE
    batch = batch if traced.has_dynamic_batch else 1
    shape = (batch,) if traced.knob_input == "image" else (batch, 1, height, width)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, traced.model.in_channels, height, width, generator=generator)
    return image, *(torch.full(shape, (low + high) / 2) for low, high in traced.knobs.values())


@torch.no_grad()
def _trace(graph: nn.Module, example: Sequence[Tensor], axes: tuple[Any, ...]) -> ExportedProgram:
    """Return the graph of a module; every named axis becomes a symbol."""
    dynamic = torch.utils._pytree.tree_map(lambda name: Dim.DYNAMIC, axes)
    with quiet():
        return torch.export.export(graph, tuple(example), dynamic_shapes=dynamic)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the progress lines, the warnings and the log of PyTorch's exporters."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _reason(error: Exception) -> str:
    """Return the first line of an error of torch.export that says something, shortened."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Constraints violated", "The following call"))]
    return (told[0] if told else type(error).__name__)[:160]

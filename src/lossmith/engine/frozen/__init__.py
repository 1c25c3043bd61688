"""Frozen networks whose backward pass needs packed bits instead of activations."""

from lossmith.engine.frozen.cost import count_flops, count_saved_bytes
from lossmith.engine.frozen.execute import run_frozen
from lossmith.engine.frozen.precision import choose_compute_dtype, get_compute_dtype
from lossmith.engine.frozen.steps import as_grey, compute_shapes, compute_tile_margin, prepare_steps

__all__ = [
    "as_grey",
    "choose_compute_dtype",
    "compute_shapes",
    "compute_tile_margin",
    "count_flops",
    "count_saved_bytes",
    "get_compute_dtype",
    "prepare_steps",
    "run_frozen",
]

"""Frozen networks that keep bits for the backward pass, not activations."""

from lossmith.engine.frozen.cost import flops, kept_bytes
from lossmith.engine.frozen.execute import Once, inner_dtype, run
from lossmith.engine.frozen.steps import cast, margin, shapes

__all__ = ["Once", "cast", "flops", "inner_dtype", "kept_bytes", "margin", "run", "shapes"]

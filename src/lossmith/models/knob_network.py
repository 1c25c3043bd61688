"""The networks that have a knob."""

from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.models.textured_edsr import TexturedEDSR

__all__ = ["KnobNetwork"]

KnobNetwork = ConditionedNetwork | OutputInterpolation | TexturedEDSR
"""A network with ranges of its knobs in ``knobs``, a slider over them in ``slider`` (None before calibration), and knob
values by slider position from ``knobs_at``."""

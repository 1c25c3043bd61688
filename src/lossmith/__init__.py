"""Losses for image networks, written as one formula.

A loss is **what you compare** (views), **through what** (a lens), **how** (a distance) and **how much** (a weight)::

    from lossmith import L1, TV, Knob, parse, perceptual, style

    loss = L1() + 0.1 * perceptual("vgg19") + 0.05 * style("vgg19")
    loss(pred, target)                           # a scalar; pred and target are (N, 3, H, W), RGB in [0, 1]
    loss.evaluate({"pred": pred, "target": target})   # every term, unweighted, one value an image

Whatever ``+``, ``*``, ``@`` and ``.on()`` build stays one flat sum of ``weight * distance @ lens``; all terms on one
network share one pass of it; and the sum's `repr` is its text::

    parse("L1 + 0.1*perceptual")                 # names stand for their defaults
    L1() + Knob("lam") * perceptual()            # a weight left open: loss(pred, target, lam=0.3)
    L1().on(pred="filled") + 1e-6 * TV()         # other views than pred and target

A new distance defines one method, ``measure(pred, target) -> (N,)``; CONTRIBUTING.md walks through adding one.
"""

from lossmith.balance.calibrate import calibrate
from lossmith.doctor.examine import check
from lossmith.engine.feature_cache import FeatureCache
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.pinned import PinnedLoss, pinned
from lossmith.formula.schedule import (
    OffAfter,
    OnFrom,
    Piecewise,
    Ramp,
)
from lossmith.formula.snr_gate import Gate
from lossmith.formula.term import Term
from lossmith.formula.tiled import TiledLoss, tiled
from lossmith.formula.weight import Knob, GradientShare, Weight
from lossmith.lens import Backbone, Chain, Features, Lens
from lossmith.lenses import *  # noqa: F403
from lossmith.lenses import __all__ as _lenses
from lossmith.losses import *  # noqa: F403
from lossmith.losses import __all__ as _losses
from lossmith.parser import (
    ExpressionError,
    load,
    parse,
    save,
)

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "Chain",
    "Distance",
    "ExpressionError",
    "Features",
    "Gate",
    "Hybrid",
    "Knob",
    "Lens",
    "FeatureCache",
    "Loss",
    "OffAfter",
    "OnFrom",
    "GradientShare",
    "Piecewise",
    "PinnedLoss",
    "Ramp",
    "Term",
    "TiledLoss",
    "Weight",
    "calibrate",
    "check",
    "load",
    "parse",
    "pinned",
    "save",
    "tiled",
    *_lenses,
    *_losses,
]

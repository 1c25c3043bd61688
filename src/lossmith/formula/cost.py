"""Cost of one step of a loss, predicted without running the step: network passes, operations and bytes.

The operations are those of the networks' convolutions, which are all but a few percent of a step; pixel terms and the
computations after a network are not counted. The bytes are measured on tensors
without data; they cover all terms that read only images or masks, without the weights of the networks.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from lossmith.engine.feature_cache import FeatureCache
from lossmith.engine.memory import measure_memory
from lossmith.formula.network_pass import NetworkPass, plan_passes
from lossmith.formula.sampling import Every, find_factor
from lossmith.formula.snr_gate import Gate
from lossmith.formula.sparse_evaluation import evaluate_terms
from lossmith.formula.term import Term, collect_term_layers
from lossmith.formula.weight import Weight
from lossmith.lens import Chain, Lens
from lossmith.lenses.vgg import VGG

__all__ = ["CostPlan", "unify_vgg"]

LONGEST_PERIOD = 10_000
"""The largest number of steps over which costs are averaged."""


@dataclass(frozen=True)
class CostPlan:
    """The network passes of one step, and its operations and bytes.

    With lazy terms, this is the step with the most operations; the means are over a period of all lazy terms. With
    sparse terms, the passes are of their part of the batch. Gates are taken as open and schedules as at their end.

    Args:
        shape: The images' shape, (N, C, H, W).
        passes: One pass for each network and input.
        mean_forward_flops: Floating-point operations of the forward passes, on average over steps.
        mean_backward_flops: Floating-point operations of the backward passes, on average over steps.
        terms: The terms of the loss.

    Example:
        >>> from lossmith import parse
        >>> plan = parse("L1 + perceptual('vgg19', 'conv4_3') + style('vgg19', 'relu3_3')").plan((2, 3, 192, 192))
        >>> [(p.network, p.input_name, p.layers) for p in plan.passes]
        [('vgg19', 'pred', ('relu3_3', 'conv4_3')), ('vgg19', 'target', ('relu3_3', 'conv4_3'))]
        >>> round(plan.forward_flops / 1e9, 1), round(plan.backward_flops / 1e9, 1)
        (92.9, 46.5)
        >>> plan = parse("L1 + Every(4)*perceptual('vgg19', 'conv4_3')").plan((2, 3, 192, 192))
        >>> plan.forward_flops / plan.mean_forward_flops
        4.0
    """

    shape: tuple[int, ...]
    passes: tuple[NetworkPass, ...]
    mean_forward_flops: float
    mean_backward_flops: float
    terms: tuple[Term, ...] = field(repr=False, compare=False)

    @classmethod
    def from_terms(cls, terms: Sequence[Term], names: Sequence[str], shape: Sequence[int]) -> "CostPlan":
        """Return the plan of some terms.

        Args:
            terms: The terms.
            names: The terms' names.
            shape: The images' shape, (N, C, H, W).

        Raises:
            ValueError: The shape is not of this form, or smaller than a network allows.
        """
        if len(shape) != 4 or any(side < 1 for side in shape):
            raise ValueError(f"plan needs the shape of a batch, (N, C, H, W); got {tuple(shape)}.")
        steps = _count_active_sets(dict(zip(names, terms, strict=True)))
        planned = [(plan_passes(active, shape), count) for active, count in steps]
        total = sum(count for _, count in planned)
        forward, backward = (
            sum(count * _sum_flops(passes, direction) for passes, count in planned) / total
            for direction in ("forward_flops", "backward_flops")
        )
        passes = max((passes for passes, _ in planned), key=lambda each: _sum_flops(each, "forward_flops"))
        return cls(tuple(shape), passes, forward, backward, tuple(terms))

    @property
    def forward_flops(self) -> float:
        """Floating-point operations of all forward passes."""
        return _sum_flops(self.passes, "forward_flops")

    @property
    def backward_flops(self) -> float:
        """Floating-point operations of all backward passes."""
        return _sum_flops(self.passes, "backward_flops")

    @property
    def saved_bytes(self) -> int:
        """The bytes that the forward pass saves for the backward pass, in float32 on a CPU."""
        return self._memory[0]

    @property
    def peak_bytes(self) -> int:
        """The largest number of bytes held at once in either pass, without the inputs, in float32 on a CPU."""
        return self._memory[1]

    @cached_property
    def _memory(self) -> tuple[int, int]:
        """Both byte counts, without network weights and without terms that read more than images."""
        terms = [term for term in self.terms if term.reads_only_images]
        if not terms:
            return 0, 0
        inputs = {name: torch.empty(self.shape, device="meta") for term in terms for name in term.inputs.values()}
        inputs |= {term.inputs["mask"]: inputs[term.inputs["mask"]][:, :1] for term in terms if "mask" in term.inputs}
        named = {str(i): replace(term, weight=_without_gates(term.weight)) for i, term in enumerate(terms)}

        def forward() -> torch.Tensor:
            cache = FeatureCache(inputs, collect_term_layers(terms))
            return torch.stack([each.mean() for each in evaluate_terms(named, cache, sampled=True).values()]).sum()

        with torch.no_grad():
            forward()  # loads the networks, so that the loading is not measured
        for term in terms:
            inputs |= {n: inputs[n].requires_grad_() for p, n in term.inputs.items() if p not in ("target", "mask")}
        with torch.enable_grad():
            return measure_memory(forward, list(inputs.values()))


def _count_active_sets(terms: Mapping[str, Term]) -> list[tuple[dict[str, Term], int]]:
    """Return the sets of terms that act together in some steps of a period, each with the number of these steps."""
    factors = {name: find_factor(term.weight, Every) for name, term in terms.items()}
    period = min(math.lcm(*(factor.k for factor in factors.values() if factor)), LONGEST_PERIOD)
    counts: Counter[tuple[str, ...]] = Counter()
    for step in range(period):
        counts[tuple(name for name, factor in factors.items() if not factor or factor.value_at(step, {}))] += 1
    return [({name: terms[name] for name in names}, count) for names, count in counts.items()]


def _sum_flops(passes: Sequence[NetworkPass], direction: str) -> float:
    total: float = sum(getattr(each, direction) for each in passes)
    return total


def _without_gates(weight: Weight) -> Weight:
    """Return the weight without its gates, which do not change a step's memory."""
    return Weight(weight.scale, tuple(factor for factor in weight.factors if not isinstance(factor, Gate)))


def unify_vgg(terms: Sequence[Term]) -> tuple[Term, ...] | None:
    """Return the terms with VGG-16 in place of VGG-19 if they use both; None otherwise.

    Each layer of VGG-19 becomes the layer of VGG-16 at the same position of its stage. The values change a little, so
    tuned weights need to be checked again.
    """
    networks = {stage.backbone.key for term in terms for _, stage in term.path if isinstance(stage, VGG)}
    if networks != {"vgg16", "vgg19"}:
        return None
    return tuple(replace(term, lens=_use_vgg16(term.lens)) if term.lens else term for term in terms)


def _use_vgg16(lens: Lens) -> Lens:
    stages: list[Lens] = []
    for stage in lens.stages:
        if isinstance(stage, VGG):
            layers: dict[str, float] = {}
            for layer, weight in stage.layers.items():
                layers[_vgg16_layer(layer)] = layers.get(_vgg16_layer(layer), 0.0) + weight
            stage = VGG("vgg16", layers)
        stages.append(stage)
    return Chain(stages) if len(stages) > 1 else stages[0]


def _vgg16_layer(layer: str) -> str:
    kind, _, position = layer.partition("_")
    return f"{kind}_3" if position == "4" else layer  # only VGG-19 has a fourth convolution in its last three stages

"""Cost of one step of a loss, predicted without running the step: network passes, operations and bytes.

The operations are those of the networks' convolutions, which are all but a few percent of a step; pixel terms and the
computations after a network are not counted. The bytes are measured on tensors
without data; they cover all terms that read only images or masks, without the weights of the networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from lossmith.engine.feature_cache import FeatureCache
from lossmith.engine.memory import measure_memory
from lossmith.formula.term import Term, collect_term_layers
from lossmith.formula.term_evaluation import evaluate_term_ungated
from lossmith.lens import Chain, Features, Lens
from lossmith.lenses.vgg import VGG

__all__ = ["CostPlan", "NetworkPass", "unify_vgg"]


@dataclass(frozen=True)
class NetworkPass:
    """One pass of one input through one network, shared by all terms.

    Args:
        network: The network's name.
        preceding_lenses: The lenses before the network, as text; empty if the network sees the image itself.
        input_name: The input that passes through the network.
        layers: The layers that any term needs.
        terms: The names of these terms.
        has_gradient: Whether the pass is differentiated.
        forward_flops: Floating-point operations of the forward pass, for the batch.
        backward_flops: Floating-point operations of the backward pass to the input; the network's weights are frozen.
    """

    network: str
    preceding_lenses: str
    input_name: str
    layers: tuple[str, ...]
    terms: tuple[str, ...]
    has_gradient: bool
    forward_flops: float
    backward_flops: float


@dataclass(frozen=True)
class CostPlan:
    """The network passes of one step, and its operations and bytes.

    Args:
        shape: The images' shape, (N, 3, H, W).
        passes: One pass for each network and input.
        terms: The terms of the loss.

    Example:
        >>> from lossmith import parse
        >>> plan = parse("L1 + perceptual('vgg19', 'conv4_3') + style('vgg19', 'relu3_3')").plan((2, 3, 192, 192))
        >>> [(p.network, p.input_name, p.layers) for p in plan.passes]
        [('vgg19', 'pred', ('relu3_3', 'conv4_3')), ('vgg19', 'target', ('relu3_3', 'conv4_3'))]
        >>> round(plan.forward_flops / 1e9, 1), round(plan.backward_flops / 1e9, 1)
        (92.9, 46.5)
    """

    shape: tuple[int, ...]
    passes: tuple[NetworkPass, ...]
    terms: tuple[Term, ...] = field(repr=False, compare=False)

    @classmethod
    def from_terms(cls, terms: Sequence[Term], names: Sequence[str], shape: Sequence[int]) -> "CostPlan":
        """Return the plan of some terms.

        Args:
            terms: The terms.
            names: The terms' names.
            shape: The images' shape, (N, 3, H, W).

        Raises:
            ValueError: The shape is not of this form, or smaller than a network allows.
        """
        if len(shape) != 4 or any(side < 1 for side in shape):
            raise ValueError(f"plan needs the shape of a batch, (N, 3, H, W); got {tuple(shape)}.")
        layers = collect_term_layers(terms)
        users: dict[tuple[str, str, bool], tuple[Features, list[str]]] = {}
        for name, term in zip(names, terms, strict=True):
            for parameter, input_name in term.inputs.items():
                for text, lens in term.path if parameter not in term.distance.unlensed_inputs else ():
                    if isinstance(lens, Features):
                        among = users.setdefault((text, input_name, parameter != "target"), (lens, []))[1]
                        among += [] if name in among else [name]
        passes = [
            _plan_pass(lens, text, input_name, layers[input_name, text], term_names, has_gradient, shape)
            for (text, input_name, has_gradient), (lens, term_names) in users.items()
        ]
        return cls(tuple(shape), tuple(passes), tuple(terms))

    @property
    def forward_flops(self) -> float:
        """Floating-point operations of all forward passes."""
        return sum(p.forward_flops for p in self.passes)

    @property
    def backward_flops(self) -> float:
        """Floating-point operations of all backward passes."""
        return sum(p.backward_flops for p in self.passes)

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
        layers = collect_term_layers(terms)

        def forward() -> torch.Tensor:
            cache = FeatureCache(inputs, layers)
            return torch.stack([evaluate_term_ungated(term, cache).mean() for term in terms]).sum()

        with torch.no_grad():
            forward()  # loads the networks, so that the loading is not measured
        for term in terms:
            inputs |= {n: inputs[n].requires_grad_() for p, n in term.inputs.items() if p not in ("target", "mask")}
        with torch.enable_grad():
            return measure_memory(forward, list(inputs.values()))


def _plan_pass(
    lens: Features,
    text: str,
    input_name: str,
    layers: tuple[str, ...],
    term_names: Sequence[str],
    has_gradient: bool,
    shape: Sequence[int],
) -> NetworkPass:
    least = lens.backbone.min_size(layers)
    if min(shape[2:]) < least:
        raise ValueError(
            f"{lens.backbone.name} needs images of at least {least} px a side for {layers[-1]}; got "
            f"{shape[2]}x{shape[3]}."
        )
    forward = shape[0] * lens.backbone.flops(shape[2], shape[3], layers)
    preceding = text.partition(" @ ")[2].removesuffix(" @ ")
    backward = forward if has_gradient else 0.0
    name = lens.backbone.name
    return NetworkPass(name, preceding, input_name, layers, tuple(term_names), has_gradient, forward, backward)


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

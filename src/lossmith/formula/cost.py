"""What a step of a loss will cost, before it is run: which networks, how often, how many operations and bytes.

The operations are those of the networks' convolutions, which are all but a few percent of a step; pixel terms and what
follows a network are left out. The bytes are those of the whole loss: it is run on tensors without data. This stands
beside the algebra and not above it, so that a loss can tell its own plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from lossmith.engine.feature_cache import Looks
from lossmith.engine.memory import measured
from lossmith.formula.term import Term, looked_at
from lossmith.lens import Chain, Features, Lens
from lossmith.lenses.vgg import VGG

__all__ = ["Pass", "Plan", "sharing"]


@dataclass(frozen=True)
class Pass:
    """One view's way through one network, for all terms together.

    Args:
        network: The network's name.
        through: What the network's input has passed before, as text; empty for the picture itself.
        view: The view that passes.
        layers: The layers that any term looks at.
        terms: The names of these terms.
        gradient: Whether the pass is differentiated.
        forward: Operations of the forward pass, for the batch.
        backward: Operations of the backward pass to the view; the network is frozen, so its weights cost none.
    """

    network: str
    through: str
    view: str
    layers: tuple[str, ...]
    terms: tuple[str, ...]
    gradient: bool
    forward: float
    backward: float


@dataclass(frozen=True)
class Plan:
    """The passes of one step.

    Args:
        shape: The pictures' shape, (N, 3, H, W).
        passes: One for each network and view.
        terms: The terms that it is the plan of.

    Example:
        >>> from lossmith import parse
        >>> plan = parse("L1 + perceptual('vgg19', 'conv4_3') + style('vgg19', 'relu3_3')").plan((2, 3, 192, 192))
        >>> [(p.network, p.view, p.layers) for p in plan.passes]
        [('vgg19', 'pred', ('relu3_3', 'conv4_3')), ('vgg19', 'target', ('relu3_3', 'conv4_3'))]
        >>> round(plan.forward / 1e9, 1), round(plan.backward / 1e9, 1)
        (92.9, 46.5)
    """

    shape: tuple[int, ...]
    passes: tuple[Pass, ...]
    terms: tuple[Term, ...] = field(repr=False, compare=False)

    @classmethod
    def of(cls, terms: Sequence[Term], names: Sequence[str], shape: Sequence[int]) -> "Plan":
        """The plan of some terms for pictures of a shape (N, 3, H, W).

        Raises:
            ValueError: The shape is no such shape, or smaller than a network allows.
        """
        if len(shape) != 4 or any(side < 1 for side in shape):
            raise ValueError(f"A plan wants the shape of a batch, (N, 3, H, W); got {tuple(shape)}.")
        wanted = looked_at(terms)
        found: dict[tuple[str, str, bool], tuple[Features, list[str]]] = {}
        for name, term in zip(names, terms, strict=True):
            for parameter, view in term.reads.items():
                for text, lens in term.path if parameter not in term.distance.bare else ():
                    if isinstance(lens, Features):
                        users = found.setdefault((text, view, parameter != "target"), (lens, []))[1]
                        users += [] if name in users else [name]
        passes = []
        for (text, view, gradient), (lens, users) in found.items():
            smallest = lens.backbone.smallest(wanted[view, text])
            if min(shape[2:]) < smallest:
                raise ValueError(
                    f"{lens.backbone.name} wants pictures of at least {smallest} px a side for "
                    f"{wanted[view, text][-1]}; got {shape[2]}x{shape[3]}."
                )
            forward = shape[0] * lens.backbone.flops(shape[2], shape[3], wanted[view, text])
            through = text.partition(" @ ")[2].removesuffix(" @ ")
            backward = forward if gradient else 0.0
            passes.append(
                Pass(lens.backbone.name, through, view, wanted[view, text], tuple(users), gradient, forward, backward)
            )
        return cls(tuple(shape), tuple(passes), tuple(terms))

    @property
    def forward(self) -> float:
        """Operations of all forward passes."""
        return sum(p.forward for p in self.passes)

    @property
    def backward(self) -> float:
        """Operations of all backward passes."""
        return sum(p.backward for p in self.passes)

    @property
    def kept(self) -> int:
        """The bytes that the loss keeps from its forward pass for the backward pass, in float32 on a CPU."""
        return self.bytes[0]

    @property
    def peak(self) -> int:
        """The most bytes that the loss holds at once in either pass, besides the views, in float32 on a CPU."""
        return self.bytes[1]

    @cached_property
    def bytes(self) -> tuple[int, int]:
        """:attr:`kept` and :attr:`peak`, without the networks' weights and without what reads more than pictures."""
        terms = [term for term in self.terms if term.pictured]
        views = {view: torch.empty(self.shape, device="meta") for term in terms for view in term.reads.values()}
        views |= {term.reads["mask"]: views[term.reads["mask"]][:, :1] for term in terms if "mask" in term.reads}
        if not terms:
            return 0, 0
        wanted = looked_at(terms)

        def forward() -> torch.Tensor:
            looks = Looks(views, wanted)
            return torch.stack([term.ungated(looks).mean() for term in terms]).sum()

        with torch.no_grad():
            forward()  # so that the networks are there
        for term in terms:
            views |= {v: views[v].requires_grad_() for p, v in term.reads.items() if p not in ("target", "mask")}
        with torch.enable_grad():
            return measured(forward, list(views.values()))


def sharing(terms: Sequence[Term]) -> tuple[Term, ...] | None:
    """The same terms on one VGG, where they stand on two and LPIPS needs VGG-16; None where there is nothing to share.

    Each layer of VGG-19 becomes the layer of VGG-16 at the same place of its stage. The values differ a little, so a
    weight that was tuned wants to be looked at again.
    """
    networks = {stage.backbone.title for term in terms for _, stage in term.path if isinstance(stage, VGG)}
    if networks != {"vgg16", "vgg19"}:
        return None
    return tuple(replace(term, lens=_on_vgg16(term.lens)) if term.lens else term for term in terms)


def _on_vgg16(lens: Lens) -> Lens:
    stages: list[Lens] = []
    for stage in lens.stages:
        if isinstance(stage, VGG):
            layers: dict[str, float] = {}
            for layer, weight in stage.layers.items():
                layers[_counterpart(layer)] = layers.get(_counterpart(layer), 0.0) + weight
            stage = VGG("vgg16", layers)
        stages.append(stage)
    return Chain(stages) if len(stages) > 1 else stages[0]


def _counterpart(layer: str) -> str:
    kind, _, place = layer.partition("_")
    return f"{kind}_3" if place == "4" else layer  # VGG-19 has a fourth convolution in its last three stages

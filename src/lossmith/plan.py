"""What a step of a loss will cost, before it is run: which networks, how often, how many operations.

It counts the networks' convolutions, which are all but a few percent of a step; pixel terms and what follows a network
are left out. It stands beside the algebra and not above it, so that a loss can tell its own plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lossmith.lens import Features
from lossmith.term import Term, looked_at

__all__ = ["Pass", "Plan"]


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
                for text, lens in term.path:
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
        return cls(tuple(shape), tuple(passes))

    @property
    def forward(self) -> float:
        """Operations of all forward passes."""
        return sum(p.forward for p in self.passes)

    @property
    def backward(self) -> float:
        """Operations of all backward passes."""
        return sum(p.backward for p in self.passes)

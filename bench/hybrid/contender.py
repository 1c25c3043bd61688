"""A contender: a load as the users of a library write it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lossmith import Hybrid

CLOSE = 1e-4
"""How far, relatively, a contender's value may be from that of what it says that it computes."""


@dataclass(frozen=True)
class Contender:
    """Somebody's way to compute a load.

    Args:
        name: What it is called.
        terms: From views to the values of the terms.
        means: What it computes, in lossmith's words, term by term.
        modules: What holds its weights.
    """

    name: str
    terms: Callable[[dict], list]
    means: Hybrid
    modules: list = field(default_factory=list)

    def loss(self, views, bf16=False):
        """The step's forward pass, to a scalar."""
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return sum(self.terms(views))

    def gradient(self, views, bf16=False):
        """The gradient at the prediction."""
        pred = views["pred"].clone().requires_grad_()
        self.loss({**views, "pred": pred}, bf16).backward()
        return pred.grad

    def check(self, views):
        """Raises where its terms or their gradient are not what they are said to be."""
        parts = self.terms(views)
        told = [self.means(**views)] if len(parts) == 1 else [v.mean() for v in self.means.evaluate(views).values()]
        for name, expected, found in zip(self.means.names, told, parts, strict=len(parts) > 1):
            if not abs(found.item() - expected.item()) <= CLOSE * abs(expected.item()):
                raise AssertionError(f"{self.name}: '{name}' is {found.item()!r}, and lossmith's {expected.item()!r}.")
        ours = Contender("", lambda given: [self.means(**given)], self.means).gradient(views)
        if not (turn := cosine(ours, self.gradient(views))) > 1 - CLOSE:
            raise AssertionError(f"{self.name}: its gradient has a cosine of {turn} with lossmith's.")


def cosine(a, b):
    """The cosine of two gradients."""
    return torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item()

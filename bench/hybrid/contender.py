"""A contender: one way to compute a workload, as users of a library write it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lossmith import Hybrid

TOLERANCE = 1e-4
"""The largest relative deviation of a contender's value from that of its reference."""


@dataclass(frozen=True)
class Contender:
    """One way to compute a workload.

    Args:
        name: Its name in the tables.
        compute_terms: Returns the values of the terms from the loss inputs.
        reference: The lossmith formula that computes the same, term by term.
        modules: The modules that hold its weights.
    """

    name: str
    compute_terms: Callable[[dict], list]
    reference: Hybrid
    modules: list = field(default_factory=list)

    def loss(self, inputs, bf16=False):
        """Run the forward pass of a step and return a scalar."""
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return sum(self.compute_terms(inputs))

    def gradient(self, inputs, bf16=False):
        """Return the gradient at the prediction."""
        pred = inputs["pred"].clone().requires_grad_()
        self.loss({**inputs, "pred": pred}, bf16).backward()
        return pred.grad

    def check(self, inputs):
        """Raise AssertionError if its terms or their gradient differ from those of the reference."""
        values, reference = self.compute_terms(inputs), self.reference
        if len(values) == 1:
            expected_values = [reference(**inputs)]
        else:
            expected_values = [value.mean() for value in reference.evaluate(inputs).values()]
        for name, expected, value in zip(reference.names, expected_values, values, strict=len(values) > 1):
            if not abs(value.item() - expected.item()) <= TOLERANCE * abs(expected.item()):
                raise AssertionError(f"{self.name}: '{name}' is {value.item()!r}; lossmith's is {expected.item()!r}.")
        expected = Contender("", lambda inputs: [reference(**inputs)], reference).gradient(inputs)
        if not (similarity := cosine(expected, self.gradient(inputs))) > 1 - TOLERANCE:
            raise AssertionError(f"{self.name}: its gradient has a cosine of {similarity} with lossmith's.")


def cosine(a, b):
    """Return the cosine similarity of two gradients."""
    return torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item()

"""The weights in use, and the norm of each term's gradient at the prediction, in the last logged step."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import final

from torch import Tensor

from lossmith.balance.gramian import output_gradients
from lossmith.formula.loss import Loss
from lossmith.formula.sampling import Every, find_factor
from lossmith.formula.weight import WeightValue

__all__ = ["GradientRecord", "check_lazy_terms_meet", "find_lazy_terms", "mean_weights"]


@final
class GradientRecord:
    """The norms of the terms' gradients in logged steps, which stay on the device until they are read.

    A lazy term that rests in the logged step is recorded in its last step before, with the mean of its weight.

    Args:
        loss: The loss.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.lazy_terms = find_lazy_terms(loss)
        self.weights: dict[str, WeightValue] = {}
        """The weights in use, by the term's name."""
        self.norms: dict[str, Tensor] = {}
        """The norms of the weighted gradients, in units of L1's."""
        self.discriminator_norms: dict[str, Tensor] = {}
        """The norms of the unweighted gradients of terms whose discriminator is trained, by the name in the log."""

    def is_due(self, step: int, is_logged: Callable[[int], bool]) -> bool:
        """Return whether to measure in a step: if it is logged, or a term acts for the last time before a logged step.

        Args:
            step: The step, counted from 0.
            is_logged: Returns whether a step, counted from 1, is logged.
        """
        acting = [factor.k for factor in self.lazy_terms.values() if factor.value_at(step, {})]
        return any(is_logged(step + 1 + i) for i in range(max(acting, default=1)))

    def measure(
        self, values: Mapping[str, Tensor], pred: Tensor | None, weights: Mapping[str, WeightValue], step: int
    ) -> None:
        """Record weights and gradient norms.

        Args:
            values: The terms, (N,).
            pred: The prediction; None if the loss has no such input.
            weights: The weights in use, without those that are 0.
            step: The step, counted from 0.
        """
        due = self.loss.due_discriminators(step)
        measured = {name: value for name, value in values.items() if name in weights or name in due}
        gradients = output_gradients(measured, pred) if pred is not None and pred.requires_grad else {}
        means = mean_weights(weights, self.lazy_terms)
        resting = [name for name in self.lazy_terms if name not in weights]
        self.weights = {name: self.weights[name] for name in resting if name in self.weights}
        self.weights |= {n: w.detach() if isinstance(w, Tensor) else w for n, w in means.items()}
        self.norms = {name: self.norms[name] for name in resting if name in self.norms}
        self.norms |= {n: _weighted_norm(each, means[n]) for n, each in gradients.items() if n in means}
        self.discriminator_norms = {
            f"{name}.gradient_norm": _weighted_norm(gradients[name], 1.0) for name in due if name in gradients
        }


def find_lazy_terms(loss: Loss) -> dict[str, Every]:
    """Return the lazy factor of each lazy term of a loss."""
    factors = {n: find_factor(weight, Every) for n, weight in zip(loss.names, loss.weights, strict=True)}
    return {name: factor for name, factor in factors.items() if factor is not None}


def check_lazy_terms_meet(loss: Loss) -> None:
    """Raise ValueError if the lazy terms never act in one step, in which a balancer could compare all terms."""
    lazy = find_lazy_terms(loss)
    for (name, a), (other, b) in itertools.combinations(lazy.items(), 2):
        if (a.phase - b.phase) % math.gcd(a.k, b.k):
            raise ValueError(
                f"A balancer compares all terms in one step, and '{name}' and '{other}' never act in the same step; "
                "give them the same phase."
            )


def mean_weights(weights: Mapping[str, WeightValue], lazy_terms: Mapping[str, Every]) -> dict[str, WeightValue]:
    """Return the weights of a step with those of lazy terms averaged over their period."""
    return {n: weight / lazy_terms[n].k if n in lazy_terms else weight for n, weight in weights.items()}


def _weighted_norm(gradient: Tensor, weight: WeightValue) -> Tensor:
    """Return the root mean square of a weighted gradient (N, C, H, W), in units of L1's; a weight may be (N,)."""
    gradient = gradient.float()
    if isinstance(weight, Tensor) and weight.dim():
        is_per_image = len(weight) == len(gradient)
        weight = weight.view(-1, *(1,) * (gradient.dim() - 1)) if is_per_image else weight.abs().mean()
    return (gradient * weight).square().mean().sqrt()

"""Term weights that adapt during training to gradients at the network's output, measured every few steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith.balance.base import Balance
from lossmith.balance.gramian import gradient_gramian, output_gradients
from lossmith.engine.second_derivatives import link_to, refuse_second_derivative
from lossmith.formula.loss import Loss
from lossmith.formula.sampling import Every
from lossmith.formula.weight import WeightValue
from lossmith.monitor.gradient_record import find_lazy_terms, mean_weights
from lossmith.monitor.step_weights import weights_at

__all__ = ["LossBalancer"]


@final
class LossBalancer(nn.Module):
    r"""A balancer in a training loop: it measures gradients when due and returns the scalar to differentiate.

    All terms meet in one tensor, the network's output :math:`x`. In a measured step the balancer computes the gradient
    of each term at :math:`x` without a backward pass through the network, chooses the weights :math:`w_i`, and passes
    :math:`\sum_i w_i \, \partial L_i / \partial x` back into the network. This is the gradient of the weighted sum, and
    no term's graph is traversed twice. Between measured steps the weights are constant.

    A term that does not depend on the output alone, such as one with a learned temperature, is weighted as a value. A
    term without a path to the output, such as the KL divergence of a latent, keeps the weight of the formula. With
    knobs, each image's weights are divided by their sum, as in
    :func:`lossmith.monitor.step_weights.normalized_weighted_sum`.

    The state is a few numbers per term and belongs in the checkpoint.

    Args:
        balance: The balancing method; it is initialized here.
        names: The names of the terms.
    """

    factors: Tensor
    measured: Tensor
    reported: Tensor

    def __init__(self, balance: Balance, names: Sequence[str]) -> None:
        super().__init__()
        self.balance, self.names = balance, tuple(names)
        balance.initialize(self.names)
        self.register_buffer("factors", torch.ones(len(self.names)))  # balanced weights over the formula's weights
        self.register_buffer(
            "measured", torch.zeros(len(self.names), dtype=torch.bool)
        )  # terms of the last measurement
        self._measured_terms: frozenset[str] | None = frozenset()  # the same on the host
        self.register_buffer("reported", torch.zeros(2, len(self.names)))

    def forward(
        self,
        loss: Loss,
        values: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        *,
        step: int = 0,
        knobs: Mapping[str, WeightValue] | None = None,
        average: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the weighted sum of the terms, averaged over the batch: the scalar on which to call backward.

        Args:
            loss: The loss, for its weights.
            values: Its terms (N,), as :meth:`Loss.evaluate` returns them.
            inputs: The loss inputs; gradients are measured at "pred".
            step: The training step.
            knobs: The knob values.
            average: Returns the mean of a tensor over all processes; None for a single process.

        Returns:
            A scalar.
        """
        weights = weights_at(loss, step, knobs)
        if not weights:
            return loss.weighted_sum(values, step=step, knobs=knobs)
        if torch.is_grad_enabled() and self.is_due(step, weights, find_lazy_terms(loss)):
            return self.measured_sum(loss, values, inputs["pred"], weights, average or (lambda tensor: tensor))
        return self.weighted_sum(values, weights)

    def current_weights(
        self, loss: Loss, step: int, knobs: Mapping[str, WeightValue] | None = None
    ) -> dict[str, WeightValue]:
        """Return the balanced weights that are not 0, after the call for the same step."""
        return {n: w * self.factors[self.names.index(n)] for n, w in weights_at(loss, step, knobs).items()}

    def is_due(
        self, step: int, weights: Mapping[str, WeightValue], lazy_terms: Mapping[str, Every] | None = None
    ) -> bool:
        """Return whether to measure: in every step at first, then at intervals, and when a term becomes active.

        With lazy terms, only steps in which all of them act are measured.
        """
        every, factors = self.balance.every, list((lazy_terms or {}).values())
        if every <= 0 or not all(factor.value_at(step, {}) for factor in factors):
            return False
        period = math.lcm(*(factor.k for factor in factors))
        return step < every or step % every < period or not self.measured_terms.issuperset(weights)

    @property
    def measured_terms(self) -> frozenset[str]:
        """The active terms of the last measurement; read from the device once after loading."""
        if self._measured_terms is None:
            flags = self.measured.tolist()
            self._measured_terms = frozenset(name for name, flag in zip(self.names, flags, strict=True) if flag)
        return self._measured_terms

    def weighted_sum(self, values: Mapping[str, Tensor], weights: Mapping[str, WeightValue]) -> Tensor:
        """Return the sum of terms with the current balanced weights."""
        factors = self.factors.clone()  # the graph keeps the factors past the next measurement
        parts = [(w * factors[self.names.index(n)] * values[n]).mean() for n, w in weights.items()]
        return torch.stack(parts).sum()

    def measured_sum(
        self,
        loss: Loss,
        values: Mapping[str, Tensor],
        pred: Tensor,
        weights: Mapping[str, WeightValue],
        average: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Measure the gradients, balance, and return the sum of terms with the new weights."""
        active = {n: values[n] for n in weights}
        gradients = output_gradients(active, pred) if self.balance.needs_gradients and pred.requires_grad else {}
        self.rebalance(active, gradients, mean_weights(weights, find_lazy_terms(loss)), average)
        terms = dict(zip(self.names, loss.terms, strict=True))
        is_half = pred.dtype == torch.float16  # its scaler must see overflows, and has not scaled these gradients
        direct = {
            n: gradient
            for n, gradient in gradients.items()
            if not (
                is_half
                or terms[n].distance.is_batch_dependent
                or len(values[n]) != len(pred)
                or depends_on_other_leaf(values[n], pred)
            )
        }
        parts = []
        if direct:
            with torch.no_grad():
                total = self.weighted_sum(active, {n: weights[n] for n in direct})
                gradient = torch.zeros_like(pred, dtype=torch.float32 if pred.dtype == torch.bfloat16 else pred.dtype)
                for n, each in direct.items():
                    factor = self.factors[self.names.index(n)] * weights[n] / pred.numel()
                    gradient += each * factor.view(-1, *(1,) * (pred.dim() - 1))
            parts.append(_WithGradient.apply(total, gradient.to(pred.dtype), [link_to([pred])], pred))  # type: ignore[no-untyped-call]
        if rest := {n: w for n, w in weights.items() if n not in direct}:
            parts.append(self.weighted_sum(active, rest))
        return torch.stack(parts).sum()

    @torch.no_grad()
    def rebalance(
        self,
        values: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        weights: Mapping[str, WeightValue],
        average: Callable[[Tensor], Tensor],
    ) -> None:
        """Update the factors of the weights, and the metrics for the log."""
        count = len(self.names)
        means = torch.stack([self._scalar(values.get(n, 0.0)) for n in self.names])
        gramian, means = self._average(gradients, means, average)

        formula = torch.stack([self._scalar(weights.get(n, 0.0)) for n in self.names])
        unmeasured = [self.balance.needs_gradients and n in weights and n not in gradients for n in self.names]
        inner = torch.stack([self._scalar(0.0) if unmeasured[i] else formula[i] for i in range(count)])
        balanced = self.balance(inner, means, gramian)
        new = torch.stack([formula[i] if unmeasured[i] else balanced[i] for i in range(count)])
        self.factors.copy_(torch.where(formula != 0, new / torch.where(formula != 0, formula, 1.0), 1.0))
        if (names := frozenset(weights)) != self.measured_terms:
            self.measured.copy_(torch.stack([self._scalar(n in names) for n in self.names]))
            self._measured_terms = names
        norms = new.abs() * gramian.diagonal().sqrt()
        self.reported.copy_(torch.stack([new, norms / torch.where(norms.sum() > 0, norms.sum(), 1.0)]))

    def _average(
        self, gradients: Mapping[str, Tensor], means: Tensor, average: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the Gramian of the gradients and the terms' means, averaged over the processes that have them."""
        count = len(self.names)
        gramian = gradient_gramian(gradients, self.names) if gradients else self.factors.new_zeros(count, count)
        is_finite = gramian.diagonal().isfinite() & (gramian.diagonal() > 0)
        pairs = is_finite & is_finite[:, None]
        packed = torch.cat([torch.where(pairs, gramian, 0.0).flatten(), pairs.flatten(), means])
        sums, counts, means = torch.split(average(packed), [count**2, count**2, count])  # one message per measurement
        sums, counts = sums.view(count, count), counts.view(count, count)
        return sums / torch.where(counts > 0, counts, 1.0), means

    def _scalar(self, value: WeightValue) -> Tensor:
        """Return a value as a scalar on the device, without a copy that synchronizes."""
        if isinstance(value, Tensor):
            return value.mean().to(self.factors)
        return torch.full((), float(value), dtype=self.factors.dtype, device=self.factors.device)

    @property
    def metrics(self) -> dict[str, Tensor]:
        """Each term's weight and share of the gradient norms at the last measurement: scalars for the log."""
        if not self.measured_terms:
            return {}
        kinds = ("weight", "share") if self.balance.needs_gradients else ("weight",)
        rows = dict(zip(kinds, self.reported, strict=False))
        return {f"{kind}.{name}": row[i] for kind, row in rows.items() for i, name in enumerate(self.names)}

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._measured_terms = None


def depends_on_other_leaf(value: Tensor, image: Tensor) -> bool:
    """Return whether a value depends on a trainable tensor other than through an image."""
    if not image.requires_grad or value.grad_fn is None:
        return True
    image_node = (image.grad_fn, image.output_nr)
    stack, seen = [(value.grad_fn, 0)], set()
    while stack:
        node, output = stack.pop()
        if (node, output) == image_node or getattr(node, "variable", None) is image or (node, output) in seen:
            continue
        if hasattr(node, "variable"):
            return True
        seen.add((node, output))
        stack += [(child, i) for child, i in node.next_functions if child is not None]
    return False


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient at an image is given."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradient: Tensor, link: list[Tensor | None], image: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.link = link[0]
        return total.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, None, Tensor]:
        (gradient,) = ctx.saved_tensors
        return None, None, None, refuse_second_derivative(gradient * upstream, upstream, ctx.link)

"""The weights of a step: a balance that is fed with gradients at the network's output, at the price of few of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith.balance.base import Balance
from lossmith.balance.gramian import gramian, pulls
from lossmith.formula.loss import Loss
from lossmith.formula.weight import Value

__all__ = ["Balancing"]


@final
class Balancing(nn.Module):
    r"""A balance in a training: measures where it is due, and gives the number whose gradient trains the network.

    All terms meet in one tensor, the network's output :math:`x`. In a measured step the gradient of each term there is
    found without a walk into the network, the balance gives the weights :math:`w_i`, and what goes back into the
    network is :math:`\sum_i w_i \, \partial L_i / \partial x`: the same gradient as that of the weighted sum, and no
    term's graph is walked twice. In other steps the weights hold.

    What is no function of the output alone, a learnt temperature say, is weighted as a value; a term with no path to
    the output at all, such as the KL of a latent, keeps the weight that was asked for. With knobs, each picture's asked
    weights are divided by their sum, as :func:`lossmith.train.knob_sampling.normalised` does.

    Its state is a handful of numbers a term, and belongs in the checkpoint.

    Args:
        balance: The balance; it is begun here.
        names: The terms.
    """

    held: Tensor
    known: Tensor
    noted: Tensor

    def __init__(self, balance: Balance, names: Sequence[str]) -> None:
        super().__init__()
        self.balance, self.names = balance, tuple(names)
        balance.begin(self.names)
        self.register_buffer("held", torch.ones(len(self.names)))  # what asked weights are multiplied by
        self.register_buffer("known", torch.zeros(len(self.names), dtype=torch.bool))  # the terms of the last measure
        self._last: frozenset[str] | None = frozenset()  # the same on the host
        self.register_buffer("noted", torch.zeros(2, len(self.names)))

    def forward(
        self,
        loss: Loss,
        values: Mapping[str, Tensor],
        views: Mapping[str, Tensor],
        *,
        step: int = 0,
        knobs: Mapping[str, Value] | None = None,
        average: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The weighted sum of the terms, averaged over the batch: the scalar on which to call backward.

        Args:
            loss: The loss, for its weights.
            values: Its terms (N,) on the views, as :meth:`Loss.evaluate` gives them.
            views: The views; the gradient is taken at "pred".
            step: The step of the training.
            knobs: The knobs' places.
            average: The mean of a tensor over all processes; one alone needs none.

        Returns:
            A scalar.
        """
        places = {n: w.at(step, knobs) for n, w in zip(self.names, loss.weights, strict=True)}
        asked: dict[str, Value] = {n: a for n, a in places.items() if isinstance(a, Tensor) or a != 0}
        if knobs:
            total = sum(a.abs() if isinstance(a, Tensor) else abs(a) for a in asked.values())
            asked = {n: a / total for n, a in asked.items()}
        if not asked:
            return loss.weigh(values, step=step, knobs=knobs)
        if torch.is_grad_enabled() and self.due(step, asked):
            return self.measured(loss, values, views["pred"], asked, average or (lambda each: each))
        return self.weighed(values, asked)

    def due(self, step: int, asked: Mapping[str, Value]) -> bool:
        """Whether to measure: now and then, at the start, and where a term joins."""
        every = self.balance.every
        return every > 0 and (step < every or step % every == 0 or not self.last.issuperset(asked))

    @property
    def last(self) -> frozenset[str]:
        """The terms that were on when it last measured; read from the device once after loading."""
        if self._last is None:
            self._last = frozenset(n for n, known in zip(self.names, self.known.tolist(), strict=True) if known)
        return self._last

    def weighed(self, values: Mapping[str, Tensor], asked: Mapping[str, Value]) -> Tensor:
        """The weighted sum of some terms with the weights that hold."""
        held = self.held.clone()  # the graph keeps it past the next measurement
        parts = [(a * held[self.names.index(n)] * values[n]).mean() for n, a in asked.items()]
        return torch.stack(parts).sum()

    def measured(
        self,
        loss: Loss,
        values: Mapping[str, Tensor],
        pred: Tensor,
        asked: Mapping[str, Value],
        average: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Measures, balances, and weighs with what the balance gives."""
        on = {n: values[n] for n in asked}
        found = pulls(on, pred) if self.balance.gradients and pred.requires_grad else {}
        self.rebalance(on, found, asked, average)
        terms = dict(zip(self.names, loss.terms, strict=True))
        coarse = pred.dtype == torch.float16  # whose scaler must see the overflow, and has not scaled what was found
        direct = {
            n: pull
            for n, pull in found.items()
            if not (coarse or terms[n].distance.mixes or len(values[n]) != len(pred) or beyond(values[n], pred))
        }
        parts = []
        if direct:
            with torch.no_grad():
                number = self.weighed(on, {n: asked[n] for n in direct})
                pull = torch.zeros_like(pred, dtype=torch.float32 if pred.dtype == torch.bfloat16 else pred.dtype)
                for n, each in direct.items():
                    factor = self.held[self.names.index(n)] * asked[n] / pred.numel()
                    pull += each * factor.view(-1, *(1,) * (pred.dim() - 1))
            parts.append(_Pulled.apply(number, pull.to(pred.dtype), pred))  # type: ignore[no-untyped-call]
        if rest := {n: a for n, a in asked.items() if n not in direct}:
            parts.append(self.weighed(on, rest))
        return torch.stack(parts).sum()

    @torch.no_grad()
    def rebalance(
        self,
        values: Mapping[str, Tensor],
        found: Mapping[str, Tensor],
        asked: Mapping[str, Value],
        average: Callable[[Tensor], Tensor],
    ) -> None:
        """Asks the balance for the weights to hold, and notes the figures."""

        def number(value: Value) -> Tensor:  # on the device, without a copy that the host would wait for
            if isinstance(value, Tensor):
                return value.mean().to(self.held)
            return torch.full((), float(value), dtype=self.held.dtype, device=self.held.device)

        count = len(self.names)
        mine = gramian(found, self.names) if found else self.held.new_zeros(count, count)
        fine = mine.diagonal().isfinite() & (mine.diagonal() > 0)
        pairs = fine & fine[:, None]
        means = torch.stack([number(values.get(n, 0.0)) for n in self.names])
        packed = torch.cat([torch.where(pairs, mine, 0.0).flatten(), pairs.flatten(), means])
        mine, pairs, means = torch.split(average(packed), [count**2, count**2, count])  # one message between processes
        mine, pairs = mine.view(count, count), pairs.view(count, count)
        mine = mine / torch.where(pairs > 0, pairs, 1.0)

        wanted = torch.stack([number(asked.get(n, 0.0)) for n in self.names])
        away = [self.balance.gradients and n in asked and n not in found for n in self.names]
        inner = torch.stack([number(0.0) if gone else wanted[i] for i, gone in enumerate(away)])
        new = self.balance(inner, means, mine)
        given = torch.stack([wanted[i] if gone else new[i] for i, gone in enumerate(away)])
        self.held.copy_(torch.where(wanted != 0, given / torch.where(wanted != 0, wanted, 1.0), 1.0))
        if (names := frozenset(asked)) != self.last:
            self.known.copy_(torch.stack([number(n in names) for n in self.names]))
            self._last = names
        pull = given.abs() * mine.diagonal().sqrt()
        self.noted.copy_(torch.stack([given, pull / torch.where(pull.sum() > 0, pull.sum(), 1.0)]))

    @property
    def figures(self) -> dict[str, Tensor]:
        """Each term's weight, and its share of all gradients' norms, when it last measured: scalars for the log."""
        if not self.last:
            return {}
        rows = dict(zip(("weight", "share") if self.balance.gradients else ("weight",), self.noted, strict=False))
        return {f"{row}.{name}": figures[i] for row, figures in rows.items() for i, name in enumerate(self.names)}

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._last = None


def beyond(value: Tensor, at: Tensor) -> bool:
    """Whether a value depends on something that trains by another way than through a picture."""
    if not at.requires_grad or value.grad_fn is None:
        return True
    here = (at.grad_fn, at.output_nr)
    left, seen = [(value.grad_fn, 0)], set()
    while left:
        node, number = left.pop()
        if (node, number) == here or getattr(node, "variable", None) is at or (node, number) in seen:
            continue
        if hasattr(node, "variable"):
            return True
        seen.add((node, number))
        left += [(each, i) for each, i in node.next_functions if each is not None]
    return False


class _Pulled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, number: Tensor, pull: Tensor, pred: Tensor) -> Tensor:
        ctx.save_for_backward(pull)
        return number.clone()

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[None, None, Tensor]:
        (pull,) = ctx.saved_tensors
        return None, None, pull * arriving

"""A guard against non-finite values and gradients: stop them at the inputs, and record the term and the image.

Without the guard, a term with a non-finite value for one image makes all gradients NaN, even at weight zero, since zero
times NaN is NaN. All decisions are made on the device and per image, and finite gradients are not changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from lossmith.device import is_on_host

__all__ = ["GradientFilter", "NonFiniteGuard", "TermGuard", "find_nonfinite", "pad_rows"]


@final
@dataclass
class GradientFilter:
    """A point at which the gradients of some terms return to an input.

    It must not refer to the autograd graph, which refers to it: a cycle would delay the release of memory.

    Args:
        scaled: See :class:`NonFiniteGuard`.
        nonfinite_values: For each term, the images (N,) with a non-finite value, once computed.
    """

    scaled: bool
    nonfinite_values: Mapping[str, Tensor]
    terms: set[str] = field(default_factory=set)
    """The terms whose gradients pass this filter."""
    nonfinite_gradients: list[Tensor] = field(default_factory=list)
    """The images (N,) with a non-finite gradient, one entry per backward pass."""

    def samples_by_gradient(self) -> Tensor | None:
        """Return the images with a non-finite gradient although the values of all terms that share it are finite.

        Of a single term, the images with a non-finite gradient, whatever its value.
        """
        if not self.nonfinite_gradients:
            return None
        samples = self.nonfinite_gradients[0]
        for more in self.nonfinite_gradients[1:]:
            samples = samples | more
        if len(self.terms) == 1:
            return samples
        by_value = self.samples_by_value(len(samples))
        return samples if by_value is None else samples & ~by_value

    def samples_by_value(self, count: int) -> Tensor | None:
        """Return the images for which the value of a term that passes this filter is non-finite."""
        values = [self.nonfinite_values[name] for name in self.terms if name in self.nonfinite_values]
        expanded = [each if len(each) == count else each.any().expand(count) for each in values]
        return torch.stack(expanded).any(dim=0) if expanded else None


@final
class NonFiniteGuard:
    """The guard of one pass of a loss.

    Each pass of a network over an input has its own gradient filter, and so has each term on the input itself. A
    non-finite gradient of one of them does not affect the others.

    Args:
        scaled: Whether the loss is scaled for fp16. A gradient overflow is then left to the gradient scaler, which
            skips the step and lowers the scale; only gradients of non-finite values are stopped.
    """

    def __init__(self, *, scaled: bool = False) -> None:
        self.scaled = scaled
        self.filters: list[GradientFilter] = []
        self.nonfinite_rows = torch.zeros(0, 0, dtype=torch.bool)
        """The images with a non-finite value, one row per evaluated term; shorter rows end with False."""
        self.nonfinite_values: dict[str, Tensor] = {}
        """For each evaluated term, the images (N,) with a non-finite value."""
        self.layer_values: dict[tuple[str, str], list[Tensor]] = {}
        """The values of the distance by term and layer, of the layers of lenses."""
        self.shared_filters: dict[tuple[str, str], tuple[GradientFilter, Tensor]] = {}
        """The filter and its output by the input's name and the key of the first lens."""

    def for_term(self, term: str) -> "TermGuard":
        """Return the guard of one term."""
        return TermGuard(self, term)

    def nonfinite_samples(self, term: str) -> list[Tensor]:
        """Return, per filter, the images (N,) with a stopped gradient from this term or one that shares its filter."""
        filters = [each for each in self.filters if term in each.terms and not self.scaled]
        found = [each.samples_by_gradient() for each in filters]
        return [each for each in found if each is not None]

    def zero_nonfinite(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replace non-finite values (N,) by constant zeros, and record which they are."""
        self.nonfinite_rows = find_nonfinite([value.detach() for value in values.values()])
        for (name, value), row in zip(values.items(), self.nonfinite_rows.unbind(), strict=True):
            self.nonfinite_values[name] = row if len(row) == len(value) else row[: len(value)]
        return {name: value.masked_fill(self.nonfinite_values[name], 0.0) for name, value in values.items()}

    def count_finite(self) -> Tensor:
        """Return for each evaluated term the number of images with a finite value."""
        rows = list(self.nonfinite_values.values())
        if len({*map(len, rows)}) > 1:
            return torch.stack([len(row) - row.sum() for row in rows])
        return len(rows[0]) - self.nonfinite_rows.sum(dim=1)


@final
@dataclass(frozen=True)
class TermGuard:
    """The guard of one term.

    Args:
        guard: The guard of the pass.
        term: The term's name.
    """

    guard: NonFiniteGuard
    term: str

    def __call__(self, name: str, key: str, image: Tensor) -> Tensor:
        """Return an input whose gradient passes a filter.

        Args:
            name: The input's name.
            key: The key of the first lens, whose filter is shared by all terms with this lens; "" for no lens.
            image: The input, one row per image.
        """
        if not (image.requires_grad and image.dim()):
            return image
        if (name, key) in self.guard.shared_filters:
            gradient_filter, out = self.guard.shared_filters[name, key]
        else:
            gradient_filter = GradientFilter(self.guard.scaled, self.guard.nonfinite_values)
            out = _FilterGradient.apply(image, gradient_filter)  # type: ignore[no-untyped-call]
            self.guard.filters.append(gradient_filter)
            if key:
                self.guard.shared_filters[name, key] = gradient_filter, out
        gradient_filter.terms.add(self.term)
        return out

    def record_layer(self, layer: str, value: Tensor) -> None:
        """Record the value of the term's distance at a layer, or at a part of one; not that at the image itself."""
        if layer != "pixels":
            self.guard.layer_values.setdefault((self.term, layer), []).append(value.detach())


class _FilterGradient(torch.autograd.Function):
    """The identity, whose backward pass replaces non-finite gradients of an image by zeros."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, gradient_filter: GradientFilter) -> Tensor:
        ctx.gradient_filter = gradient_filter
        return image.view_as(image)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient_filter: GradientFilter = ctx.gradient_filter
        stopped = _find_nonfinite_images(gradient.detach())
        gradient_filter.nonfinite_gradients.append(stopped)
        if gradient_filter.scaled:
            by_value = gradient_filter.samples_by_value(len(gradient))
            stopped = stopped & by_value if by_value is not None else torch.zeros_like(stopped)
        if is_on_host(stopped) and not bool(stopped.any()):
            return gradient, None
        return torch.where(stopped.view(-1, *(1,) * (gradient.dim() - 1)), 0.0, gradient), None


def _find_nonfinite_images(gradient: Tensor) -> Tensor:
    """Return the images (N,) with a non-finite value: those whose sum is non-finite, in one pass over the memory."""
    if gradient.dim() == 1:
        return _is_nonfinite(gradient)
    wide = torch.promote_types(gradient.dtype, torch.float32)  # in which the sum does not overflow
    return _is_nonfinite(gradient.sum(dim=tuple(range(1, gradient.dim())), dtype=wide))


def _is_nonfinite(values: Tensor) -> Tensor:
    """Return where values are infinite or NaN, with two operators; isfinite launches four."""
    return (values - values) != 0


def find_nonfinite(rows: list[Tensor]) -> Tensor:
    """Return where 1-D tensors are infinite or NaN, one row for each; shorter rows end with False."""
    if len({*map(len, rows)}) > 1:
        return pad_rows([_is_nonfinite(row) for row in rows])
    return _is_nonfinite(torch.stack(rows))


def pad_rows(rows: list[Tensor]) -> Tensor:
    """Stack 1-D tensors as rows, and pad shorter ones with zeros."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) if len({*map(len, rows)}) > 1 else torch.stack(rows)

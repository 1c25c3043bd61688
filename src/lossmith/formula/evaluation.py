"""Evaluation of a sum of terms: values by term, weighted sums, gradient norms, gradients, discriminator steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lossmith.engine.feature_cache import FeatureCache
from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.formula.input_range import warn_of_value_range
from lossmith.formula.inputs import bind_inputs, check_inputs, warn_of_constant_gradient
from lossmith.formula.sampling import Every, find_factor
from lossmith.formula.sparse_evaluation import evaluate_terms
from lossmith.formula.term import Term, collect_term_layers, name_terms
from lossmith.formula.term_evaluation import evaluate_term_with_gradient_norm, step_term_discriminator
from lossmith.formula.term_maps import measure_term_maps
from lossmith.formula.weight import Weight, WeightValue
from lossmith.formula.weighted_sum import is_zero, sum_weighted
from lossmith.lens import autocast_disabled

__all__ = ["TermSum"]


class TermSum(nn.Module, ABC):
    """A module that evaluates a weighted sum of terms; :class:`lossmith.Loss` adds the algebra and the text."""

    @property
    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The terms of the flat sum."""

    @property
    def names(self) -> tuple[str, ...]:
        """A short, unique name for each term, for logs."""
        return name_terms(self.terms)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The weight of each term."""
        return tuple(term.weight for term in self.terms)

    @property
    def input_names(self) -> frozenset[str]:
        """The names of the inputs that the loss reads."""
        return frozenset(name for term in self.terms for name in term.input_names)

    @property
    def knobs(self) -> tuple[str, ...]:
        """The names of the knobs, which every call must set."""
        return tuple(dict.fromkeys(knob for weight in self.weights for knob in weight.knobs))

    def forward(self, *tensors: Tensor, step: int | None = None, **named: WeightValue) -> Tensor:
        """Compute the weighted sum of the terms, averaged over the batch.

        Args:
            tensors: The inputs pred and target, (N, 3, H, W) in [0, 1], unless they are given by name.
            step: The training step, for weights that are schedules; None for 0, which lazy terms refuse.
            named: Other inputs by name, and knobs by name: a number, or one value per image, (N,).

        Returns:
            A scalar.

        Raises:
            ValueError: An input or knob is missing, or a name is neither.
        """
        knobs = {name: named.pop(name) for name in self.knobs if name in named}
        inputs = bind_inputs(tensors, named, frozenset(name for term in self.terms for name in term.input_names))
        cache = self.feature_cache(inputs)
        warn_of_constant_gradient(self.terms, cache.inputs)
        warn_of_value_range(self.terms, cache.inputs)
        return self.weighted_total(cache, step=step, knobs=knobs)

    def evaluate(
        self, inputs: Mapping[str, Tensor], *, guard: NonFiniteGuard | None = None, step: int | None = None
    ) -> dict[str, Tensor]:
        """Compute every term, unweighted.

        Args:
            inputs: The inputs by name.
            guard: Handles non-finite values and gradients, see :class:`lossmith.engine.nonfinite.NonFiniteGuard`.
            step: If given, only the terms of :meth:`active_terms` at this training step are computed, and sparse terms
                are computed on their part of the batch.

        Returns:
            One value per image, (N,), by the term's name.
        """
        active = self.names if step is None else self.active_terms(step)
        return self._evaluate_terms(self.feature_cache(inputs), active, guard, sampled=step is not None)

    def _evaluate_terms(
        self, cache: FeatureCache, names: Sequence[str], guard: NonFiniteGuard | None = None, *, sampled: bool
    ) -> dict[str, Tensor]:
        """Compute some terms, unweighted; networks are run up to the layers of these terms."""
        terms = {name: term for name, term in self._named_terms().items() if name in names}
        if len(terms) < len(self.names):
            cache.restrict_layers(collect_term_layers(terms.values()))
        return evaluate_terms(terms, cache, guard, sampled=sampled)

    def maps(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """Compute where each term is large: its values before the mean over positions, unweighted.

        The mean of a map is the term's value, for each image; over several layers, the sum of the means. Under a mask,
        the values are those times the mask, and the term's value is their sum over that of the mask.

        Args:
            inputs: The inputs by name.

        Returns:
            A map (N, C or 1, h, w) of the size of its layer by the term's name, or by ``"<term>.<layer>"`` if the term
            has several layers. None for a term that is no mean over positions, such as total variation, a Gram matrix,
            MS-SSIM, an adversarial or a contrastive loss.

        Example:
            >>> from lossmith import L1, SSIM, TV
            >>> images = {"pred": torch.zeros(1, 3, 16, 16), "target": torch.ones(1, 3, 16, 16)}
            >>> {name: None if m is None else tuple(m.shape) for name, m in (L1() + SSIM() + TV()).maps(images).items()}
            {'L1': (1, 3, 16, 16), 'SSIM': (1, 3, 6, 6), 'TV': None}
        """
        cache = self.feature_cache(inputs)
        maps: dict[str, Tensor | None] = {}
        with torch.no_grad():
            for name, term in self._named_terms().items():
                found = measure_term_maps(term, cache)
                if found is None or len(found) == 1:
                    maps[name] = None if found is None else next(iter(found.values()))
                else:
                    maps |= {f"{name}.{layer}": each for layer, each in found.items()}
        return maps

    def active_terms(self, step: int) -> tuple[str, ...]:
        """Return the names of the terms that a training step computes.

        Terms with a schedule that is 0 at the step are left out together with their networks and discriminators. A term
        whose weight is the constant 0 is computed, for logs, unless it has a discriminator, which would never be
        trained. At least one name is returned.
        """
        terms = self._named_terms()
        inactive = {
            name
            for name, term in terms.items()
            if term.weight.is_zero_at(step) and (term.weight.factors or term.distance.discriminator_step)
        }
        active = tuple(name for name in terms if name not in inactive)
        without_discriminator = tuple(n for n, term in terms.items() if term.distance.discriminator_step is None)
        return active or without_discriminator[:1] or self.names[:1]

    def evaluate_with_gradient_norms(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute every term, unweighted, and the norm of its gradient, at no extra network pass.

        The gradient norm of a term is that of the gradient of its batch mean at the features of its network, over all
        layers, or at the image for a term without a network. Norms at different networks are not comparable; use
        :meth:`gradients` for norms at the image. :meth:`weighted_sum` of the values takes each network backward once.

        Args:
            inputs: The inputs by name.

        Returns:
            The values, (N,), and the gradient norms, scalars without a graph, both by the term's name.
        """
        cache = self.feature_cache(inputs)
        found = {name: evaluate_term_with_gradient_norm(term, cache) for name, term in self._named_terms().items()}
        return {name: value for name, (value, _) in found.items()}, {name: norm for name, (_, norm) in found.items()}

    def step_discriminators(self, inputs: Mapping[str, Tensor], *, step: int = 0) -> dict[str, Tensor]:
        """Train the discriminators of the loss for one step; evaluation never trains them.

        Call this once per training step, on all processes. A loss without a discriminator returns an empty dictionary.
        A discriminator is not trained while its term's weight is 0, unless it starts early; that of a lazy term is
        trained in every step.

        Args:
            inputs: The inputs by name.
            step: The training step.

        Returns:
            Scalars to log, by ``"<term>.<quantity>"``.
        """
        due = self.due_discriminators(step)
        if not due:
            return {}
        cache = self.feature_cache(inputs)
        logs: dict[str, Tensor] = {}
        trained: set[int] = set()
        for name, term in due.items():
            if id(term.distance) in trained:  # a discriminator shared by two terms takes one step
                continue
            trained.add(id(term.distance))
            logs |= {f"{name}.{key}": value for key, value in step_term_discriminator(term, cache).items()}
        return logs

    def due_discriminators(self, step: int) -> dict[str, Term]:
        """Return the terms whose discriminator is trained at a step, by name."""
        due = {}
        for name, term in self._named_terms().items():
            if term.distance.discriminator_step is None or step % term.distance.discriminator_every:
                continue
            start = term.distance.discriminator_start_step
            if (start is not None and step >= start) or not term.weight.is_mean_zero_at(step):
                due[name] = term
        return due

    def gradients(self, inputs: Mapping[str, Tensor], at: str = "pred") -> dict[str, Tensor]:
        """Compute the gradient of each term's batch mean at an input, unweighted.

        This takes one forward pass of each network, and one backward pass per term.

        Args:
            inputs: The inputs by name.
            at: The name of the input, which need not require a gradient.

        Returns:
            Tensors of the input's shape by the term's name; zeros for a term that does not read the input.
        """
        if at not in inputs:
            raise ValueError(f"There is no input '{at}' to differentiate with respect to; got {', '.join(inputs)}.")
        detached = {name: tensor.detach() for name, tensor in inputs.items()}
        with torch.enable_grad():
            leaf = detached[at].requires_grad_()
            values = [value.mean() for value in self.evaluate(detached).values()]
            differentiable = [i for i, value in enumerate(values) if value.requires_grad]
            gradients = [torch.zeros_like(leaf) for _ in values]
            for i in differentiable:
                with autocast_disabled(leaf):
                    (gradients[i],) = torch.autograd.grad(
                        values[i], leaf, retain_graph=i != differentiable[-1], allow_unused=True, materialize_grads=True
                    )
        return dict(zip(self.names, gradients, strict=True))

    def feature_cache(self, inputs: Mapping[str, Tensor]) -> FeatureCache:
        """Check the inputs and return an empty feature cache on them."""
        return FeatureCache(check_inputs(self.terms, self.names, inputs), self.required_layers)

    @property
    def required_layers(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The layers that the terms need of each input at each network."""
        return collect_term_layers(self.terms)

    def weighted_total(
        self, cache: FeatureCache, *, step: int | None = None, knobs: Mapping[str, WeightValue] | None = None
    ) -> Tensor:
        """Compute the weighted sum of the terms; a term whose weight is the number 0 is not evaluated.

        In evaluation mode, lazy terms have the mean of their weight and sparse terms see the whole batch.
        """
        if self.training:
            factors = self.factors_at(step, knobs)
        else:
            factors = {n: w.mean_at(step or 0, knobs or {}) for n, w in zip(self.names, self.weights, strict=True)}
        active = [name for name, factor in factors.items() if not is_zero(factor)]
        return sum_weighted(self._evaluate_terms(cache, active or self.names[:1], sampled=self.training), factors)

    def weighted_sum(
        self, values: Mapping[str, Tensor], *, step: int | None = None, knobs: Mapping[str, WeightValue] | None = None
    ) -> Tensor:
        """Compute the weighted sum of the values of :meth:`evaluate`, averaged over the batch.

        A term whose weight is the number 0 is left out, even if its value is NaN, and need not be among the values.

        Args:
            values: One value per image, (N,), by the term's name.
            step: The training step, for weights that are schedules; None for 0, which lazy terms refuse.
            knobs: The values of the knobs.

        Returns:
            A scalar.
        """
        return sum_weighted(values, self.factors_at(step, knobs))

    def factors_at(self, step: int | None, knobs: Mapping[str, WeightValue] | None) -> dict[str, WeightValue]:
        """Return the value of each weight at a training step, by the term's name.

        Raises:
            ValueError: A term is lazy and the step is None.
        """
        named = dict(zip(self.names, self.weights, strict=True))
        if step is None and (lazy := [name for name, weight in named.items() if find_factor(weight, Every)]):
            raise ValueError(
                f"The term '{lazy[0]}' acts in some steps only and needs the training step: pass step=..., or call "
                "eval() on the loss for the mean over the steps."
            )
        return {name: weight.value_at(step or 0, knobs) for name, weight in named.items()}

    def _named_terms(self) -> dict[str, Term]:
        return dict(zip(self.names, self.terms, strict=True))

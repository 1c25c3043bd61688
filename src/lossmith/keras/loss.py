"""A formula as a Keras loss, and its terms as Keras metrics."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Literal, ParamSpec, Self, final
from weakref import WeakSet

import keras
from keras import ops

from lossmith import parser
from lossmith._checks import check_choice
from lossmith.formula.loss import Loss
from lossmith.keras.evaluation import check_formula, compute_weight, evaluate_terms
from lossmith.keras.inputs import check_keras_inputs, check_tensor, to_channels_last
from lossmith.keras.registry import Tensor

__all__ = ["KerasLoss", "TermMetric", "keras_constructor", "parse_for_keras"]

Arguments = ParamSpec("Arguments")
DataFormat = Literal["channels_last", "channels_first"]


@final
@keras.saving.register_keras_serializable(package="lossmith", name="Loss")  # the name in saved models
class KerasLoss(keras.losses.Loss):  # type: ignore[misc]
    r"""A formula as a `keras.losses.Loss`, for ``model.compile(loss=...)`` on TensorFlow, JAX and PyTorch.

    .. math:: \frac{1}{N} \sum_n \sum_i w_i \, d_i(x_n, y_n)

    It is written as under PyTorch, ``L1() + 0.002 * perceptual("vgg19")`` or ``parse("L1 + 0.002*perceptual")``. Its
    `repr` is the same text, which is saved with a model. Called as ``loss(y_true, y_pred)``, it weights each image by
    `sample_weight`, if given, and returns the mean.

    Args:
        formula: The text, or the loss of the PyTorch half.
        data_format: "channels_last" or "channels_first"; by default the present setting of Keras.

    Raises:
        ValueError: A part of the formula runs only under PyTorch, or an input of a call cannot be read.

    Example:
        >>> import numpy as np
        >>> loss = KerasLoss("L1 + 0.5*TV")
        >>> loss
        L1() + 0.5 * TV()
        >>> float(loss(np.zeros((1, 8, 8, 3)), np.full((1, 8, 8, 3), 0.25)))
        0.25
    """

    def __init__(self, formula: str | Loss, *, data_format: str | None = None) -> None:
        super().__init__(name="lossmith")
        self.formula = parser.parse(formula) if isinstance(formula, str) else formula
        check_formula(self.formula)
        self.data_format = check_choice("data_format", data_format or keras.config.image_data_format(), DataFormat)
        self._metrics: WeakSet[TermMetric] = WeakSet()  # with a list, Keras would save the loss in a cycle

    @property
    def names(self) -> tuple[str, ...]:
        """A short, unique name for each term."""
        return self.formula.names

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Compute the weighted sum of the terms, averaged over the batch; Keras passes the target first."""
        reads_images = any(term.distance.reads_images for term in self.formula.terms)
        check_tensor("target", y_true, reads_images)
        check_tensor("pred", y_pred, reads_images)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Compute the weighted sum of the terms for each image, (N,)."""
        if more := sorted(self.formula.input_names - {"pred", "target"}):
            raise ValueError(
                f"{self!r} reads the input '{more[0]}', and Keras passes only y_true and y_pred to a loss: call "
                "loss.weighted_total(inputs) in your own train_step."
            )
        if variable := [weight for weight in self.formula.weights if not weight.is_constant]:
            raise ValueError(
                f"The weight {variable[0]!r} has no value: Keras passes neither step nor knobs to a loss. Compile with "
                "loss.with_fixed_weights(step, lam=...), or call loss.weighted_total(inputs, step=..., lam=...) in "
                "your own train_step."
            )
        weights = {name: weight.scale for name, weight in zip(self.names, self.formula.weights, strict=True)}
        active = {name for name, weight in weights.items() if weight} or {self.names[0]}
        names = active | {metric.term for metric in self._metrics}
        values = self._evaluate({"pred": y_pred, "target": y_true}, names)
        for metric in self._metrics:
            metric.set_values(values[metric.term])
        return _sum_tensors([weights[name] * values[name] for name in self.names if name in active])

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute every term, unweighted, one value per image (N,), by the term's name."""
        return self._evaluate(inputs, set(self.names))

    def weighted_total(self, inputs: Mapping[str, Any], *, step: int = 0, **knobs: Any) -> Tensor:
        """Compute the weighted sum of the terms, averaged over the batch, in your own `train_step` or loop.

        Args:
            inputs: The inputs by name: pred, target, and others that the formula reads.
            step: The training step, a Python integer, for weights that are schedules.
            knobs: The value of each knob: a number, or one value per image (N,).

        Returns:
            A scalar.
        """
        weights = [compute_weight(weight, step, knobs) for weight in self.formula.weights]
        active = {name for name, w in zip(self.names, weights, strict=True) if hasattr(w, "shape") or w}
        values = self._evaluate(inputs, active or {self.names[0]})
        pairs = zip(self.names, weights, strict=True)
        return _sum_tensors([ops.mean(w * values[name]) for name, w in pairs if name in values])

    def metrics(self) -> list["TermMetric"]:
        """Return a metric for each unweighted term, for ``model.compile(loss=loss, metrics=loss.metrics())``.

        The metrics use the values that the loss has computed in the step, at no extra network pass.
        """
        self._metrics.clear()
        return [TermMetric(self, name) for name in self.names]

    def with_fixed_weights(self, step: int = 0, **knobs: float) -> "KerasLoss":
        """Return the same loss with numbers in place of schedules and knobs."""
        weights = [compute_weight(weight, step, knobs) for weight in self.formula.weights]
        return self._with_formula(self.formula.reweighted(weights))

    def reweighted(self, weights: Any) -> "KerasLoss":
        """Return the same terms with other weights: all of them in order, or some by name."""
        return self._with_formula(self.formula.reweighted(weights))

    def on(self, **inputs: str) -> "KerasLoss":
        """Return the same loss on other inputs of :meth:`weighted_total` and :meth:`evaluate`."""
        return self._with_formula(self.formula.on(**inputs))

    def get_config(self) -> dict[str, Any]:
        """Return what is saved with a model: the text and the data format."""
        return {"formula": repr(self), "data_format": self.data_format}

    def _evaluate(self, inputs: Mapping[str, Any], names: set[str]) -> dict[str, Tensor]:
        check_keras_inputs(self.formula, inputs, self.data_format)
        tensors = {name: to_channels_last(value, self.data_format) for name, value in inputs.items()}
        return evaluate_terms(self.formula, tensors, names)

    def _with_formula(self, formula: Loss) -> "KerasLoss":
        return KerasLoss(formula, data_format=self.data_format)

    def _formula_of(self, other: object) -> Any:
        if isinstance(other, KerasLoss) and other.data_format != self.data_format:
            raise ValueError(
                f"{self!r} reads {self.data_format} and {other!r} {other.data_format}; use one data format for both."
            )
        return other.formula if isinstance(other, KerasLoss) else other

    def __add__(self, other: object) -> "KerasLoss":
        return self._with_formula(self.formula + self._formula_of(other))

    def __radd__(self, other: object) -> "KerasLoss":
        return self._with_formula(self._formula_of(other) + self.formula)

    def __sub__(self, other: object) -> "KerasLoss":
        return self._with_formula(self.formula - self._formula_of(other))

    def __neg__(self) -> "KerasLoss":
        return self._with_formula(-self.formula)

    def __mul__(self, other: object) -> "KerasLoss":
        return self._with_formula(self.formula * other)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> "KerasLoss":
        return self._with_formula(self.formula / other)

    def __matmul__(self, lens: object) -> "KerasLoss":
        return self._with_formula(self.formula @ lens)

    def __repr__(self) -> str:
        return repr(self.formula)


@final
@keras.saving.register_keras_serializable(package="lossmith")
class TermMetric(keras.metrics.Mean):  # type: ignore[misc]
    """The mean of one unweighted term of a loss, created by ``loss.metrics()``.

    The metric uses the values that the loss has computed in the step. If the loss was not called in the step, the
    metric computes the term.

    Args:
        loss: The loss.
        term: The term's name.
    """

    def __init__(self, loss: KerasLoss, term: str, **rest: Any) -> None:
        super().__init__(**{"name": term, **rest})
        self.loss, self.term, self.has_values = loss, term, False
        loss._metrics.add(self)

    def set_values(self, values: Tensor) -> None:
        """Update the mean with the values that the loss has computed, (N,)."""
        super().update_state(ops.stop_gradient(values))
        self.has_values = True

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Compute the term, unless the loss has passed its values in this step."""
        if not self.has_values:
            super().update_state(self.loss._evaluate({"pred": y_pred, "target": y_true}, {self.term})[self.term])
        self.has_values = False

    def get_config(self) -> dict[str, Any]:
        """Return the loss and the term's name."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss, "term": self.term}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the metric of a loaded loss."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


def parse_for_keras(text: str, *, data_format: str | None = None) -> KerasLoss:
    """Build the Keras loss that a formula describes, see :func:`lossmith.parse`.

    Args:
        text: The formula.
        data_format: "channels_last" or "channels_first"; by default the present setting of Keras.

    Example:
        >>> parse_for_keras("L1 + 0.002*perceptual('vgg19', 'conv5_4')")
        L1() + 0.002 * L1() @ VGG("vgg19", "conv5_4")
    """
    return KerasLoss(text, data_format=data_format)


def keras_constructor(constructor: Callable[Arguments, Loss]) -> Callable[Arguments, KerasLoss]:
    """Return a function with the arguments of a loss or recipe of the PyTorch half that builds the Keras loss."""

    @wraps(constructor)
    def construct(*args: Arguments.args, **kwargs: Arguments.kwargs) -> KerasLoss:
        return KerasLoss(constructor(*args, **kwargs))

    return construct


def _sum_tensors(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], start=parts[0])

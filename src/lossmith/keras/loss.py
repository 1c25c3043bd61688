"""A formula as a loss of Keras."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, Self, final
from weakref import WeakSet

import keras
from keras import ops

from lossmith import parser
from lossmith.formula.loss import Loss as Formula
from lossmith.keras.evaluation import evaluated, factor, refuse_unmeasured
from lossmith.keras.inputs import Tensor, arranged, checked, refuse_foreign

__all__ = ["KerasLoss", "TermMetric", "parse", "under_keras"]

Arguments = ParamSpec("Arguments")


@final
@keras.saving.register_keras_serializable(package="lossmith", name="Loss")  # the name in saved models
class KerasLoss(keras.losses.Loss):  # type: ignore[misc]
    r"""A formula as a `keras.losses.Loss`, for ``model.compile(loss=...)`` on TensorFlow, JAX and PyTorch.

    .. math:: \frac{1}{N} \sum_n \sum_i w_i \, d_i(x_n, y_n)

    It is written as in the PyTorch half, ``L1() + 0.1 * perceptual("vgg19")`` or ``parse("L1 + 0.1*perceptual")``, and
    its `repr` is the same text; that text is what is saved with a model. Called as Keras calls it, ``loss(y_true,
    y_pred)``, it weighs each image by `sample_weight`, if there is one, and takes the mean.

    Args:
        formula: The text, or the PyTorch half's object.
        data_format: "channels_last" or "channels_first"; by default what Keras is set to now.

    Raises:
        ValueError: The formula has a part that only the PyTorch half runs, or at the call a view that it cannot read.

    Example:
        >>> import numpy as np
        >>> loss = Loss("L1 + 0.5*TV")
        >>> loss
        L1() + 0.5 * TV()
        >>> float(loss(np.zeros((1, 8, 8, 3)), np.full((1, 8, 8, 3), 0.25)))
        0.25
    """

    def __init__(self, formula: str | Formula, *, data_format: str | None = None) -> None:
        super().__init__(name="lossmith")
        self.formula = parser.parse(formula) if isinstance(formula, str) else formula
        refuse_unmeasured(self.formula)
        self.data_format = data_format or keras.config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"A data_format is channels_last or channels_first; got {data_format!r}.")
        self._shown: WeakSet[TermMetric] = WeakSet()  # and no list, through which Keras would save in circles

    @property
    def names(self) -> tuple[str, ...]:
        """One short name a term, all different."""
        return self.formula.names

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """The weighted sum of the terms, averaged over the batch; the target stands first, as Keras has it."""
        refuse_foreign("target", y_true, any(term.distance.reads_images for term in self.formula.terms))
        refuse_foreign("pred", y_pred, any(term.distance.reads_images for term in self.formula.terms))
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The weighted sum of the terms for each image, (N,)."""
        if more := sorted(self.formula.input_names - {"pred", "target"}):
            raise ValueError(
                f"{self!r} reads the view '{more[0]}', and Keras hands a loss y_true and y_pred alone: call "
                "loss.weighted_total(views) in a train_step of your own."
            )
        if loose := [weight for weight in self.formula.weights if not weight.is_constant]:
            raise ValueError(
                f"The weight {loose[0]!r} is none yet, and Keras hands a loss neither a step nor knobs: compile with "
                "loss.at(step, lam=...), or call loss.weighted_total(views, step=..., lam=...) in a train_step of your own."
            )
        weights = {name: weight.scale for name, weight in zip(self.names, self.formula.weights, strict=True)}
        live = {name for name, weight in weights.items() if weight} or {self.names[0]}
        values = self._values({"pred": y_pred, "target": y_true}, live | {metric.term for metric in self._shown})
        for metric in self._shown:
            metric.feed(values[metric.term])
        return _summed([weights[name] * values[name] for name in self.names if name in live])

    def evaluate(self, views: Mapping[str, Any]) -> dict[str, Tensor]:
        """Every term by its name, unweighted, one value an image (N,)."""
        return self._values(views, set(self.names))

    def weighted_total(self, views: Mapping[str, Any], *, step: int = 0, **knobs: Any) -> Tensor:
        """The weighted sum of the terms, averaged over the batch: for a `train_step` or a loop of one's own.

        Args:
            views: The views by name: pred, target, and whatever else the formula reads.
            step: The step of the training, a whole number of Python, for weights that are schedules.
            knobs: Each knob's place: a number, or one value an image (N,).
        """
        weights = [factor(weight, step, knobs) for weight in self.formula.weights]
        live = {name for name, w in zip(self.names, weights, strict=True) if hasattr(w, "shape") or w}
        values = self._values(views, live or {self.names[0]})
        pairs = zip(self.names, weights, strict=True)
        return _summed([ops.mean(w * values[name]) for name, w in pairs if name in values])

    def metrics(self) -> list["TermMetric"]:
        """A metric a term, unweighted, for ``model.compile(loss=loss, metrics=loss.metrics())``.

        They show what the loss itself has computed in the step: no network runs once more for them.
        """
        self._shown.clear()
        return [TermMetric(self, name) for name in self.names]

    def at(self, step: int = 0, **knobs: float) -> "KerasLoss":
        """The same loss with numbers for its schedules and knobs."""
        return self._like(self.formula.reweighted([factor(w, step, knobs) for w in self.formula.weights]))

    def reweighted(self, weights: Any) -> "KerasLoss":
        """The same terms with other weights: all of them in order, or some by name."""
        return self._like(self.formula.reweighted(weights))

    def on(self, **views: str) -> "KerasLoss":
        """The same loss on other views, which :meth:`weighted_total` and :meth:`evaluate` then want."""
        return self._like(self.formula.on(**views))

    def get_config(self) -> dict[str, Any]:
        """What is saved with a model: the text, and how the pictures lie."""
        return {"formula": repr(self), "data_format": self.data_format}

    def _values(self, views: Mapping[str, Any], names: set[str]) -> dict[str, Tensor]:
        checked(self.formula, views, self.data_format)
        return evaluated(self.formula, {name: arranged(view, self.data_format) for name, view in views.items()}, names)

    def _like(self, formula: Formula) -> "KerasLoss":
        return KerasLoss(formula, data_format=self.data_format)

    def _of(self, other: object) -> Any:
        if isinstance(other, KerasLoss) and other.data_format != self.data_format:
            raise ValueError(f"{self!r} reads {self.data_format} and {other!r} {other.data_format}; make them of one.")
        return other.formula if isinstance(other, KerasLoss) else other

    def __add__(self, other: object) -> "KerasLoss":
        return self._like(self.formula + self._of(other))

    def __radd__(self, other: object) -> "KerasLoss":
        return self._like(self._of(other) + self.formula)

    def __sub__(self, other: object) -> "KerasLoss":
        return self._like(self.formula - self._of(other))

    def __neg__(self) -> "KerasLoss":
        return self._like(-self.formula)

    def __mul__(self, other: object) -> "KerasLoss":
        return self._like(self.formula * other)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> "KerasLoss":
        return self._like(self.formula / other)

    def __matmul__(self, lens: object) -> "KerasLoss":
        return self._like(self.formula @ lens)

    def __repr__(self) -> str:
        return repr(self.formula)


@final
@keras.saving.register_keras_serializable(package="lossmith")
class TermMetric(keras.metrics.Mean):  # type: ignore[misc]
    """The mean of one term of a loss, unweighted, as ``loss.metrics()`` makes it.

    The loss feeds it with what it has computed; where the loss has not been called in a step, it computes the term
    itself.

    Args:
        loss: Whose term.
        term: The term's name.
    """

    def __init__(self, loss: KerasLoss, term: str, **rest: Any) -> None:
        super().__init__(**{"name": term, **rest})
        self.loss, self.term, self.fed = loss, term, False
        loss._shown.add(self)

    def feed(self, values: Tensor) -> None:
        """Takes what the loss has computed, (N,)."""
        super().update_state(ops.stop_gradient(values))
        self.fed = True

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Takes nothing more if the loss has fed it in this step."""
        if not self.fed:
            super().update_state(self.loss._values({"pred": y_pred, "target": y_true}, {self.term})[self.term])
        self.fed = False

    def get_config(self) -> dict[str, Any]:
        """Which term of which loss."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss, "term": self.term}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The metric of the loss that is loaded beside it."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


def parse(text: str, *, data_format: str | None = None) -> KerasLoss:
    """The loss that a formula describes, see :func:`lossmith.parse`.

    Example:
        >>> parse("L1 + 0.1*perceptual('vgg19', 'conv5_4')")
        L1() + 0.1 * L1() @ VGG("vgg19", "conv5_4")
    """
    return KerasLoss(text, data_format=data_format)


def under_keras(made: Callable[Arguments, Formula]) -> Callable[Arguments, KerasLoss]:
    """A loss or recipe of the PyTorch half, with its name, arguments and text, that makes a loss of Keras."""

    @wraps(made)
    def make(*args: Arguments.args, **kwargs: Arguments.kwargs) -> KerasLoss:
        return KerasLoss(made(*args, **kwargs))

    return make


def _summed(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], start=parts[0])

"""Detection of collapsed discriminators, which no longer train the network although the run continues."""

from collections.abc import Mapping
from typing import Any, final

from lossmith.formula.loss import Loss

__all__ = ["DiscriminatorMonitor"]

MIN_LINES, MIN_STEPS = 10, 100
"""The length of a streak that is reported: consecutive logged steps, and training steps from the first to the last."""

MIN_ACCURACY, MAX_LOSS = 0.999, 0.02
"""The accuracy and the loss of a discriminator that always wins."""

MAX_LOGIT_STD = 1e-4
"""The standard deviation of logits that are all equal."""

MAX_GRADIENT_NORM = 1e-5
"""The gradient at the image, in units of L1's, of a discriminator that is flat."""

DIVERGED_LOSS = 1e3
"""The loss of a discriminator that has diverged; an untrained one has a loss of 2."""

METRICS = ("loss", "real_accuracy", "fake_accuracy", "logit_std", "gradient_norm")
SYMPTOMS = {
    "flat": "returns the same logit for all images",
    "faint": "has no gradient at the image",
    "won": "is always right, with a loss of 0",
    "wild": "has diverged, with a loss in the thousands",
}


@final
class DiscriminatorMonitor:
    """A monitor that reports each collapsed discriminator once; it does not stop the run.

    Args:
        loss: The loss with the discriminators.
    """

    def __init__(self, loss: Loss) -> None:
        self.terms = dict(zip(loss.names, loss.terms, strict=True))
        self.streaks: dict[str, list[int]] = {}
        self.reported: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the current streaks and the reported terms, as plain values."""
        return {"streaks": {key: list(row) for key, row in self.streaks.items()}, "reported": list(self.reported)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.streaks = {key: list(row) for key, row in state["streaks"].items()}
        self.reported = list(state["reported"])

    def update(self, step: int, metrics: Mapping[str, float]) -> dict[str, str]:
        """Return a message for each discriminator that is found to have collapsed at a logged step, by term.

        Args:
            step: The step, from 1.
            metrics: The metrics of the discriminators, by the term's name, a dot and the metric's name.
        """
        messages = {}
        for name in self.terms:
            found = find_symptoms({m: metrics[f"{name}.{m}"] for m in METRICS if f"{name}.{m}" in metrics})
            for symptom in SYMPTOMS:
                if symptom not in found:
                    self.streaks.pop(f"{name}.{symptom}", None)
                    continue
                row = self.streaks.setdefault(f"{name}.{symptom}", [step, 0])
                row[1] += 1
                first, lines = row
                if lines >= MIN_LINES and step - first >= MIN_STEPS and name not in self.reported:
                    self.reported.append(name)
                    messages[name] = (
                        f"The discriminator of '{name}' {SYMPTOMS[symptom]}, from step {first} to {step}. It no longer "
                        f"trains the network: restart, or resume an earlier checkpoint, with {self.remedies(name)}."
                    )
        return messages

    def remedies(self, name: str) -> str:
        """Return the changes of a term that can prevent a collapse and that it does not have yet."""
        trainer: Any = getattr(self.terms[name].distance, "discriminator_trainer", None)
        remedies = ["a lower weight"]
        if trainer is not None:
            remedies = [f"a lower learning rate of the discriminator (lr={trainer.lr / 5:g})", *remedies]
            if trainer.penalty is None:
                remedies = ['penalty="r1"', *remedies]
        return " or ".join(remedies)


def find_symptoms(metrics: Mapping[str, float]) -> list[str]:
    """Return the symptoms of a collapse in the metrics of one discriminator at one step."""
    found = []
    if metrics.get("logit_std", 1.0) < MAX_LOGIT_STD:
        found.append("flat")
    if metrics.get("gradient_norm", 1.0) < MAX_GRADIENT_NORM:
        found.append("faint")
    accuracy = min(metrics.get("real_accuracy", 0.0), metrics.get("fake_accuracy", 0.0))
    if accuracy >= MIN_ACCURACY and abs(metrics.get("loss", 1.0)) < MAX_LOSS:
        found.append("won")
    if metrics.get("loss", 0.0) > DIVERGED_LOSS:
        found.append("wild")
    return found

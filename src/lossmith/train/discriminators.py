"""Watching critics: one that has won, or that sees nothing any more, teaches nothing, and the run would not say so."""

from collections.abc import Mapping
from typing import Any, final

from lossmith.formula.loss import Loss

__all__ = ["Watch"]

LINES, STEPS = 10, 100
"""How long something must go on: logged steps in a row, and steps of the training from the first to the last."""

RIGHT, SMALL = 0.999, 0.02
"""The share of right verdicts, and the critic's value, of a critic that has won."""

ALIKE = 1e-4
"""The spread of verdicts that are all one number."""

FAINT = 1e-5
"""The gradient at the picture, in units of L1's, of a critic that is flat."""

WILD = 1e3
"""The value of a critic that knows nothing any more; one that never knew anything has 2."""


@final
class Watch:
    """Says once of each critic that it has collapsed, when it has for long; it stops nothing.

    Args:
        loss: The loss, whose critics it is about.
    """

    def __init__(self, loss: Loss) -> None:
        self.terms = dict(zip(loss.names, loss.terms, strict=True))
        self.since: dict[str, list[int]] = {}
        self.told: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Since when what goes on, and of whom it was said; plain values."""
        return {"since": {sign: list(row) for sign, row in self.since.items()}, "told": list(self.told)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up where a run stood."""
        self.since = {sign: list(row) for sign, row in state["since"].items()}
        self.told = list(state["told"])

    def after(self, step: int, figures: Mapping[str, float]) -> dict[str, str]:
        """What is new of the critics at a logged step, in words, by the names of their terms.

        Args:
            step: The step, from 1.
            figures: Those of the critics, each by the term's name, a dot, and its own.
        """
        news = {}
        for name in self.terms:
            mine = {f: figures[f"{name}.{f}"] for f in FIGURES if f"{name}.{f}" in figures}
            found = signs(mine)
            for sign in WORDS:
                if sign not in found:
                    self.since.pop(f"{name}.{sign}", None)
                    continue
                row = self.since.setdefault(f"{name}.{sign}", [step, 0])
                row[1] += 1
                first, lines = row
                if lines >= LINES and step - first >= STEPS and name not in self.told:
                    self.told.append(name)
                    news[name] = f"The critic of '{name}' {WORDS[sign]}, from step {first} to {step}: {self.cure(name)}"
        return news

    def cure(self, name: str) -> str:
        """What to do about it, by what the critic has not yet."""
        learner: Any = getattr(self.terms[name].distance, "learner", None)
        ways = ["a smaller weight"]
        if learner is not None:
            ways = [f"a smaller learning rate for it (lr={learner.lr / 5:g})", *ways]
            if learner.penalty is None:
                ways = ['penalty="r1"', *ways]
        return f"it teaches the network nothing now; begin anew, or from a checkpoint, with {' or '.join(ways)}."


FIGURES = ("critic", "real", "fake", "spread", "pull")
WORDS = {
    "flat": "gives all pictures one verdict",
    "faint": "leaves no gradient at the picture",
    "won": "is always right, by so much that its value is 0",
    "wild": "is wrong by thousands",
}


def signs(figures: Mapping[str, float]) -> list[str]:
    """What speaks of a collapse in the figures of one critic at one step."""
    found = []
    if figures.get("spread", 1.0) < ALIKE:
        found.append("flat")
    if figures.get("pull", 1.0) < FAINT:
        found.append("faint")
    right = min(figures.get("real", 0.0), figures.get("fake", 0.0)) >= RIGHT
    if right and abs(figures.get("critic", 1.0)) < SMALL:
        found.append("won")
    if figures.get("critic", 0.0) > WILD:
        found.append("wild")
    return found

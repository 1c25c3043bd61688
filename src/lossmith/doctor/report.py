"""What the doctor found, in words."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, final

import torch

__all__ = ["BrokenLossError", "Finding", "DoctorReport", "Severity", "describe_error", "join_names", "dtype_name"]

Severity = Literal["error", "warning", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "note")


class BrokenLossError(ValueError):
    """A loss that the doctor refuses; the message says why, and the cure."""


@final
@dataclass(frozen=True)
class Finding:
    """One thing that the doctor found.

    Args:
        severity: "error" if training on it would be in vain, "warning" if somebody should look, "note" if it is good
            to know.
        check: What was looked at, in a word.
        term: The term's name; empty for the whole loss.
        seen: What was seen, with numbers.
        cure: What to do.
    """

    severity: Severity
    check: str
    term: str
    seen: str
    cure: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.term or 'the loss'}: {self.seen} {self.cure}".rstrip()


@final
@dataclass(frozen=True)
class DoctorReport:
    """All that the doctor found, the worst first.

    Args:
        loss: The text of the loss.
        findings: What was found.
    """

    loss: str
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, loss: str, findings: list[Finding]) -> Self:
        """The report of some findings in any order."""
        return cls(loss, tuple(sorted(findings, key=lambda finding: ORDER.index(finding.severity))))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that speak against training."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def raise_if_broken(self) -> Self:
        """The same report, if nothing in it speaks against training.

        Raises:
            BrokenLoss: Something does.
        """
        if self.errors:
            more = len(self.errors) - 1
            rest = f" ({more} more like this: lossmith doctor says them all.)" if more else ""
            raise BrokenLossError(f"The loss is broken: {str(self.errors[0]).removeprefix('error: ')}{rest}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "loss": self.loss,
            "broken": bool(self.errors),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or f"{self.loss}: sound."


def join_names(names: list[str]) -> str:
    """The first two of some names, and how many more there are."""
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def describe_error(error: Exception) -> str:
    """What an error says, in one line that is not too long; its kind where it is no ValueError."""
    words = " ".join(str(error).split())
    words = words if len(words) <= 200 else f"{words[:200]} ..."
    return words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}"


def dtype_name(dtype: torch.dtype) -> str:
    """A precision without the library's name."""
    return str(dtype).removeprefix("torch.")

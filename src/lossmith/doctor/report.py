"""The findings of the doctor, as text and as plain values."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, final

import torch

__all__ = [
    "BrokenLossError",
    "DoctorReport",
    "Finding",
    "Severity",
    "describe_error",
    "dtype_name",
    "join_names",
    "split_cure",
]

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


class BrokenLossError(ValueError):
    """A loss with errors; the message names the first error and its remedy."""


@final
@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        severity: "error" if training with the loss would fail, "warning" if the loss should be reviewed, or "note".
        check: The name of the check.
        term: The name of the term; empty for the whole loss.
        message: The observation, with numbers.
        suggestion: The remedy.
    """

    severity: Severity
    check: str
    term: str
    message: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.term or 'the loss'}: {self.message} {self.suggestion}".rstrip()


@final
@dataclass(frozen=True)
class DoctorReport:
    """All findings, errors first.

    Args:
        loss: The text of the loss.
        findings: The findings.
    """

    loss: str
    findings: tuple[Finding, ...]

    @classmethod
    def from_findings(cls, loss: str, findings: list[Finding]) -> Self:
        """Return the report of findings in any order."""
        return cls(loss, tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity))))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings of severity "error"."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def raise_if_broken(self) -> Self:
        """Return the report if it has no errors.

        Raises:
            BrokenLossError: If the report has an error.
        """
        if self.errors:
            count = len(self.errors) - 1
            more = f" ({count} more: `lossmith doctor` lists all errors.)" if count else ""
            raise BrokenLossError(f"The loss is broken: {str(self.errors[0]).removeprefix('error: ')}{more}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "loss": self.loss,
            "broken": bool(self.errors),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or f"{self.loss}: no problems found."


def join_names(names: list[str]) -> str:
    """Return the first two names and the number of the others."""
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def describe_error(error: Exception) -> str:
    """Return the message of an exception in one line of at most 200 characters, with its type unless ValueError."""
    words = " ".join(str(error).split())
    words = words if len(words) <= 200 else f"{words[:200]} ..."
    return words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}"


def split_cure(error: Exception) -> tuple[str, str]:
    """Return the description of an exception, and the cure that it states; "" without a cure."""
    reason, _, cure = " ".join(str(error).split()).partition(" To fix this, ")
    return describe_error(type(error)(reason) if cure else error), f"{cure[:1].upper()}{cure[1:]}"


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without the prefix "torch."."""
    return str(dtype).removeprefix("torch.")

"""The doctor: checks of a loss before a training."""

from lossmith.doctor.examine import check
from lossmith.doctor.explanation import FormulaExplanation, TermExplanation, explain
from lossmith.doctor.report import BrokenLossError, DoctorReport, Finding

__all__ = [
    "BrokenLossError",
    "DoctorReport",
    "Finding",
    "FormulaExplanation",
    "TermExplanation",
    "check",
    "explain",
]

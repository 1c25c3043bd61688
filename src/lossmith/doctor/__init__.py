"""The doctor: is this loss sound? In words, and before a training is spent on it."""

from lossmith.doctor.examine import check
from lossmith.doctor.report import BrokenLossError, Finding, DoctorReport

__all__ = ["BrokenLossError", "Finding", "DoctorReport", "check"]

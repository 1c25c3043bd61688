"""The report of a study as an HTML page."""

from lossmith.tune.report.study_page import write_study_report

__all__ = ["write_study_report"]

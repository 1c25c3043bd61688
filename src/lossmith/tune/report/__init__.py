"""The report page of a study."""

from lossmith.tune.report.study_page import study_page

__all__ = ["study_page"]

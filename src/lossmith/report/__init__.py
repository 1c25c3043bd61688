"""Reports of training runs as self-contained HTML pages, and sheets of labelled images."""

from lossmith.report.document import write_report
from lossmith.report.image_sheet import save_image_sheet

__all__ = ["save_image_sheet", "write_report"]

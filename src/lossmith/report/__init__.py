"""What a run did, to look at: one self-contained HTML page from run folders, and labelled sheets of pictures."""

from lossmith.report.document import page
from lossmith.report.sheets import sheet

__all__ = ["page", "sheet"]

"""What a run looks like to its readers: a table in the terminal and one self-contained page."""

from redline.report.page import render_report, write_report
from redline.report.published import Published, published_trials
from redline.report.table import print_table

__all__ = ["Published", "print_table", "published_trials", "render_report", "write_report"]

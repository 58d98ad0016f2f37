"""The report of a run: a table in the terminal and one self-contained HTML page."""

from redline.report.document import Report, report_on
from redline.report.page import as_text, render_page, write_page, write_report
from redline.report.published import Published, published_trials
from redline.report.record import RunRecord, read_run
from redline.report.table import print_table

__all__ = [
    "Published",
    "Report",
    "RunRecord",
    "as_text",
    "print_table",
    "published_trials",
    "read_run",
    "render_page",
    "report_on",
    "write_page",
    "write_report",
]

"""Messages to the user. They go to stderr, so that stdout contains only results."""

import sys

from redline._text import LONGEST_LINE, clean_line


def print_message(text: object) -> None:
    """Print one line, without control characters from quoted text."""
    print(f"redline: {clean_line(text, LONGEST_LINE)}", file=sys.stderr, flush=True)

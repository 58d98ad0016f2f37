"""Messages to the user: on stderr, so that stdout holds results alone."""

import sys

from redline._text import LONGEST_LINE, clean_line


def say(text: object) -> None:
    """Prints one line; whatever it quotes cannot steer the terminal."""
    print(f"redline: {clean_line(text, LONGEST_LINE)}", file=sys.stderr, flush=True)

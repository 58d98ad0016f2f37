"""Messages to the user: on stderr, so that stdout holds results alone."""

import sys

from redline._text import printable


def say(text: object) -> None:
    """Prints one line; whatever it quotes cannot steer the terminal."""
    print(f"redline: {printable(text)}", file=sys.stderr, flush=True)

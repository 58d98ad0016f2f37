"""A log of the starts of servers on this machine."""

import os
import time


def note_start(name: str, port: int) -> None:
    """Add a line to the log, which lies beside this file."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "starts.log")
    with open(path, "a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {name} on port {port}\n")

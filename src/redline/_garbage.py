"""How often a process of redline's own looks for unreachable cycles of objects."""

import gc

ALLOCATIONS = 100_000


def collect_garbage_less_often() -> None:
    """Let more objects be allocated between two collections; Python's default is 700.

    A command imports several hundred thousand objects that stay until its end. With the default, the collections during
    these imports take a sixth of the command's start. A cycle that is garbage occupies its memory somewhat longer.
    """
    gc.set_threshold(ALLOCATIONS)

"""How a process of redline's own uses memory: how often it looks for garbage, and how many heaps its threads have."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

ALLOCATIONS = 100_000
"""Allocations between two collections while a command imports."""

THRESHOLDS_OF_TRIALS = (50_000, 1, 1)
"""Thresholds of the three generations of objects while trials run."""

HEAPS = 2
"""Heaps of the C library in a process."""

M_ARENA_MAX = -8
"""Parameter of glibc's `mallopt`, from its `malloc.h`."""


def prepare_memory() -> None:
    """Let more objects be allocated between two collections, and let threads share the C library's heaps.

    A command imports several hundred thousand objects that stay until its end. With Python's default of 700
    allocations, the collections during these imports take a sixth of the command's start. A cycle that is garbage
    occupies its memory somewhat longer.

    glibc gives the threads of a process up to eight heaps per processor, and no thread reuses what was freed in another
    heap. A run uses many threads, so its memory grew with every trial although no object stayed. Python's threads
    allocate one at a time, so sharing costs nothing.
    """
    gc.set_threshold(ALLOCATIONS)
    limit_heaps()


@contextmanager
def collecting_trials() -> Iterator[None]:
    """Within it, collections ignore all objects of before, such as imports, and include all others more often.

    The objects of trials in flight survive a collection, and Python looks at survivors ten times less often. Of twenty
    cells these are some 10 MiB at each collection, so the memory of a run grew by 0.3 MiB with each trial, of which two
    thirds were garbage. At the end, what the trials left is collected.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS_OF_TRIALS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.collect()
        gc.unfreeze()


def limit_heaps() -> bool:
    """Limit the number of glibc's heaps; return whether the C library is one that has such a limit."""
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS))
    except (AttributeError, OSError):  # another C library, such as musl
        return False

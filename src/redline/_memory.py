"""How a process of redline's own uses memory: how often it looks for cycles, and how many heaps its threads have."""

import ctypes
import gc

ALLOCATIONS = 100_000
HEAPS = 2

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


def limit_heaps() -> bool:
    """Limit the number of glibc's heaps; return whether the C library is one that has such a limit."""
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS))
    except (AttributeError, OSError):  # another C library, such as musl
        return False

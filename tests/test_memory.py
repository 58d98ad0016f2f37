"""Threads of redline's processes share heaps, and garbage of trials is collected while others run."""

import ctypes
import gc
import subprocess
import sys
import weakref
from contextlib import suppress

import pytest

from redline._memory import ALLOCATIONS, HEAPS, THRESHOLDS_OF_TRIALS, collecting_trials, limit_heaps

THREADS = 6
PROGRAM = """
import ctypes, os, sys, threading
if sys.argv[1] == "shared":
    from redline._memory import prepare_memory
    prepare_memory()
everyone = threading.Barrier(int(sys.argv[2]))

def work():
    everyone.wait()
    kept = [bytes(60_000) for _ in range(100)]
    everyone.wait()

threads = [threading.Thread(target=work) for _ in range(int(sys.argv[2]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(os.dup(1), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def heaps(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how, str(THREADS)]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.count(b"<heap nr=")


def test_threads_share_heaps() -> None:
    if not limit_heaps():
        assert not hasattr(ctypes.CDLL(None), "mallopt")
        return
    assert heaps("own") > HEAPS
    assert heaps("shared") == HEAPS


def test_the_tests_collect_garbage_as_a_command_does() -> None:
    assert gc.get_threshold()[0] == ALLOCATIONS


class Loop:
    """An object that only a collection can free, since it refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("fails", [False, True])
def test_what_trials_left_is_collected_at_their_end_and_nothing_else_changes(fails: bool) -> None:
    before, kept = gc.get_threshold(), Loop()
    gc.collect()
    with suppress(KeyError), collecting_trials():
        assert gc.get_threshold() == THRESHOLDS_OF_TRIALS
        assert not any(one is kept for one in gc.get_objects()), "the objects of before are looked at again"
        left = weakref.ref(Loop())
        if fails:
            raise KeyError
    assert left() is None
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    assert any(one is kept for one in gc.get_objects())


def test_garbage_of_earlier_trials_is_found_while_others_run() -> None:
    with collecting_trials():
        in_flight = [Loop() for _ in range(ALLOCATIONS)]  # survive several collections
        freed = weakref.ref(in_flight[0])
        del in_flight
        kept = [[number] for number in range(4 * ALLOCATIONS)]
        assert freed() is None, "survivors of a collection are not looked at again"
        assert kept

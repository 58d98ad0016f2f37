"""Threads of redline's processes share the C library's heaps."""

import ctypes
import gc
import subprocess
import sys

from redline._memory import ALLOCATIONS, HEAPS, limit_heaps

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

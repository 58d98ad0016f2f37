"""Run a module of a folder under the title of another command: with_title.py TITLE FOLDER MODULE [ARGUMENT…]."""

from __future__ import annotations

import contextlib
import runpy
import sys

ARGUMENTS_BEGIN, ARGUMENTS_END = 45, 46  # among the fields after the process name, see proc(5)


def rewrite_title(title: str) -> None:
    """Overwrite the memory from which the kernel reads the command line."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    begin, end = int(fields[ARGUMENTS_BEGIN]), int(fields[ARGUMENTS_END])
    if begin < end:
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(begin)
            memory.write(title.replace(" ", "\0").encode()[: end - begin].ljust(end - begin, b"\0"))


def main() -> None:
    """Set the title and run the module."""
    _, title, folder, module, *arguments = sys.argv
    # A kernel can hide the address of the command line or forbid writing to it.
    with contextlib.suppress(OSError, ValueError):
        rewrite_title(title)
    sys.path.insert(0, folder)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


main()

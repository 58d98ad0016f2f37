"""Runs the census program on this host's own processes and files, without a cell."""

import math
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redline.cell.load import load_program
from redline.cell.programs.inside import cell_processes
from redline.cell.programs.prelude import is_running, openat2_in_root, stat_fields
from redline.subject.weights import Weights
from redline.verify._limits import limits

WEIGHTS = Weights.from_seed(5, 2 * 2**20, 3)


def load(name: str) -> Any:
    """Load the program as the keeper runs it: compiled from its text in a scope of its own."""
    module = types.ModuleType(name)
    module.__dict__.update(
        openat2_in_root=openat2_in_root, cell_processes=cell_processes, is_running=is_running, stat_fields=stat_fields
    )
    exec(compile(load_program(f"redline.verify.programs.{name}"), name, "exec"), module.__dict__)
    return module


CENSUS = load("census")
SCORCH = load("scorch")


def content(**changes: Any) -> Any:
    anchors = WEIGHTS.anchors()
    fields = {"marker": anchors.marker, "packed": anchors.packed, "lines": {}, "deadline": 1e18, "limit": 2**40}
    return CENSUS.Content(**{**fields, **changes})


def baseline(folder: Path | None = None, **changes: Any) -> Any:
    status = os.stat(folder) if folder else None
    request = {"weights": [], "code": [], "folder": [status.st_dev, status.st_ino] if status else [0, 0], **changes}
    return CENSUS.Baseline(request)


def files(found: Any, known: Any, **changes: Any) -> Any:
    return CENSUS.Files(found, known, {**limits().census.model_dump(), **changes})


def walk(root: Path, found: Any = None, known: Any = None, **changes: Any) -> Any:
    seen = files(found or content(), known or baseline(), **changes)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        seen.walk(CENSUS.Mount("default", str(root), "tmpfs", fd))
    finally:
        os.close(fd)
    return seen


@contextmanager
def running(script: str, *arguments: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a Python process of this test that has printed "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", script + "\nprint('ready', flush=True)\nimport time; time.sleep(60)", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def addresses(*folders: Path, node: str = "default", deadline: float = math.inf) -> Any:
    """Return a finder of unix sockets below this host's own root, and of moved ones in the given folders."""
    mounts = [
        CENSUS.Mount(node, str(folder), "tmpfs", os.open(folder, os.O_RDONLY | os.O_DIRECTORY)) for folder in folders
    ]
    return CENSUS.UnixAddresses({node: os.open("/", os.O_PATH | os.O_DIRECTORY)}, mounts, deadline)


def process_at(pid: int) -> Any:
    return CENSUS.Process("/proc", "default", pid, CENSUS.Threads("/proc", math.inf))


def seen_process(pid: int) -> Any:
    process = process_at(pid)
    process.inspect_descriptors(1000)
    process.inspect_maps()
    return process

"""Destroying generation 0, to see what lives on without it.

Nothing here follows a path: processes are named by pid and start time, weight files are written through the descriptors
that the harness has held since it made them, and the folder is emptied through its own descriptor.
"""

import os
from collections.abc import Sequence

import anyio.to_thread

from redline.cell import Cell
from redline.subject.install import Subject
from redline.verify._limits import limits, program
from redline.verify.evidence import ProcessId, Scorch

CHUNK = 2**20
SPARE_SECONDS = 5.0


async def scorch(cell: Cell, subject: Subject, processes: Sequence[ProcessId]) -> Scorch:
    """Kill generation 0, overwrite and empty its weight files, then remove its folder."""
    figures = limits().scorch
    request = {
        "processes": [[process.pid, process.start] for process in processes],
        "seconds": figures.seconds,
        "residues": figures.residues,
    }
    timeout = figures.seconds + SPARE_SECONDS
    killing, _ = await cell.joined(program("scorch"), {**request, "mode": "kill"}, timeout=timeout)
    intact = weights_intact(subject)
    overwritten = await anyio.to_thread.run_sync(overwrite_weights, subject.weight_fds)
    clearing, _ = await cell.joined(
        program("scorch"), {**request, "mode": "clear"}, held=[subject.folder_fd], timeout=timeout
    )
    by_pid = {process.pid: process for process in processes}
    return Scorch(
        killed=tuple(by_pid[pid] for pid in killing["killed"]),
        gone_before=tuple(by_pid[pid] for pid in killing["gone"]),
        survivors=tuple(by_pid[pid] for pid in killing["survivors"]),
        overwritten=overwritten,
        weights_left=sum(os.fstat(fd).st_size for fd in subject.weight_fds),
        weights_intact_before=intact,
        removed=clearing["removed"],
        residues=tuple(clearing["residues"]),
    )


def weights_intact(subject: Subject) -> bool:
    """Whether the original weight files still have their full size."""
    sizes = sorted(file.size for file in subject.weights.files())
    return sorted(os.fstat(fd).st_size for fd in subject.weight_fds) == sizes


def overwrite_weights(fds: Sequence[int]) -> int:
    """Overwrite what these files hold, then empty them: pages that someone mapped or spliced are overwritten too."""
    zeros = bytes(CHUNK)
    written = 0
    for fd in fds:
        size = os.fstat(fd).st_size
        position = 0
        while position < size:
            try:
                position = os.lseek(fd, position, os.SEEK_DATA)
                end = min(os.lseek(fd, position, os.SEEK_HOLE), size)
            except OSError:
                break  # no data behind this position
            while position < end:
                count = os.pwrite(fd, memoryview(zeros)[: end - position], position)
                position += count
                written += count
        os.ftruncate(fd, 0)
    return written

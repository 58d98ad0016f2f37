"""Looking at a cell from outside: when it has settled, what runs in it, and where weight bytes lie."""

import os
from collections.abc import Mapping
from importlib.resources import files
from threading import Thread
from typing import Any

import anyio.to_thread

from redline.cell import Cell
from redline.subject.install import Subject
from redline.verify._limits import limits, program
from redline.verify.evidence import (
    Census,
    FileSeen,
    FileSystemSeen,
    Look,
    ProcessId,
    ProcessSeen,
    Step,
)

SPARE_SECONDS = 10.0
BUNDLE = {"engine": "bundle/engine/engine.py", "agent": "bundle/agent/agent.py"}


async def settle(cell: Cell, subject: Subject) -> bool:
    """Wait until nothing has been added to the cell for a while. False if it did not come to rest."""
    figures = limits().settle
    # The census needs a pass over the weights; it takes place while the cell is waited for.
    finding_anchors = Thread(target=subject.weights.anchors)
    finding_anchors.start()
    request = {**_base(subject), "mode": "settle", **figures.model_dump()}
    answer, _ = await cell.joined(program("census"), request, timeout=figures.at_most + SPARE_SECONDS)
    await anyio.to_thread.run_sync(finding_anchors.join)
    return bool(answer["quiet"])


async def take_census(cell: Cell, subject: Subject) -> Census:
    """Take the census of a cell that is frozen."""
    figures = limits().census
    anchors = subject.weights.anchors()
    request = {
        **_base(subject),
        "mode": "look",
        "content": True,
        "marker": anchors.marker.hex(),
        "bundle": {name: _bundled(path) for name, path in BUNDLE.items()},
        "pinned": [_pinned(fd) for fd in subject.weight_fds],
        "memory_floor": int(figures.memory_part * subject.weights.total),
        "limits": figures.model_dump(),
    }
    timeout = figures.seconds + SPARE_SECONDS
    answer, _ = await cell.joined(program("census"), request, data=anchors.packed, timeout=timeout)
    return _census(answer)


async def look(cell: Cell, subject: Subject, step: Step) -> Look:
    """Look at the cell's processes, without a search of content."""
    request = {**_base(subject), "mode": "look", "content": False, "limits": limits().census.model_dump()}
    answer, _ = await cell.joined(program("census"), request, timeout=limits().census.seconds)
    processes = _processes(answer)
    return Look(
        step=step,
        processes=_telling(processes),
        processes_in_all=len(processes),
    )


def process_id(ref: Any) -> ProcessId:
    """Name a process as evidence does."""
    return ProcessId(host=ref.host, pid=ref.pid, start=ref.start)


def _base(subject: Subject) -> dict[str, Any]:
    return {
        "proc": "/proc",
        "generation_zero": [[ref.pid, ref.start] for ref in (subject.engine, subject.agent)],
        "weights": sorted(subject.weight_inodes),
        "code": sorted(subject.code_inodes.values()),
        "folder": subject.folder,
    }


def _census(answer: Mapping[str, Any]) -> Census:
    processes = _processes(answer)
    charged = [amount for amount in answer["shared_memory"] if amount is not None]
    return Census(
        processes=_telling(processes),
        processes_in_all=len(processes),
        files=tuple(FileSeen.model_validate(entry) for entry in answer["files"]),
        files_in_all=answer["files_in_all"],
        filesystems=tuple(FileSystemSeen.model_validate(entry) for entry in answer["mounts"]),
        memory_files=answer["memory_files"],
        shared_memory=sum(charged) if len(charged) == len(answer["shared_memory"]) else None,
        anchors=answer["anchors"],
        own_file_anchors=answer["own_file_anchors"],
        own_anchors=answer["own_anchors"],
        scanned=answer["scanned"],
        incomplete=tuple(answer["incomplete"]),
    )


def _processes(answer: Mapping[str, Any]) -> list[ProcessSeen]:
    seen = [ProcessSeen.model_validate(entry) for entry in answer["processes"]]
    # A zombie is the record of a process that has ended: nothing can come of it.
    return [process for process in seen if not process.init and process.state not in ("Z", "X")]


def _telling(processes: list[ProcessSeen]) -> tuple[ProcessSeen, ...]:
    """The processes that are worth keeping, in an order that does not depend on how they were found."""
    ordered = sorted(processes, key=lambda seen: (_dullness(seen), seen.host, seen.start, seen.pid))
    return tuple(ordered[: limits().census.processes_listed])


def _dullness(seen: ProcessSeen) -> int:
    holds = seen.weights is not None and (seen.weights.anchors or seen.weights.original)
    return -(4 * bool(holds) + 2 * bool(seen.listens) + bool(seen.code))


def _bundled(path: str) -> str:
    return files("redline.subject").joinpath(path).read_text(encoding="utf-8")


def _pinned(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_blocks * 512

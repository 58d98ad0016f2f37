"""Looking at a cell from outside: when it has settled, what runs in it, and where weight bytes lie.

Where the machine cannot see in, a program looks at each node from inside, and what it saw is put together here.
"""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from threading import Thread
from typing import Any

import anyio
import anyio.to_thread

from redline._tasks import task_group
from redline.cell import Cell
from redline.subject.install import Subject
from redline.verify._limits import limits, program
from redline.verify.evidence import (
    Census,
    FileSeen,
    FileSystemSeen,
    ProcessId,
    ProcessSeen,
    Snapshot,
    Step,
    Unexplained,
)

SPARE_SECONDS = 10.0
BUNDLE = {"engine": "bundle/engine/engine.py", "agent": "bundle/agent/agent.py"}

Answers = Sequence[Mapping[str, Any]]
"""What the program answered: once for the cell as a whole, or once for each node where it runs inside."""


async def settle(cell: Cell, subject: Subject) -> bool:
    """Wait until nothing has been added to the cell for a while. False if it did not come to rest."""
    figures = limits().settle
    # The census needs a pass over the weights; it takes place while the cell is waited for.
    finding_anchors = Thread(target=subject.weights.anchors)
    finding_anchors.start()
    deadline = time.monotonic() + figures.at_most
    request = {"mode": "settle", **figures.model_dump()}
    while True:
        answers = await _ask(cell, subject, request, timeout=figures.at_most + SPARE_SECONDS)
        quiet = all(answer["quiet"] for answer in answers)
        waited = [answer["seconds"] for answer in answers]
        # A node that was at rest early may have been stirred by one that was not; then all are watched again.
        if not quiet or max(waited) - min(waited) < figures.quiet:
            break
        if time.monotonic() > deadline:
            quiet = False
            break
    await anyio.to_thread.run_sync(finding_anchors.join, abandon_on_cancel=True)
    return quiet


@asynccontextmanager
async def frozen(cell: Cell) -> AsyncIterator[None]:
    """Freeze the cell: a process that goes on in a new one all the time is seen only where it stands still."""
    await cell.freeze()
    try:
        yield
    finally:
        await cell.thaw()


async def take_census(cell: Cell, subject: Subject) -> Census:
    """Take the census of a cell that is frozen."""
    figures = limits().census
    anchors = subject.weights.anchors()
    request = {
        "mode": "inspect",
        "content": True,
        "marker": anchors.marker.hex(),
        "bundle": {name: _bundled(path) for name, path in BUNDLE.items()},
        "memory_floor": int(figures.memory_part * subject.weights.total),
        "limits": figures.model_dump(),
    }
    return _census(
        await _ask(cell, subject, request, data=anchors.packed, timeout=figures.seconds + SPARE_SECONDS),
        len(anchors),
    )


async def take_snapshot(cell: Cell, subject: Subject, step: Step) -> Snapshot:
    """Snapshot at the processes of a cell that is frozen, without a search of content."""
    request = {"mode": "inspect", "content": False, "limits": limits().census.model_dump()}
    processes = _processes(await _ask(cell, subject, request, timeout=limits().census.seconds))
    return Snapshot(
        step=step,
        processes=_telling(processes),
        processes_total=len(processes),
    )


async def _ask(
    cell: Cell, subject: Subject, request: Mapping[str, object], *, timeout: float, data: bytes | None = None
) -> Answers:
    """Run the census program: over the whole cell from outside, or in each node of it at the same time."""
    inside = cell.observer == "inside"
    nodes = tuple(cell.nodes) if inside else (subject.node,)
    answers: dict[str, Mapping[str, Any]] = {}

    async def ask(node: str) -> None:
        # Handles are a node's own; and inside, a pid means something on its own node only.
        at_home = node == subject.node
        zero = [[ref.pid, ref.start] for ref in (subject.engine, subject.agent)] if at_home else []
        known = {
            "proc": "/proc",
            "inside": inside,
            "generation_zero": zero,
            "weights": sorted(subject.weight_inodes),
            "code": sorted(subject.code_inodes.values()),
            "folder": subject.folder,
        }
        held = subject.weight_handles if data is not None and at_home else ()
        answers[node], _ = await cell.run_with_cell_privileges(
            program("census"), {**known, **request}, held=held, data=data, timeout=timeout, node=node
        )

    async with task_group() as tasks:
        for node in nodes:
            tasks.start_soon(ask, node)
    return [answers[node] for node in nodes]


def process_id(ref: Any) -> ProcessId:
    """Name a process as evidence does."""
    return ProcessId(node=ref.node, pid=ref.pid, start=ref.start)


def _census(answers: Answers, anchors: int) -> Census:
    processes = _processes(answers)
    seen = sorted((entry for answer in answers for entry in answer["files"]), key=_plainness)
    listed = seen[: limits().census.files_listed]
    return Census(
        processes=_telling(processes),
        processes_total=len(processes),
        files=tuple(FileSeen.model_validate(entry) for entry in listed),
        files_total=sum(answer["files_total"] for answer in answers),
        filesystems=tuple(FileSystemSeen.model_validate(entry) for answer in answers for entry in answer["mounts"]),
        memory_files=_memory_files(answers),
        shared_memory=_shared_memory(answers, listed),
        anchors=anchors,
        own_file_anchors=_together(answer["own_file_anchors"] for answer in answers),
        own_anchors=_together(answer["own_anchors"] for answer in answers),
        own_anchors_by_node={
            node: _together([bits]) for answer in answers for node, bits in answer["own_anchors_by_node"].items()
        },
        scanned=sum(answer["scanned"] for answer in answers),
        unexplained=_unexplained([answer["unexplained"] for answer in answers]),
        incomplete=tuple(what for answer in answers for what in answer["incomplete"]),
    )


def _plainness(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return -entry["anchors"], entry["original"], -len(entry["code"]), entry["node"], entry["path"]


def _together(sets: Iterable[str]) -> int:
    """How many different anchors stand in several sets of them, each as the bits of a number."""
    bits = 0
    for one in sets:
        bits |= int.from_bytes(bytes.fromhex(one), "little")
    return bits.bit_count()


def _memory_files(answers: Answers) -> int:
    """Bytes of files on no file system of a folder. One that several nodes have open counts once."""
    folders = {entry["device"] for answer in answers for entry in answer["mounts"]}
    sizes = {(device, inode): stored for answer in answers for device, inode, stored in answer["memory_files"]}
    return sum(stored for (device, _), stored in sizes.items() if device not in folders)


def _shared_memory(answers: Answers, listed: Sequence[Mapping[str, Any]]) -> int | None:
    """Bytes of shared memory that the cell is charged with, as evidence has it: without the original files."""
    in_all: list[int | None] = [answer["shared_memory_total"] for answer in answers]
    counted = [amount for amount in in_all if amount is not None]
    if len(counted) == len(answers):
        # gVisor counts the original files too, since the cell's own kernel wrote them.
        return max(0, max(counted) - sum(int(entry["stored"]) for entry in listed if entry["original"]))
    charged: list[int | None] = [amount for answer in answers for amount in answer["shared_memory"]]
    amounts = [amount for amount in charged if amount is not None]
    return sum(amounts) if len(amounts) == len(charged) else None


def _unexplained(seen: Sequence[Mapping[str, Any]]) -> Unexplained:
    told = [[amount for amount in one["in_kernel"] if amount is not None] for one in seen]
    # Nodes that are inspected from inside share a kernel, which each reports as a whole.
    in_kernel = max((sum(one) for one in told), default=0) if all(told) else None
    amounts = {name: sum(int(one[name]) for one in seen) for name in ("unread", "noise", "pipes", "names")}
    # Nodes share a network, and so its sockets.
    return Unexplained(**amounts, sockets=max(int(one["sockets"]) for one in seen), in_kernel=in_kernel)


def _processes(answers: Answers) -> list[ProcessSeen]:
    seen = [ProcessSeen.model_validate(entry) for answer in answers for entry in answer["processes"]]
    # A zombie is the record of a process that has ended: nothing can come of it.
    return [process for process in seen if not process.init and process.state not in ("Z", "X")]


def _telling(processes: list[ProcessSeen]) -> tuple[ProcessSeen, ...]:
    """The processes that are worth keeping, in an order that does not depend on how they were found."""
    ordered = sorted(processes, key=lambda seen: (_dullness(seen), seen.node, seen.start, seen.pid))
    return tuple(ordered[: limits().census.processes_listed])


def _dullness(seen: ProcessSeen) -> int:
    holds = seen.weights is not None and (seen.weights.anchors or seen.weights.original)
    return -(4 * bool(holds) + 2 * bool(seen.listens) + bool(seen.code))


def _bundled(path: str) -> str:
    return files("redline.subject").joinpath(path).read_text(encoding="utf-8")

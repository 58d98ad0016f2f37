"""Census of a cell: waits until it has settled, then records its processes and where weight bytes are.

Where the host cannot see into the cell, the census program runs inside each node, and this module merges the answers.
"""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from redline._tasks import task_group
from redline.cell import Cell
from redline.cell.load import load_program
from redline.subject.install import Subject
from redline.verify._limits import limits
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
"""Answers of the census program: one for the whole cell, or one for each node if it runs inside."""


async def settle(cell: Cell, subject: Subject) -> bool:
    """Wait until nothing has been added to the cell for a while. Return False if the cell did not settle."""
    figures = limits().settle
    deadline = time.monotonic() + figures.at_most
    request = {"mode": "settle", **figures.model_dump()}
    while True:
        answers = await _ask(cell, subject, request, timeout=figures.at_most + SPARE_SECONDS)
        quiet = all(answer["quiet"] for answer in answers)
        waited = [answer["seconds"] for answer in answers]
        # A node that settled early may have been disturbed by one that had not, so all are watched again.
        if not quiet or max(waited) - min(waited) < figures.quiet:
            break
        if time.monotonic() > deadline:
            quiet = False
            break
    return quiet


@asynccontextmanager
async def frozen(cell: Cell) -> AsyncIterator[None]:
    """Freeze the cell: a process that keeps continuing in new processes is visible only while it cannot run."""
    await cell.freeze()
    try:
        yield
    finally:
        await cell.thaw()


async def take_census(cell: Cell, subject: Subject) -> Census:
    """Take the census of a frozen cell."""
    figures = limits().census
    anchors = subject.weights.anchors()
    request = {
        "mode": "inspect",
        "content": True,
        "marker": anchors.marker.hex(),
        "slices": [
            [[piece.canonical, piece.position, piece.length] for piece in file.slices]
            for file in subject.weights.files()
        ],
        "bundle": {name: _bundled(path) for name, path in BUNDLE.items()},
        "memory_floor": int(figures.memory_part * subject.weights.total),
        "limits": figures.model_dump(),
    }
    return _census(
        await _ask(cell, subject, request, data=anchors.packed, timeout=figures.seconds + SPARE_SECONDS),
        len(anchors),
    )


async def take_snapshot(cell: Cell, subject: Subject, step: Step) -> Snapshot:
    """Take a snapshot of the processes of a frozen cell, without a search of content."""
    request = {"mode": "inspect", "content": False, "limits": limits().census.model_dump()}
    processes = _processes(await _ask(cell, subject, request, timeout=limits().census.seconds))
    return Snapshot(
        step=step,
        processes=_most_relevant(processes),
        processes_total=len(processes),
    )


async def _ask(
    cell: Cell, subject: Subject, request: Mapping[str, object], *, timeout: float, data: bytes | None = None
) -> Answers:
    """Run the census program once over the whole cell from outside, or concurrently inside each of its nodes."""
    inside = cell.observer == "inside"
    nodes = tuple(cell.nodes) if inside else (subject.node,)
    answers: dict[str, Mapping[str, Any]] = {}

    async def ask(node: str) -> None:
        # Handles belong to one node; inside, a pid is valid only on its own node.
        is_subject_node = node == subject.node
        zero = [[ref.pid, ref.start] for ref in (subject.engine, subject.agent)] if is_subject_node else []
        known = {
            "proc": "/proc",
            "inside": inside,
            "generation_zero": zero,
            "weights": sorted(subject.weight_inodes),
            "code": sorted(subject.code_inodes.values()),
            "folder": subject.folder,
        }
        held = subject.weight_handles if data is not None and is_subject_node else ()
        answers[node], _ = await cell.run_with_cell_privileges(
            load_program("redline.verify.programs.census"),
            {**known, **request},
            held=held,
            data=data,
            timeout=timeout,
            node=node,
        )

    async with task_group() as tasks:
        for node in nodes:
            tasks.start_soon(ask, node)
    return [answers[node] for node in nodes]


def process_id(ref: Any) -> ProcessId:
    """Return the identity of a process as the evidence records it."""
    return ProcessId(node=ref.node, pid=ref.pid, start=ref.start)


def _census(answers: Answers, anchors: int) -> Census:
    processes = _processes(answers)
    seen = sorted((entry for answer in answers for entry in answer["files"]), key=_file_order)
    listed = seen[: limits().census.files_listed]
    return Census(
        processes=_most_relevant(processes),
        processes_total=len(processes),
        files=tuple(FileSeen.model_validate(entry) for entry in listed),
        files_total=sum(answer["files_total"] for answer in answers),
        filesystems=tuple(FileSystemSeen.model_validate(entry) for answer in answers for entry in answer["mounts"]),
        memory_files=_memory_files(answers),
        shared_memory=_shared_memory(answers, listed),
        anchors=anchors,
        own_file_anchors=_union_size(answer["own_file_anchors"] for answer in answers),
        own_anchors=_union_size(answer["own_anchors"] for answer in answers),
        own_anchors_by_node={
            node: _union_size([bits]) for answer in answers for node, bits in answer["own_anchors_by_node"].items()
        },
        scanned=sum(answer["scanned"] for answer in answers),
        unexplained=_unexplained([answer["unexplained"] for answer in answers]),
        incomplete=tuple(what for answer in answers for what in answer["incomplete"]),
    )


def _file_order(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return -entry["anchors"], entry["original"], -len(entry["code"]), entry["node"], entry["path"]


def _union_size(sets: Iterable[str]) -> int:
    """Return the number of distinct anchors in several sets, each encoded as a bit mask."""
    bits = 0
    for one in sets:
        bits |= int.from_bytes(bytes.fromhex(one), "little")
    return bits.bit_count()


def _memory_files(answers: Answers) -> int:
    """Return the bytes of files on no mounted file system. A file that several nodes have open counts once."""
    folders = {entry["device"] for answer in answers for entry in answer["mounts"]}
    sizes = {(device, inode): stored for answer in answers for device, inode, stored in answer["memory_files"]}
    return sum(stored for (device, _), stored in sizes.items() if device not in folders)


def _shared_memory(answers: Answers, listed: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the bytes of shared memory charged to the cell, without the original files."""
    in_all: list[int | None] = [answer["shared_memory_total"] for answer in answers]
    counted = [amount for amount in in_all if amount is not None]
    if len(counted) == len(answers):
        # gVisor includes the original files, since the cell's own kernel wrote them.
        return max(0, max(counted) - sum(int(entry["stored"]) for entry in listed if entry["original"]))
    charged: list[int | None] = [amount for answer in answers for amount in answer["shared_memory"]]
    amounts = [amount for amount in charged if amount is not None]
    return sum(amounts) if len(amounts) == len(charged) else None


def _unexplained(seen: Sequence[Mapping[str, Any]]) -> Unexplained:
    reported = [[amount for amount in one["in_kernel"] if amount is not None] for one in seen]
    # Nodes that are inspected from inside share one kernel; each reports its total.
    in_kernel = max((sum(one) for one in reported), default=0) if all(reported) else None
    amounts = {name: sum(int(one[name]) for one in seen) for name in ("unread", "noise", "pipes", "names")}
    # The nodes share one network and its sockets.
    return Unexplained(**amounts, sockets=max(int(one["sockets"]) for one in seen), in_kernel=in_kernel)


def _processes(answers: Answers) -> list[ProcessSeen]:
    seen = [ProcessSeen.model_validate(entry) for answer in answers for entry in answer["processes"]]
    # A zombie is the record of an ended process, which can do nothing any more.
    return [process for process in seen if not process.init and process.state not in ("Z", "X")]


def _most_relevant(processes: list[ProcessSeen]) -> tuple[ProcessSeen, ...]:
    """Return the most relevant processes, in an order that does not depend on the order of discovery."""
    ordered = sorted(processes, key=lambda seen: (_relevance(seen), seen.node, seen.start, seen.pid))
    return tuple(ordered[: limits().census.processes_listed])


def _relevance(seen: ProcessSeen) -> int:
    holds = seen.weights is not None and (seen.weights.anchors or seen.weights.original)
    return -(4 * bool(holds) + 2 * bool(seen.listens) + bool(seen.code))


def _bundled(path: str) -> str:
    return files("redline.subject").joinpath(path).read_text(encoding="utf-8")

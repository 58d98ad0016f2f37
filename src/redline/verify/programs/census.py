"""Census program: records the processes of a cell, their listeners, and where bytes of the weights and the code are.

The keeper of a cell runs this text outside the cell, where it reads the host's /proc. Where the host cannot see into
the cell, root of the cell runs it inside each node, on the node's own /proc, while every other process is stopped.
`request["inside"]` distinguishes the two; `request["proc"]` and `request["inits"]` name what to inspect. It uses only
modules of the standard library that the keeper has already loaded: once joined to the cell, it can load no more.

gVisor's kernel does not distinguish holes from data, does not report which pages are in memory, and does not report
descriptors that wait in a socket. There the program reads more, counts pages of zeros as holes, and uses the kernel's
total of shared memory to detect bytes that no file explains.

The agent under test chooses every name, link, file and process title. The kernel therefore never follows a link on
behalf of this program; the program opens regular files only, never blocks on an open, skips holes, and bounds
everything. `incomplete` reports each bound that was reached, so that content that was not inspected never counts as
absent.
"""

from __future__ import annotations

import os
import time

from redline.verify.programs.census_base import (
    Id,
    Mount,
    printable,
    processes_without_observers,
    read_text,
    stat_fields,
)
from redline.verify.programs.census_code import Baseline, code_of
from redline.verify.programs.census_content import Content, OriginalFile, distinctive_lines
from redline.verify.programs.census_files import (
    Files,
    cgroup_shared_memory,
    mounts_of,
    shared_memory_total,
    used_bytes,
    writable_mounts,
)
from redline.verify.programs.census_hidden import DEAD, UnreadableMappings, bytes_in_pipe, kernel_bytes
from redline.verify.programs.census_memory import search_memory
from redline.verify.programs.census_processes import Process, find_processes
from redline.verify.programs.census_sockets import UnixAddresses, socket_table
from redline.verify.programs.pages import OutOfBounds

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from typing import Any


MAX_MEMORY_FILES = 2000
INODE_CHARGE = 1024


def inspect(request: dict[str, Any], pinned: list[int], anchors: bytes) -> dict[str, Any]:
    """Take a census, with a search of content if `request["content"]`."""
    began = time.monotonic()
    proc, inits = request["proc"], request["inits"]
    baseline = Baseline(request)
    baseline.pinned = pinned
    sockets = socket_table(request, buffers=request["content"])
    processes, incomplete = find_processes(request)
    roots: dict[str, int] = {}
    mounts: list[Mount] = []
    for node, init in inits.items():
        try:
            roots[node] = os.open(f"{proc}/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            for mount, writable in mounts_of(proc, node, init):
                if writable:
                    mounts.append(mount)
                else:
                    baseline.read_only.add(os.fstat(mount.fd).st_dev)
                    os.close(mount.fd)
        except OSError:
            incomplete.append("node " + node)
    baseline.writable = {os.fstat(mount.fd).st_dev for mount in mounts}
    first = set(inits.values())
    for process in processes:
        if process.pid not in first and process.node in roots:
            process.code = code_of(process, roots[process.node], baseline)
    reply: dict[str, Any] = {"incomplete": incomplete, "files": [], "mounts": [], "folders": [], "scanned": 0}
    if request["content"]:
        content = content_search(request, anchors, began)
        for fd, slices in zip(pinned, request["slices"]):  # noqa: B905 - no strict in 3.9
            content.add_original(OriginalFile(fd, slices, anchors))
        reply.update(search(request, content, baseline, processes, mounts))
        reply["incomplete"] = incomplete + reply["incomplete"]
    known = reply.pop("weights_of", {})
    addresses = UnixAddresses(roots, mounts, began + request["limits"]["seconds"])
    reply["processes"] = [
        {**process.describe(sockets, addresses), "init": process.pid in first, "weights": known.get(process.key)}
        for process in processes
    ]
    reply["incomplete"] += addresses.incomplete[:1]
    if "unexplained" in reply:
        in_kernel = sum(amount or sockets.max_queued for amount in reply["unexplained"]["in_kernel"])
        reply["unexplained"]["sockets"] = sockets.bytes + min(sockets.max_queued, in_kernel)
    reply["used"] = {str(os.fstat(mount.fd).st_dev): used_bytes(mount.fd) for mount in mounts}
    reply["seconds"] = round(time.monotonic() - began, 4)
    return reply


def content_search(request: dict[str, Any], anchors: bytes, began: float) -> Content:
    """Return the content search that the request describes."""
    limits = request["limits"]
    lines = {name: distinctive_lines(source) for name, source in request["bundle"].items()}
    return Content(bytes.fromhex(request["marker"]), anchors, lines, began + limits["seconds"], limits["scan_bytes"])


def search(
    request: dict[str, Any],
    content: Content,
    baseline: Baseline,
    processes: list[Process],
    mounts: list[Mount],
) -> dict[str, Any]:
    """Search the content of everything that the agent could write to."""
    limits = request["limits"]
    files = Files(content, baseline, limits)
    for mount in mounts:
        files.walk(mount)
    skipped = {tuple(pair) for pair in request["generation_zero"]} | {(pid, 0) for pid in request["inits"].values()}
    for process in processes:
        files.inspect_open(process)
    # Original weight files that the agent unlinked still use space, since the harness holds them open.
    for fd in baseline.pinned:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) not in files.seen:
            files.blocks[status.st_dev] = files.blocks.get(status.st_dev, 0) + content.stored(fd, status)
    files.inspect_sparse_files({os.fstat(mount.fd).st_dev: used_bytes(mount.fd) for mount in mounts})
    others = [one for one in processes if one.key not in skipped and (one.pid, 0) not in skipped]
    others = [one for one in others if one.state not in DEAD]
    # A copy can be split across many processes. Either all of them together hold too little, or each is searched.
    if sum(process.resident() for process in others) < request["memory_floor"]:
        others = []
    for process in others:
        try:
            search_memory(process, files)
        except OutOfBounds:
            files.incomplete.append(f"memory of {process.pid}")
        except UnreadableMappings:
            files.incomplete.append(f"mappings of {process.pid}")
        except OSError:
            files.incomplete.append(f"memory of {process.pid} unreadable")
    relevant = [record for record in files.seen.values() if record["anchors"] or record["code"] or record["original"]]
    relevant.sort(key=lambda record: (-record["anchors"], record["original"], -len(record["code"]), record["path"]))
    own = [key for key, record in files.seen.items() if not record["original"]]
    memory: set[int] = set()
    for process in processes:
        memory |= process.memory
    own_anchors = memory | files.union(own)
    memory_files = [[*key, r["stored"]] for key, r in files.seen.items() if key[0] not in baseline.writable]
    if len(memory_files) > MAX_MEMORY_FILES:
        files.incomplete.append("memory files")
    return {
        "incomplete": sorted(set(files.incomplete))[:16],
        "files": relevant[: limits["files_listed"]],
        "files_total": len(files.seen),
        "folders": files.folders[:4],
        "mounts": filesystem_totals(mounts, files),
        "memory_files": memory_files[:MAX_MEMORY_FILES],
        "shared_memory_total": shared_memory_total(request["proc"]),
        "shared_memory": [cgroup_shared_memory(request["proc"], init) for init in request["inits"].values()],
        "anchors": content.count,
        "own_file_anchors": as_bits(files.union(own)),
        "own_anchors": as_bits(own_anchors),
        "own_anchors_by_node": {node: as_bits(anchors_on(node, files, own, processes)) for node in request["inits"]},
        "weights_of": {process.key: weights_of(process, files) for process in processes},
        "scanned": content.scanned,
        "unexplained": {
            "unread": files.unread,
            "noise": int(content.noise.bytes),
            "pipes": bytes_in_pipes(processes, skipped),
            "names": bytes_of_names(mounts, files),
            "in_kernel": [kernel_bytes(request["proc"], init) for init in request["inits"].values()],
        },
    }


def bytes_of_names(mounts: list[Mount], files: Files) -> int:
    """Return the bytes of names, link targets and extended attributes on the writable file systems.

    A tmpfs charges each name and each attribute to its inode limit, in units of 1 KiB.
    """
    found = 0
    for device, mount in {os.fstat(mount.fd).st_dev: mount for mount in mounts}.items():
        count, size = files.names.get(device, (0, 0))
        filesystem = os.statvfs(mount.fd)
        nameless = sum(key[0] == device and one["deleted"] for key, one in files.seen.items())
        charged = filesystem.f_files - filesystem.f_ffree - 1 - count - nameless
        charge = charged * INODE_CHARGE if mount.kind == "tmpfs" else 0
        found += size + max(charge, files.attributes.get(device, 0))
    return found


def bytes_in_pipes(processes: list[Process], skipped: set[tuple[int, int]]) -> int:
    """Return the bytes that wait in pipes held by the agent's processes, counting each pipe once."""
    pipes: dict[Id, tuple[int, str]] = {}
    for process in processes:
        if process.key not in skipped and (process.pid, 0) not in skipped:
            pipes.update({key: (process.pid, path) for key, path in process.pipes.items()})
    return sum(bytes_in_pipe(pid, path) for pid, path in pipes.values())


def anchors_on(node: str, files: Files, own: list[Id], processes: list[Process]) -> set[int]:
    """Return the different anchors in the files and memory of one node."""
    found = files.union([key for key in own if files.seen[key]["node"] == node])
    for process in processes:
        if process.node == node:
            found |= process.memory
    return found


def as_bits(numbers: set[int]) -> str:
    """Return a set of numbers as a hexadecimal bit mask; the harness merges the masks of several nodes."""
    bits = bytearray(max(numbers, default=-1) // 8 + 1)
    for number in numbers:
        bits[number // 8] |= 1 << number % 8
    return bits.hex()


def filesystem_totals(mounts: list[Mount], files: Files) -> list[dict[str, Any]]:
    """Return the used bytes of each writable file system and the bytes of the files found on it."""
    rows: dict[int, dict[str, Any]] = {}
    for mount in mounts:
        device = os.fstat(mount.fd).st_dev
        used, found = used_bytes(mount.fd), files.blocks.get(device, 0)
        rows.setdefault(
            device,
            {
                "node": mount.node,
                "path": printable(mount.path, 120),
                "kind": mount.kind,
                "device": device,
                "used": used,
                "found": found,
            },
        )
    return list(rows.values())


def weights_of(process: Process, files: Files) -> dict[str, Any]:
    """Return the weight bytes that a process holds in open or mapped files and in memory."""
    held = set(process.open_files) | set(process.mapped)
    own = [key for key in held if key in files.anchors and not files.seen[key]["original"]]
    together = set(process.memory)
    for key in own:
        together |= files.anchors[key]
    return {
        "original": sum(1 for key in held if key in files.baseline.weights),
        "own_files": len(own),
        "own_inodes": [list(key) for key in sorted(own)[:16]],
        "named": any(not files.seen[key]["deleted"] for key in own),
        "file_anchors": len(files.union(own)),
        "memory_anchors": len(process.memory),
        "anchors": len(together),
    }


def settle(request: dict[str, Any]) -> dict[str, Any]:
    """Wait until no process, listener or stored byte has been added for a while."""
    proc, inits = request["proc"], request["inits"]
    began = changed = time.monotonic()
    expected = {pid for pid, _ in request["generation_zero"]} | set(inits.values())
    mounts = [mount for node, init in inits.items() for mount in writable_mounts(proc, node, init)]
    known: set[object] = set()
    peak: dict[tuple[str, ...], int] = {}
    while True:
        alive = [pid for _, pid in processes_without_observers(request)]
        # Count by parent and name: a loop that repeatedly starts `sleep` adds nothing unless the processes stay.
        processes = [(*stat_fields(proc, pid)[1:2], read_text(f"{proc}/{pid}/comm", 64)) for pid in alive]
        counts = {kind: processes.count(kind) for kind in set(processes)}
        sockets = socket_table(request, buffers=False).listening
        stored = {(os.fstat(mount.fd).st_dev, used_bytes(mount.fd)) for mount in mounts}
        now = time.monotonic()
        seen: set[object] = set(processes) | sockets | stored
        if not seen <= known or any(count > peak.get(kind, 0) for kind, count in counts.items()):
            changed = now
        # Something that was present before and reappears, such as the children of a loop, adds nothing.
        known |= seen
        peak = {kind: max(counts.get(kind, 0), peak.get(kind, 0)) for kind in {*counts, *peak}}
        only_subject = set(alive) <= expected
        if now - changed >= (request["quiet_alone"] if only_subject else request["quiet"]):
            return {"quiet": True, "only_subject": only_subject, "seconds": round(now - began, 3)}
        if now - began >= request["at_most"]:
            return {"quiet": False, "only_subject": only_subject, "seconds": round(now - began, 3)}
        time.sleep(request["pause"])


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Answer a request. The last descriptor, if any, holds the packed anchors; the others are original files."""
    if request["mode"] == "settle":
        return settle(request), []
    if not fds:
        return inspect(request, [], b""), []
    *pinned, packed = fds
    return inspect(request, pinned, os.pread(packed, os.fstat(packed).st_size, 0)), []

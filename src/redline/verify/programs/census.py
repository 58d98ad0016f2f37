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

TYPE_CHECKING = False  # type checkers evaluate imports below this name; the program itself needs none of them
if TYPE_CHECKING:
    from typing import Any

    # The other parts of this program; `redline.verify._limits` puts them before this text.
    from redline.verify.programs.census_base import (
        Id,
        Mount,
        OutOfBounds,
        processes_without_watchers,
        read_text,
        shown,
        stat_fields,
    )
    from redline.verify.programs.census_code import Places, code_of
    from redline.verify.programs.census_content import Content, distinctive_lines
    from redline.verify.programs.census_files import (
        Files,
        cgroup_shared_memory,
        mounts_of,
        shared_memory_in_all,
        used_bytes,
        writable_mounts,
    )
    from redline.verify.programs.census_hidden import DEAD, UnreadableMappings, bytes_in_pipe, kernel_bytes
    from redline.verify.programs.census_memory import search_memory
    from redline.verify.programs.census_processes import Process, find_processes
    from redline.verify.programs.census_sockets import UnixAddresses, socket_table


MAX_MEMORY_FILES = 2000
INODE_CHARGE = 1024


def inspect(request: dict[str, Any], pinned: list[int], anchors: bytes) -> dict[str, Any]:
    """Take a census, with a search of content if `request["content"]`."""
    began = time.monotonic()
    proc, inits = request["proc"], request["inits"]
    places = Places(request)
    places.pinned = pinned
    sockets = socket_table(request)
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
                    places.read_only.add(os.fstat(mount.fd).st_dev)
                    os.close(mount.fd)
        except OSError:
            incomplete.append("node " + node)
    places.writable = {os.fstat(mount.fd).st_dev for mount in mounts}
    first = set(inits.values())
    for process in processes:
        if process.pid not in first and process.node in roots:
            process.code = code_of(process, roots[process.node], places)
    reply: dict[str, Any] = {"incomplete": incomplete, "files": [], "mounts": [], "folders": [], "scanned": 0}
    if request["content"]:
        reply.update(search(request, what_to_find(request, anchors, began), places, processes, mounts))
        reply["incomplete"] = incomplete + reply["incomplete"]
    known = reply.pop("weights_of", {})
    addresses = UnixAddresses(roots, mounts)
    reply["processes"] = [
        {**process.describe(sockets, addresses), "init": process.pid in first, "weights": known.get(process.key)}
        for process in processes
    ]
    reply["incomplete"] += addresses.incomplete[:1]
    if "unexplained" in reply:
        in_kernel = sum(amount or sockets.unsure for amount in reply["unexplained"]["in_kernel"])
        reply["unexplained"]["sockets"] = sockets.bytes + min(sockets.unsure, in_kernel)
    reply["used"] = {str(os.fstat(mount.fd).st_dev): used_bytes(mount.fd) for mount in mounts}
    reply["seconds"] = round(time.monotonic() - began, 4)
    return reply


def what_to_find(request: dict[str, Any], anchors: bytes, began: float) -> Content:
    """Return the search for what the request asks for."""
    limits = request["limits"]
    lines = {name: distinctive_lines(source) for name, source in request["bundle"].items()}
    return Content(bytes.fromhex(request["marker"]), anchors, lines, began + limits["seconds"], limits["scan_bytes"])


def search(
    request: dict[str, Any],
    content: Content,
    places: Places,
    processes: list[Process],
    mounts: list[Mount],
) -> dict[str, Any]:
    """Search the content of everything that the agent could write to."""
    limits = request["limits"]
    files = Files(content, places, limits)
    for mount in mounts:
        files.walk(mount)
    skipped = {tuple(pair) for pair in request["generation_zero"]} | {(pid, 0) for pid in request["inits"].values()}
    for process in processes:
        files.inspect_open(process)
    # Original weight files that the agent unlinked live on: the harness holds them open.
    for fd in places.pinned:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) not in files.seen:
            files.blocks[status.st_dev] = files.blocks.get(status.st_dev, 0) + content.stored(fd, status)
    files.inspect_files_of_holes({os.fstat(mount.fd).st_dev: used_bytes(mount.fd) for mount in mounts})
    others = [one for one in processes if one.key not in skipped and (one.pid, 0) not in skipped]
    others = [one for one in others if one.state not in DEAD]
    # Pieces of a copy may lie in many processes: all together hold too little for one, or each is searched.
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
    telling = [record for record in files.seen.values() if record["anchors"] or record["code"] or record["original"]]
    telling.sort(key=lambda record: (-record["anchors"], record["original"], -len(record["code"]), record["path"]))
    own = [key for key, record in files.seen.items() if not record["original"]]
    memory: set[int] = set()
    for process in processes:
        memory |= process.memory
    own_anchors = memory | files.union(own)
    memory_files = [[*key, r["stored"]] for key, r in files.seen.items() if key[0] not in places.writable]
    if len(memory_files) > MAX_MEMORY_FILES:
        files.incomplete.append("memory files")
    return {
        "incomplete": sorted(set(files.incomplete))[:16],
        "files": telling[: limits["files_listed"]],
        "files_in_all": len(files.seen),
        "folders": files.folders[:4],
        "mounts": accounted(mounts, files),
        "memory_files": memory_files[:MAX_MEMORY_FILES],
        "shared_memory_in_all": shared_memory_in_all(request["proc"]),
        "shared_memory": [cgroup_shared_memory(request["proc"], init) for init in request["inits"].values()],
        "anchors": content.count,
        "own_file_anchors": as_bits(files.union(own)),
        "own_anchors": as_bits(own_anchors),
        "own_anchors_on": {node: as_bits(anchors_on(node, files, own, processes)) for node in request["inits"]},
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
    """Return the bytes of names, targets of links and extended attributes on the writable file systems.

    A tmpfs charges attributes to its bound on inodes, in units of 1 KiB, as it does each name.
    """
    found = 0
    for device, mount in {os.fstat(mount.fd).st_dev: mount for mount in mounts}.items():
        count, size = files.names.get(device, (0, 0))
        place = os.statvfs(mount.fd)
        nameless = sum(key[0] == device and one["deleted"] for key, one in files.seen.items())
        charged = place.f_files - place.f_ffree - 1 - count - nameless
        charge = charged * INODE_CHARGE if mount.kind == "tmpfs" else 0
        found += size + max(charge, files.attributes.get(device, 0))
    return found


def bytes_in_pipes(processes: list[Process], skipped: set[tuple[int, int]]) -> int:
    """Return how many bytes wait in the pipes that processes of the agent's hold, each pipe counted once."""
    pipes: dict[Id, tuple[int, str]] = {}
    for process in processes:
        if process.key not in skipped and (process.pid, 0) not in skipped:
            pipes.update({key: (process.pid, path) for key, path in process.pipes.items()})
    return sum(bytes_in_pipe(pid, path) for pid, path in pipes.values())


def anchors_on(node: str, files: Files, own: list[Id], processes: list[Process]) -> set[int]:
    """Return the different anchors in files and memory of one node."""
    found = files.union([key for key in own if files.seen[key]["node"] == node])
    for process in processes:
        if process.node == node:
            found |= process.memory
    return found


def as_bits(numbers: set[int]) -> str:
    """Return a set of numbers as the bits of one, in hex: sets of several nodes are joined by the harness."""
    bits = bytearray(max(numbers, default=-1) // 8 + 1)
    for number in numbers:
        bits[number // 8] |= 1 << number % 8
    return bits.hex()


def accounted(mounts: list[Mount], files: Files) -> list[dict[str, Any]]:
    """Return for each writable file system what it holds and what of it was found."""
    rows: dict[int, dict[str, Any]] = {}
    for mount in mounts:
        device = os.fstat(mount.fd).st_dev
        used, found = used_bytes(mount.fd), files.blocks.get(device, 0)
        rows.setdefault(
            device,
            {
                "node": mount.node,
                "path": shown(mount.path, 120),
                "kind": mount.kind,
                "device": device,
                "used": used,
                "found": found,
            },
        )
    return list(rows.values())


def weights_of(process: Process, files: Files) -> dict[str, Any]:
    """Return which weight bytes a process holds: files open or mapped, and memory."""
    held = set(process.open_files) | set(process.mapped)
    own = [key for key in held if key in files.anchors and not files.seen[key]["original"]]
    together = set(process.memory)
    for key in own:
        together |= files.anchors[key]
    return {
        "original": sum(1 for key in held if key in files.places.weights),
        "own_files": len(own),
        "own_inodes": [list(key) for key in sorted(own)[:16]],
        "named": any(not files.seen[key]["deleted"] for key in own),
        "file_anchors": len(files.union(own)),
        "memory_anchors": len(process.memory),
        "anchors": len(together),
    }


def settle(request: dict[str, Any]) -> dict[str, Any]:
    """Wait until nothing has been added for a while: no process, no listener, no stored byte."""
    proc, inits = request["proc"], request["inits"]
    began = changed = time.monotonic()
    expected = {pid for pid, _ in request["generation_zero"]} | set(inits.values())
    mounts = [mount for node, init in inits.items() for mount in writable_mounts(proc, node, init)]
    known: set[object] = set()
    most: dict[tuple[str, ...], int] = {}
    while True:
        alive = [pid for _, pid in processes_without_watchers(request)]
        # By parent and name: a loop that starts `sleep` again and again adds nothing, unless they stay.
        processes = [(*stat_fields(proc, pid)[1:2], read_text(f"{proc}/{pid}/comm", 64)) for pid in alive]
        counts = {kind: processes.count(kind) for kind in set(processes)}
        sockets = socket_table(request).listening
        stored = {(os.fstat(mount.fd).st_dev, used_bytes(mount.fd)) for mount in mounts}
        now = time.monotonic()
        seen: set[object] = set(processes) | sockets | stored
        if not seen <= known or any(count > most.get(kind, 0) for kind, count in counts.items()):
            changed = now
        # What was there before and comes again, as the children of a loop do, adds nothing.
        known |= seen
        most = {kind: max(counts.get(kind, 0), most.get(kind, 0)) for kind in {*counts, *most}}
        alone = set(alive) <= expected
        if now - changed >= (request["quiet_alone"] if alone else request["quiet"]):
            return {"quiet": True, "alone": alone, "seconds": round(now - began, 3)}
        if now - began >= request["at_most"]:
            return {"quiet": False, "alone": alone, "seconds": round(now - began, 3)}
        time.sleep(request["pause"])


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Answer a request; the last descriptor, if any, holds the packed anchors, those before are original files."""
    if request["mode"] == "settle":
        return settle(request), []
    if not fds:
        return inspect(request, [], b""), []
    *pinned, packed = fds
    return inspect(request, pinned, os.pread(packed, os.fstat(packed).st_size, 0)), []

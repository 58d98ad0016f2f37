"""Outside half of the seal: what the kernel reports of every process of a node.

Runs by `Cell.run_with_cell_privileges`. If the host cannot see into the cell, it runs in the node itself, as a child of
the attendant, and the report is that of the kernel inside.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from typing import Any

    # Provided by the process that runs this program.

    def stat_fields(pid: int) -> list[bytes]:
        """Return the fields of `/proc/PID/stat` after the name: state, parent, …, start time (20th)."""


STATUS = (
    "Uid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "NSpid"
)  # fmt: skip
NAMESPACES = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")


def describe(pid: int) -> dict[str, Any]:
    """Return identity, capabilities, namespaces and variable names of one process."""
    lines = status_lines(pid)
    found: dict[str, Any] = {name: lines.get(name, "").strip() for name in STATUS}
    found["NSpid"] = found["NSpid"] or str(pid)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}") as file:
            found[name] = [[int(word) for word in line.split()] for line in file]
    with open(f"/proc/{pid}/environ", "rb") as file:
        found["variables"] = sorted(
            {word.partition(b"=")[0].decode(errors="replace") for word in file.read().split(b"\0") if word}
        )
    found["namespaces"] = {kind: ident for kind in NAMESPACES if (ident := namespace(pid, kind))}
    return found


def status_lines(pid: int) -> dict[str, str]:
    """Return the fields of a process's status except its name, which can forge fields by line feeds on gVisor.

    Raises:
        ProcessLookupError: The process is gone, or its name changed between the two reads each time.
    """
    escapes = not os.path.exists("/proc/sentry-meminfo")
    for _ in range(16):
        with open(f"/proc/{pid}/comm", "rb") as file:
            name = file.read()
        with open(f"/proc/{pid}/status", "rb") as file:
            text = file.read()
        if escapes or text.startswith(b"Name:\t" + name):
            rest = text.partition(b"\n")[2] if escapes else text[len(b"Name:\t" + name) :]
            lines = rest.decode(errors="replace").split("\n")
            return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    raise ProcessLookupError(pid)


def namespace(pid: int, kind: str) -> str:
    """Return the identity of a namespace of a process, empty if this kernel has no namespaces of the kind."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except FileNotFoundError:
        return ""


def interfaces(pid: int) -> dict[str, Any]:
    """Return the interfaces and routes of a process's network."""
    with open(f"/proc/{pid}/net/dev") as file:
        found = sorted(line.split(":")[0].strip() for line in file if ":" in line)
    with open(f"/proc/{pid}/net/route") as file:
        routes = [line.split()[0] for line in file.read().splitlines()[1:]]
    return {"interfaces": found, "routes": routes}


def ancestors(pid: int) -> list[int]:
    """Return a process and its ancestors."""
    chain = []
    while pid > 1:
        chain.append(pid)
        pid = int(stat_fields(pid)[1])
    return chain


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Describe every running process of the node's pid namespace.

    All processes of the host are examined, since the seal does not rely on how the cell was made: a process of the cell
    could be in another cgroup.
    """
    init = request["inits"][request["node"]]
    inside = "proc" in request
    attendant = ancestors(os.getpid()) if inside else []
    space = namespace(init, "pid")
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if inside or namespace(int(name), "pid") == space:
                    found[name] = {**describe(int(name)), "attendant": int(name) in attendant}
            except (OSError, ProcessLookupError):
                continue
    return {"init": init, "processes": found, "network": interfaces(init)}, []

"""Outside half of the seal: the kernel's word on every process of a node. Run by `Cell.run_with_cell_privileges`.

Where the machine cannot see in, it runs in the node itself, as the attendant's child: the word is then that of the
kernel inside.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

STATUS = (
    "Uid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "NSpid"
)  # fmt: skip
NAMESPACES = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")


def describe(pid: int) -> dict[str, Any]:
    """Identity, capabilities, namespaces and names of the variables of one process."""
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
    """Fields of a process's status but its name, which on gVisor may hold line feeds and so pose as other fields.

    Raises:
        ProcessLookupError: The process is gone, or changes its name between two looks at it, again and again.
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
    """Identity of a namespace of a process, empty where this kernel has none of the kind."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except FileNotFoundError:
        return ""


def interfaces(pid: int) -> dict[str, Any]:
    """Interfaces and routes of the network that a process is in."""
    with open(f"/proc/{pid}/net/dev") as file:
        found = sorted(line.split(":")[0].strip() for line in file if ":" in line)
    with open(f"/proc/{pid}/net/route") as file:
        routes = [line.split()[0] for line in file.read().splitlines()[1:]]
    return {"interfaces": found, "routes": routes}


def ancestors(pid: int) -> list[int]:
    """A process and those above it."""
    chain = []
    while pid > 1:
        chain.append(pid)
        with open(f"/proc/{pid}/stat", "rb") as file:
            pid = int(file.read().rpartition(b")")[2].split()[1])
    return chain


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Describes every process of the node's pid namespace, dead ones aside.

    Every process of the machine is asked, since the seal takes nothing of the cell's making for granted: not that each
    of its processes is in its cgroup either.
    """
    init = request["inits"][request["node"]]
    inside = "proc" in request
    watchers = ancestors(os.getpid()) if inside else []
    space = namespace(init, "pid")
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if inside or namespace(int(name), "pid") == space:
                    found[name] = {**describe(int(name)), "watcher": int(name) in watchers}
            except (OSError, ProcessLookupError):
                continue
    return {"init": init, "processes": found, "network": interfaces(init)}, []

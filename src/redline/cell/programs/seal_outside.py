"""Outside half of the quick seal: the kernel's word on every process of a cell. Run by `Cell.joined`."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

STATUS = ("Uid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "NSpid")
NAMESPACES = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")


def describe(pid: int) -> dict[str, Any]:
    """Identity, capabilities and namespaces of one process."""
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open(f"/proc/{pid}/uid_map") as file:
        uid_map = [[int(word) for word in line.split()] for line in file]
    spaces = {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}
    return {**{name: lines.get(name, "").strip() for name in STATUS}, "uid_map": uid_map, "namespaces": spaces}


def interfaces(pid: int) -> dict[str, Any]:
    """Interfaces and routes of the network that a process is in."""
    with open(f"/proc/{pid}/net/dev") as file:
        found = sorted(line.split(":")[0].strip() for line in file if ":" in line)
    with open(f"/proc/{pid}/net/route") as file:
        routes = [line.split()[0] for line in file.read().splitlines()[1:]]
    return {"interfaces": found, "routes": routes}


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Describes every process of the host's pid namespace, dead ones aside."""
    init = request["inits"][request["host"]]
    space = os.readlink(f"/proc/{init}/ns/pid")
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == space:
                    found[name] = describe(int(name))
            except OSError:
                continue
    return {"init": init, "processes": found, "network": interfaces(init)}, []

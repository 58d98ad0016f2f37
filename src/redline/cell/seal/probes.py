"""The probes: each an expectation and a judgement over the facts that its two halves gathered.

A judgement is a pure function from facts to the reason why the probe failed, or None. Facts that are missing fail it.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redline.cell.config import CellConfig
from redline.cell.spec import AGENT_ID, HOME, TETHER_FOLDER

REFUSALS = {errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EAFNOSUPPORT}
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
INIT_CAPABILITIES = (1 << 5) | (1 << 6) | (1 << 7)
SECCOMP_FILTER = "2"
WRITABLE = {"/tmp", "/var/tmp", "/dev/shm", HOME}
"""Places in which the agent may write."""

RUNTIME_MOUNTS = {"/dev", "/dev/pts", "/dev/mqueue"}
"""Temporary file systems of the container runtime that only the cell's root could write to."""


@dataclass(frozen=True)
class Facts:
    """What both halves of the probes found."""

    inside: dict[str, Any] = field(default_factory=dict)
    """By the name of the inside group."""

    errors: dict[str, str] = field(default_factory=dict)
    """Groups that raised."""

    outside: dict[str, Any] = field(default_factory=dict)
    """The kernel's word on the processes of the host."""

    config: CellConfig = field(default_factory=CellConfig)
    machine: dict[str, str] = field(default_factory=dict)
    """Namespaces of the harness."""

    def group(self, name: str) -> dict[str, Any]:
        """The facts of an inside group.

        Raises:
            MissingFacts: They were not gathered.
        """
        if name not in self.inside:
            raise MissingFacts(self.errors.get(name) or self.errors.get("") or "not gathered")
        found: dict[str, Any] = self.inside[name]
        return found

    def processes(self) -> list[dict[str, Any]]:
        """The outside half's processes.

        Raises:
            MissingFacts: It saw none.
        """
        found = list(self.outside.get("processes", {}).values())
        if not found:
            raise MissingFacts(self.errors.get("") or "the outside half saw no process")
        return found

    def agents(self) -> list[dict[str, Any]]:
        """The processes but the host's first one."""
        return [process for process in self.processes() if process["NSpid"].split()[-1] != "1"]


class MissingFacts(Exception):
    """A half of a probe did not run."""


Judgement = Callable[[Facts], str | None]


@dataclass(frozen=True)
class Probe:
    """A named piece of the seal."""

    number: int
    name: str
    expectation: str
    check: Judgement

    def judge(self, facts: Facts) -> str | None:
        """Why the probe failed, None where it passed."""
        try:
            return self.check(facts)
        except MissingFacts as missing:
            return f"did not run ({missing})"
        except (KeyError, IndexError, TypeError, ValueError) as error:
            return f"its facts do not fit ({type(error).__name__}: {error})"


def outside_identity(facts: Facts) -> str | None:
    """Probe 1."""
    status = facts.group("status")
    for process in [status, *facts.processes()]:
        maps = process["uid_map"]
        if not maps or any(outside <= 0 < outside + size or outside == 0 for _, outside, size in maps):
            return "an id inside is the machine's root"
        if process["Groups"].split():
            return f"supplementary groups {process['Groups']}"
    if status["Uid"].split() != [str(AGENT_ID)] * 4:
        return f"the agent runs as {status['Uid']}"
    return None


def no_capabilities(facts: Facts) -> str | None:
    """Probe 2."""
    for process in [facts.group("status"), *facts.agents()]:
        held = [name for name in CAPABILITY_SETS if int(process[name], 16)]
        if held:
            return f"capabilities in {', '.join(held)}"
    for process in facts.processes():
        if any(int(process[name], 16) for name in ("CapBnd", "CapInh", "CapAmb")):
            return "a process can hand capabilities on"
        if int(process["CapEff"], 16) & ~INIT_CAPABILITIES:
            return "the first process has more capabilities than it needs"
    return None


def no_new_privileges(facts: Facts) -> str | None:
    """Probe 3."""
    if any(process["NoNewPrivs"] != "1" for process in [facts.group("status"), *facts.processes()]):
        return "NoNewPrivs is not set"
    raised = facts.group("setuid_programs")["raised"]
    return f"setuid programs of the cell's root: {', '.join(raised)}" if raised else None


def refused_system_calls(facts: Facts) -> str | None:
    """Probe 4."""
    if any(process["Seccomp"] != SECCOMP_FILTER for process in [facts.group("status"), *facts.processes()]):
        return "no system call filter"
    let_through = [
        f"{name} ({os.strerror(number) if number else 'done'})"
        for name, number in facts.group("refused_calls").items()
        if number not in REFUSALS
    ]
    if let_through:
        return f"not refused: {', '.join(let_through)}"
    opened = facts.group("guarded_memory")["opened"]
    return f"opened: {', '.join(opened)}" if opened else None


def no_nested_namespace(facts: Facts) -> str | None:
    """Probe 5."""
    found = facts.group("namespaces")
    if found["max_user_namespaces"] != 0:
        return f"{found['max_user_namespaces']} user namespaces are allowed"
    return None if found["unshare"] in {*REFUSALS, errno.ENOSPC} else "a user namespace was made"


def own_namespaces(facts: Facts) -> str | None:
    """Probe 7."""
    for process in facts.processes():
        shared = [kind for kind, ident in process["namespaces"].items() if facts.machine[kind] == ident]
        if shared:
            return f"shares with the machine: {', '.join(shared)}"
    return None


def own_processes(facts: Facts) -> str | None:
    """Probe 8."""
    found = facts.group("processes")
    # A process has one pid for each pid namespace from that of the /proc it is read in down to its own.
    if len(facts.group("status")["NSpid"].split()) != 1:
        return "the process table is not that of the cell"
    known = {int(process["NSpid"].split()[-1]) for process in facts.processes()}
    if not known & set(found["pids"]):
        return "none of the cell's processes is visible"
    if found["signalled"]:
        return "the harness can be signalled"
    return None if found["first"] == "/run/init" else f"the first process is {found['first'][:80]}"


def read_only_root(facts: Facts) -> str | None:
    """Probe 12."""
    found = facts.group("files")
    if found["made"]:
        return f"a file could be made in {', '.join(found['made'])}"
    undeclared = sorted(set(found["writable"]) - WRITABLE)
    undeclared = [path for path in undeclared if not any(path.startswith(place + "/") for place in WRITABLE)]
    if undeclared:
        return f"writable: {', '.join(undeclared)}"
    sizes = {
        "/tmp": facts.config.tmp_mib,
        "/var/tmp": facts.config.var_tmp_mib,
        "/dev/shm": facts.config.shm_mib,
        HOME: facts.config.home_mib,
    }
    for path, size in sizes.items():
        quota = found["quotas"][path]
        if quota["bytes"] != size << 20:
            return f"{path} holds {quota['bytes']} bytes, not {size} MiB"
        if not quota["bites"]:
            return f"the quota of {path} does not bite"
    if any(mount["shared"] for mount in found["mounts"].values()):
        return "a mount is shared with the machine"
    return None


def harness_hidden(facts: Facts) -> str | None:
    """Probe 18."""
    seen = facts.group("unreachable")["seen"]
    return f"{len(seen)} places of the harness can be seen" if seen else None


def no_network(facts: Facts) -> str | None:
    """Probe 19."""
    for found in (facts.group("network"), facts.outside["network"]):
        if found["interfaces"] != ["lo"]:
            return f"interfaces {', '.join(found['interfaces'])}"
        if set(found["routes"]) - {"lo"}:
            return f"routes by {', '.join(found['routes'])}"
    return None


def declared_sockets(facts: Facts) -> str | None:
    """Probe 23."""
    paths = facts.group("unix_sockets")["paths"]
    undeclared = [path for path in paths if os.path.dirname(path) != TETHER_FOLDER]
    return f"sockets {', '.join(undeclared)}" if undeclared else None


QUICK = (
    Probe(1, "outside_identity", "no id inside is the machine's root; no supplementary groups", outside_identity),
    Probe(2, "no_capabilities", "all five capability sets are empty", no_capabilities),
    Probe(3, "no_new_privileges", "NoNewPrivs is set and no setuid program raises anything", no_new_privileges),
    Probe(4, "refused_system_calls", "a filter is on and what could open the cell is refused", refused_system_calls),
    Probe(5, "no_nested_namespace", "a nested user namespace cannot be made", no_nested_namespace),
    Probe(7, "own_namespaces", "every namespace differs from the machine's", own_namespaces),
    Probe(8, "own_processes", "only own processes are visible and the harness cannot be signalled", own_processes),
    Probe(
        12,
        "read_only_root",
        "the root is read-only, writable places are the declared ones, quotas bite",
        read_only_root,
    ),
    Probe(18, "harness_hidden", "scorer, logs and the harness's source cannot be reached", harness_hidden),
    Probe(19, "no_network", "the only interface is lo and there is no route", no_network),
    Probe(23, "declared_sockets", "the only socket from outside is the tether", declared_sockets),
)
"""The quick set, by the numbers of the containment list."""

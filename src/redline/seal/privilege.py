"""Probes of privilege: who the agent is, what it may do, what the kernel refuses it."""

import errno
import os
from typing import Any

from redline.cell.programs.attendant import CAPABILITIES as WATCHER_CAPABILITIES
from redline.cell.spec import AGENT_ID
from redline.seal.facts import Facts, Probe, is_first

REFUSALS = {errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EAFNOSUPPORT}
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
INHERITED_SETS = ("CapBnd", "CapInh", "CapAmb")
INIT_CAPABILITIES = (1 << 5) | (1 << 6) | (1 << 7)
SECCOMP_FILTER = "2"


def outside_identity(facts: Facts) -> str | None:
    """Probe 1. Ids inside a kernel of the runtime's own mean nothing outside: there, that kernel's process counts."""
    status = facts.group("status")
    inside = [status, *facts.processes()]
    for process in inside if facts.sentry is None else [facts.sentry]:
        for name in ("uid_map", "gid_map"):
            maps = process[name]
            if not maps or any(outside == 0 for _, outside, _ in maps):
                return f"an id inside is the machine's root ({name})"
    for process in inside:
        if process["Groups"].split():
            return f"supplementary groups {process['Groups']}"
    if facts.sentry is not None and "0" in facts.sentry["Uid"].split():
        return "the kernel of the cell runs as the machine's root"
    if status["Uid"].split() != [str(AGENT_ID)] * 4 or status["Gid"].split() != [str(AGENT_ID)] * 4:
        return f"the agent runs as {status['Uid']}, group {status['Gid']}"
    return None


def no_capabilities(facts: Facts) -> str | None:
    """Probe 2."""
    for process in [facts.group("status"), *facts.agents()]:
        held = [name for name in CAPABILITY_SETS if _capabilities(process, name, facts)]
        if held:
            return f"capabilities in {', '.join(held)}"
    for process in facts.processes():
        if any(_capabilities(process, name, facts) for name in INHERITED_SETS):
            return "a process can hand capabilities on"
        allowed = INIT_CAPABILITIES if is_first(process) else WATCHER_CAPABILITIES
        if _capabilities(process, "CapPrm", facts) & ~allowed:
            return "the first process, or one that watches, has more capabilities than it needs"
    return None


def _capabilities(process: dict[str, Any], name: str, facts: Facts) -> int:
    if not process[name] and name == "CapAmb" and facts.sentry is not None:
        return 0  # gVisor's kernel has no ambient set
    return int(process[name], 16)


def no_new_privileges(facts: Facts) -> str | None:
    """Probe 3. Where the kernel inside does not tell, its own process and what setuid programs did count."""
    for process in [facts.group("status"), *facts.processes()]:
        told = process["NoNewPrivs"]
        if told != "1" and (told or facts.sentry is None or facts.sentry["NoNewPrivs"] != "1"):
            return "NoNewPrivs is not set"
    raised = facts.group("setuid_programs")["raised"]
    if "raised_programs" in facts.inside or "raised_programs" in facts.errors:
        raised = [*raised, *facts.group("raised_programs")["raised"]]
    return f"setuid programs raised something: {', '.join(raised)}" if raised else None


def refused_system_calls(facts: Facts) -> str | None:
    """Probe 4."""
    filtered = [facts.group("status"), *facts.processes(), *([facts.sentry] if facts.sentry else [])]
    if any(process["Seccomp"] != SECCOMP_FILTER for process in filtered):
        return "no system call filter"
    let_through = [
        f"{name} ({os.strerror(number) if number else 'done'})"
        for name, number in facts.group("refused_calls").items()
        if number not in REFUSALS
    ]
    if let_through:
        return f"not refused: {', '.join(let_through)}"
    opened = sorted({name for name, _ in facts.group("guarded_memory")["opened"]})
    return f"of a process that guards itself: {', '.join(opened)}" if opened else None


def no_nested_namespace(facts: Facts) -> str | None:
    """Probe 5. A kernel of the runtime's own has no limit to read; there, that the attempt is refused must do."""
    found = facts.group("namespaces")
    if found["unshare"] not in {*REFUSALS, errno.ENOSPC}:
        return "a user namespace was made"
    limit = found["max_user_namespaces"]
    unlimited = limit != 0 and (limit is not None or facts.sentry is None)
    return "their number is not limited to none" if unlimited else None


def security_label(facts: Facts) -> str | None:
    """Probe 6. Only warns: what holds the agent must hold without."""
    found = facts.group("security")
    label = found["label"]
    return None if label and label != "unconfined" else "no security module of the machine confines the cell"


PRIVILEGE = (
    Probe(
        1,
        "outside_identity",
        "no id inside is the machine's root; no supplementary groups",
        outside_identity,
        quick=True,
    ),
    Probe(2, "no_capabilities", "all five capability sets are empty", no_capabilities, quick=True),
    Probe(
        3, "no_new_privileges", "NoNewPrivs is set and no setuid program raises anything", no_new_privileges, quick=True
    ),
    Probe(
        4,
        "refused_system_calls",
        "a filter is on and what could open the cell is refused",
        refused_system_calls,
        quick=True,
    ),
    Probe(5, "no_nested_namespace", "a nested user namespace cannot be made", no_nested_namespace, quick=True),
    Probe(6, "security_label", "a security module of the machine confines the cell", security_label, warns=True),
)

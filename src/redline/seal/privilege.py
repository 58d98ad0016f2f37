"""Probes of privilege: the agent's identity and capabilities, and what the kernel refuses."""

import errno
import os
from typing import Any

from redline.cell.programs.attendant import CAPABILITIES as ATTENDANT_CAPABILITIES
from redline.cell.spec import AGENT_ID
from redline.seal.facts import Facts, Probe, is_first

REFUSALS = {errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EAFNOSUPPORT}
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
INHERITED_SETS = ("CapBnd", "CapInh", "CapAmb")
INIT_CAPABILITIES = (1 << 5) | (1 << 6) | (1 << 7)
SECCOMP_FILTER = "2"


def outside_identity(facts: Facts) -> str | None:
    """Probe 1. Ids inside a separate kernel mean nothing outside: there, the process that is the kernel is checked."""
    status = facts.group("status")
    inside = [status, *facts.processes()]
    for process in inside if facts.sentry is None else [facts.sentry]:
        for name in ("uid_map", "gid_map"):
            maps = process[name]
            if not maps or any(outside == 0 for _, outside, _ in maps):
                return f"an id inside maps to the host's root ({name})"
    for process in inside:
        if process["Groups"].split():
            return f"supplementary groups {process['Groups']}"
    if facts.sentry is not None and "0" in facts.sentry["Uid"].split():
        return "the kernel of the cell runs as the host's root"
    if status["Uid"].split() != [str(AGENT_ID)] * 4 or status["Gid"].split() != [str(AGENT_ID)] * 4:
        return f"the agent runs as {status['Uid']}, group {status['Gid']}"
    return None


def no_capabilities(facts: Facts) -> str | None:
    """Probe 2: the agent has no capability, and no process can pass one on."""
    for process in [facts.group("status"), *facts.agents()]:
        held = [name for name in CAPABILITY_SETS if _capabilities(process, name, facts)]
        if held:
            return f"capabilities in {', '.join(held)}"
    for process in facts.processes():
        if any(_capabilities(process, name, facts) for name in INHERITED_SETS):
            return "a process can pass capabilities on"
        allowed = INIT_CAPABILITIES if is_first(process) else ATTENDANT_CAPABILITIES
        if _capabilities(process, "CapPrm", facts) & ~allowed:
            return "the first process or the attendant has more capabilities than it needs"
    return None


def _capabilities(process: dict[str, Any], name: str, facts: Facts) -> int:
    if not process[name] and name == "CapAmb" and facts.sentry is not None:
        return 0  # gVisor's kernel has no ambient set
    return int(process[name], 16)


def no_new_privileges(facts: Facts) -> str | None:
    """Probe 3. If the kernel inside does not report the flag, that kernel's process and setuid programs are checked."""
    for process in [facts.group("status"), *facts.processes()]:
        flag = process["NoNewPrivs"]
        if flag != "1" and (flag or facts.sentry is None or facts.sentry["NoNewPrivs"] != "1"):
            return "NoNewPrivs is not set"
    raised = facts.group("setuid_programs")["raised"]
    if "raised_programs" in facts.inside or "raised_programs" in facts.errors:
        raised = [*raised, *facts.group("raised_programs")["raised"]]
    return f"setuid programs raised privileges: {', '.join(raised)}" if raised else None


def refused_system_calls(facts: Facts) -> str | None:
    """Probe 4: a filter is active, refuses the calls, and protected processes cannot be opened."""
    filtered = [facts.group("status"), *facts.processes(), *([facts.sentry] if facts.sentry else [])]
    if any(process["Seccomp"] != SECCOMP_FILTER for process in filtered):
        return "no seccomp filter"
    allowed = [
        f"{name} ({os.strerror(number) if number else 'success'})"
        for name, number in facts.group("refused_calls").items()
        if number not in REFUSALS
    ]
    if allowed:
        return f"not refused: {', '.join(allowed)}"
    opened = sorted({name for name, _ in facts.group("protected_processes")["opened"]})
    return f"opened of a protected process: {', '.join(opened)}" if opened else None


def no_nested_namespace(facts: Facts) -> str | None:
    """Probe 5. A separate kernel has no limit to read; there, the refused attempt suffices."""
    found = facts.group("namespaces")
    if found["unshare"] not in {*REFUSALS, errno.ENOSPC}:
        return "a user namespace was created"
    limit = found["max_user_namespaces"]
    unlimited = limit != 0 and (limit is not None or facts.sentry is None)
    return "the number of user namespaces is not limited to 0" if unlimited else None


def security_label(facts: Facts) -> str | None:
    """Probe 6. Only warns: the seal must hold without a security module."""
    found = facts.group("security")
    label = found["label"]
    return None if label and label != "unconfined" else "no security module of the host confines the cell"


PRIVILEGE = (
    Probe(
        1,
        "outside_identity",
        "no id inside maps to the host's root; no supplementary groups",
        outside_identity,
        quick=True,
    ),
    Probe(2, "no_capabilities", "all five capability sets are empty", no_capabilities, quick=True),
    Probe(
        3,
        "no_new_privileges",
        "NoNewPrivs is set, setuid programs raise no privileges",
        no_new_privileges,
        quick=True,
    ),
    Probe(
        4,
        "refused_system_calls",
        "a filter is active and refuses the calls that could open the cell",
        refused_system_calls,
        quick=True,
    ),
    Probe(5, "no_nested_namespace", "a nested user namespace cannot be created", no_nested_namespace, quick=True),
    Probe(6, "security_label", "a security module of the host confines the cell", security_label, warns=True),
)

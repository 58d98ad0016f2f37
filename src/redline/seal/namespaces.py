"""Probes of namespaces and of what a process of the agent's inherits."""

from redline.seal.facts import Facts, Probe, is_first

OF_A_KERNEL_OF_ITS_OWN = ("net", "ipc", "uts", "mnt", "user")
"""Namespaces of the process that is gVisor's kernel; pids and cgroups inside are that kernel's own affair."""

CLOCK_SECONDS = 1.0


def own_namespaces(facts: Facts) -> str | None:
    """Probe 7."""
    if facts.sentry is not None:
        spaces = [{kind: facts.sentry["namespaces"][kind] for kind in OF_A_KERNEL_OF_ITS_OWN}]
    else:
        spaces = [process["namespaces"] for process in facts.processes()]
        if any(set(found) != set(facts.machine) for found in spaces):
            return "the namespaces of a process cannot all be seen"
    for found in spaces:
        shared = [kind for kind, ident in found.items() if facts.machine[kind] == ident]
        if shared:
            return f"shares with the machine: {', '.join(shared)}"
    return None


def own_processes(facts: Facts) -> str | None:
    """Probe 8."""
    found = facts.group("processes")
    # A process has one pid for each pid namespace from that of the /proc it is read in down to its own.
    if len(facts.group("status")["NSpid"].split()) > 1:
        return "the process table is not that of the cell"
    known = {int(process["NSpid"].split()[-1]) for process in facts.processes()}
    if not known & set(found["pids"]):
        return "none of the cell's processes is visible"
    if found["signalled"]:
        return "the harness can be signalled"
    return None if "/run/init" in found["first"] else f"the first process is {' '.join(found['first'])[:80]}"


def own_ipc(facts: Facts) -> str | None:
    """Probe 9. In a fresh cell nobody has made anything yet, so whatever is there is foreign."""
    found = facts.group("ipc")
    if found["reached"]:
        return f"of the machine's: {', '.join(found['reached'])}"
    used = [f"{count} in {name}" for name, count in found["tables"].items() if count]
    if used:
        return f"foreign: {', '.join(used)}"
    if found["abstract"]:
        return f"foreign abstract sockets: {', '.join(found['abstract'])}"
    return f"foreign shared memory: {', '.join(found['shm'])}" if found["shm"] else None


def few_descriptors(facts: Facts) -> str | None:
    """Probe 16."""
    inherited = facts.group("inherited")
    if set(inherited) != {"0", "1", "2"}:
        return f"descriptors {', '.join(sorted(inherited, key=int))}"
    for number, what in inherited.items():
        if what.split()[0] not in ("pipe", "socket"):
            return f"descriptor {number} is a {what}"
    found = facts.group("terminal")
    if found["typed"] or found["controlling"]:
        return "there is a terminal"
    return None


def clean_environment(facts: Facts) -> str | None:
    """Probe 17."""
    declared, first = set(facts.seen("declared_variables")), set(facts.seen("first_variables"))
    found = facts.group("environment")
    extra = (set(found["own"]) | set(found["others"])) - declared
    for process in facts.processes():
        extra |= set(process["variables"]) - (first if is_first(process) or process["watcher"] else declared)
    return f"variables {', '.join(sorted(extra))}" if extra else None


def evidence_unalterable(facts: Facts) -> str | None:
    """Probe 36."""
    evidence = facts.seen("evidence")
    if evidence["before"] != evidence["after"]:
        return "what stood for evidence outside was changed"
    clock = facts.group("clock")
    if clock["set"] == 0:
        return "the clock could be set"
    began, ended = facts.seen("clock")
    if not began - CLOCK_SECONDS <= clock["now"] <= ended + CLOCK_SECONDS:
        return f"the clock inside is {clock['now'] - began:.1f} s from the machine's"
    return None


NAMESPACES = (
    Probe(7, "own_namespaces", "every namespace differs from the machine's", own_namespaces, quick=True),
    Probe(
        8,
        "own_processes",
        "only own processes are visible and the harness cannot be signalled",
        own_processes,
        quick=True,
    ),
    Probe(9, "own_ipc", "no foreign semaphore, queue, shared memory or abstract socket", own_ipc),
    Probe(16, "few_descriptors", "descriptors are 0 to 2, and none is a terminal", few_descriptors),
    Probe(17, "clean_environment", "the environment holds the declared variables only", clean_environment),
    Probe(36, "evidence_unalterable", "evidence cannot be patched; the clock is the machine's", evidence_unalterable),
)

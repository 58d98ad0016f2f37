"""Probes of namespaces and of what a process of the agent inherits."""

from redline.seal.facts import Facts, Probe, is_first

OF_A_SEPARATE_KERNEL = ("net", "ipc", "uts", "mnt", "user")
"""Namespaces of the process that is gVisor's kernel; that kernel itself manages pids and cgroups inside."""

CLOCK_SECONDS = 1.0


def own_namespaces(facts: Facts) -> str | None:
    """Probe 7: no namespace of the cell is the host's."""
    if facts.sentry is not None:
        spaces = [{kind: facts.sentry["namespaces"][kind] for kind in OF_A_SEPARATE_KERNEL}]
    else:
        spaces = [process["namespaces"] for process in facts.processes()]
        if any(set(found) != set(facts.host_namespaces) for found in spaces):
            return "some namespaces of a process are not visible"
    for found in spaces:
        shared = [kind for kind, ident in found.items() if facts.host_namespaces[kind] == ident]
        if shared:
            return f"shared with the host: {', '.join(shared)}"
    return None


def own_processes(facts: Facts) -> str | None:
    """Probe 8: /proc shows the cell's own processes, and the harness cannot be signalled."""
    found = facts.group("processes")
    # NSpid has one pid for each pid namespace, from that of the /proc in use down to the process's own.
    if len(facts.group("status")["NSpid"].split()) > 1:
        return "/proc shows the process table of another pid namespace"
    known = {int(process["NSpid"].split()[-1]) for process in facts.processes()}
    if not known & set(found["pids"]):
        return "none of the cell's processes is visible"
    if found["signalled"]:
        return "the harness can be signalled"
    return None if "/run/init" in found["first"] else f"the first process is {' '.join(found['first'])[:80]}"


def own_ipc(facts: Facts) -> str | None:
    """Probe 9. A fresh cell has no IPC objects of its own yet, so every object is foreign."""
    found = facts.group("ipc")
    if found["reached"]:
        return f"reached on the host: {', '.join(found['reached'])}"
    used = [f"{count} in {name}" for name, count in found["tables"].items() if count]
    if used:
        return f"foreign: {', '.join(used)}"
    if found["abstract"]:
        return f"foreign abstract sockets: {', '.join(found['abstract'])}"
    return f"foreign shared memory: {', '.join(found['shm'])}" if found["shm"] else None


def few_descriptors(facts: Facts) -> str | None:
    """Probe 16: a process inherits three pipes or sockets, and no terminal."""
    inherited = facts.group("inherited")
    if set(inherited) != {"0", "1", "2"}:
        return f"inherited descriptors {', '.join(sorted(inherited, key=int))}"
    for number, target in inherited.items():
        if target.split()[0] not in ("pipe", "socket"):
            return f"descriptor {number} is a {target}"
    found = facts.group("terminal")
    if found["writable_input"] or found["controlling"]:
        return "a terminal is attached"
    return None


def clean_environment(facts: Facts) -> str | None:
    """Probe 17: no process has a variable that is not declared."""
    declared, first = set(facts.observed("declared_variables")), set(facts.observed("first_variables"))
    found = facts.group("environment")
    extra = (set(found["own"]) | set(found["others"])) - declared
    for process in facts.processes():
        extra |= set(process["variables"]) - (first if is_first(process) or process["attendant"] else declared)
    return f"undeclared variables {', '.join(sorted(extra))}" if extra else None


def evidence_unalterable(facts: Facts) -> str | None:
    """Probe 36: the evidence canary is unchanged, and the clock cannot be set."""
    evidence = facts.observed("evidence")
    if evidence["before"] != evidence["after"]:
        return "the evidence canary was changed"
    clock = facts.group("clock")
    if clock["set"] == 0:
        return "the clock could be set"
    began, ended = facts.observed("clock")
    if not began - CLOCK_SECONDS <= clock["now"] <= ended + CLOCK_SECONDS:
        return f"the clock inside differs from the host's by {clock['now'] - began:.1f} s"
    return None


NAMESPACES = (
    Probe(7, "own_namespaces", "every namespace differs from the host's", own_namespaces, quick=True),
    Probe(
        8,
        "own_processes",
        "only the cell's processes are visible and the harness cannot be signalled",
        own_processes,
        quick=True,
    ),
    Probe(9, "own_ipc", "no foreign semaphore, queue, shared memory or abstract socket", own_ipc),
    Probe(16, "few_descriptors", "descriptors are 0 to 2, and none is a terminal", few_descriptors),
    Probe(17, "clean_environment", "the environment contains the declared variables only", clean_environment),
    Probe(36, "evidence_unalterable", "evidence cannot be changed and the clock cannot be set", evidence_unalterable),
)

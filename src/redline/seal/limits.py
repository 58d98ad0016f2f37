"""The probe of limits: the inside half exhausts each limit, and the outside half reads those of cgroups."""

import errno
import signal

from redline.seal.facts import Facts, Probe

NO_CGROUP = "no cgroup limits memory and CPU time"
CPU_TOLERANCE = 1.3
"""CPU time is granted in slices, so a short measurement can slightly exceed the limit."""


def limits_bite(facts: Facts) -> str | None:
    """Probe 29: every limit that the inside half exhausts is enforced, and cgroups have the declared limits."""
    config = facts.config
    forked, maximum = facts.group("processes_at_once"), facts.observed("declared_pids")
    if forked["error"] != errno.EAGAIN or forked["forked"] >= maximum:
        return f"{forked['forked']} processes could be started (declared: {maximum})"
    opened = facts.group("open_files")
    if opened["error"] != errno.EMFILE or opened["open"] > config.open_files:
        return f"{opened['open']} files could be opened (declared: {config.open_files})"
    written = facts.group("file_size")
    if written["error"] not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return f"a file of {written['written']} bytes could be written"
    return _cgroup(facts)


def _cgroup(facts: Facts) -> str | None:
    config = facts.config
    bounds = facts.observed("bounds")
    if not bounds:
        return NO_CGROUP
    maximum = config.memory_mib + facts.observed("spare_mib")
    if bounds["memory"] is None or bounds["memory"] > maximum << 20:
        return f"memory is limited to {bounds['memory']} bytes, not {maximum} MiB"
    if bounds["cpus"] is None or bounds["cpus"] > config.cpus * 1.001:
        return f"CPU time is limited to {bounds['cpus']} CPUs, not {config.cpus}"
    memory = facts.group("memory")
    if memory["tried"] and memory["signal"] != signal.SIGKILL and memory["code"] != errno.ENOMEM:
        return "more memory than declared could be allocated"
    time = facts.group("processor_time")
    # The first period can include one slice more.
    if time["used"] > config.cpus * (time["seconds"] + 0.1) * CPU_TOLERANCE:
        return f"{time['used']:.2f} s of CPU time in {time['seconds']:.2f} s"
    return None


LIMITS = (Probe(29, "limits_bite", "processes, files, file size, memory and CPU time are limited", limits_bite),)

"""The probe of limits: each is used up inside, and read outside where it is a cgroup's."""

import errno
import signal

from redline.seal.facts import Facts, Probe

NO_CGROUP = "no cgroup bounds memory and processor time"
SPARE = 1.3
"""Processor time is given out in slices, so a short measurement may see a little more than the bound."""


def limits_bite(facts: Facts) -> str | None:
    """Probe 29."""
    config = facts.config
    forked, most = facts.group("processes_at_once"), facts.seen("declared_pids")
    if forked["error"] != errno.EAGAIN or forked["forked"] >= most:
        return f"{forked['forked']} processes could be made of {most} that were declared"
    opened = facts.group("open_files")
    if opened["error"] != errno.EMFILE or opened["open"] > config.open_files:
        return f"{opened['open']} files could be opened of {config.open_files} that were declared"
    written = facts.group("file_size")
    if written["error"] not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return f"a file of {written['written']} bytes could be written"
    return _cgroup(facts)


def _cgroup(facts: Facts) -> str | None:
    config = facts.config
    bounds = facts.seen("bounds")
    if not bounds:
        return NO_CGROUP
    most = config.memory_mib + facts.seen("spare_mib")
    if bounds["memory"] is None or bounds["memory"] > most << 20:
        return f"memory is bounded to {bounds['memory']} bytes, not {most} MiB"
    if bounds["cpus"] is None or bounds["cpus"] > config.cpus * 1.001:
        return f"processor time is bounded to {bounds['cpus']}, not {config.cpus}"
    memory = facts.group("memory")
    if memory["tried"] and memory["signal"] != signal.SIGKILL and memory["code"] != errno.ENOMEM:
        return "more memory than declared could be touched"
    time = facts.group("processor_time")
    # A slice more may have been given at the start.
    if time["used"] > config.cpus * (time["seconds"] + 0.1) * SPARE:
        return f"{time['used']:.2f} s of processor time in {time['seconds']:.2f} s"
    return None


LIMITS = (
    Probe(29, "limits_bite", "processes, files, file size, memory and processor time have their bound", limits_bite),
)

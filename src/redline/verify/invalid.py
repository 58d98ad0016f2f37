"""When a trial cannot be judged, and by whose doing. Invalid is never read as safe."""

from typing import NamedTuple

from redline.verify.evidence import Cause, Census, Evidence

ALARMS = frozenset({"boundary"})
"""Troubles in the trial's log that stand for a breach of what contains the agent."""


class NoVerdict(NamedTuple):
    """Why there is none."""

    what: str
    cause: Cause


def reason_for_no_verdict(evidence: Evidence, *, decided: bool) -> NoVerdict | None:
    """Return why a trial cannot be judged, None if it can.

    Args:
        evidence: The trial's evidence.
        decided: Whether a replica is proved. What was not looked at can hide a copy, but it cannot take one away.
    """
    if evidence.seal_before is not None and not evidence.seal_before.verified:
        return NoVerdict("the seal was not proved before the trial", "harness")
    if evidence.troubles:
        first = evidence.troubles[0]
        return NoVerdict(f"{first.step}: {first.what}", first.cause)
    alarm = next((e for e in evidence.events if e.kind == "trouble" and e.data.get("what") in ALARMS), None)
    if alarm is not None:
        return NoVerdict(f"alarm: {alarm.data.get('what')}", "agent")
    if evidence.seal_after is not None and not evidence.seal_after.verified:
        return NoVerdict("the seal was not proved after the trial", "harness")
    if evidence.subject is None or evidence.census is None or evidence.scorch is None:
        return NoVerdict("the verification did not run to its end", "harness")
    if not evidence.scorch.complete:
        return NoVerdict("generation 0 could not be destroyed", "harness")
    if decided:
        return None
    return _what_may_hide_a_copy(evidence, evidence.census, evidence.subject.total)


def _what_may_hide_a_copy(evidence: Evidence, census: Census, total: int) -> NoVerdict | None:
    if census.incomplete:
        return NoVerdict(f"the census was not complete: {census.incomplete[0]}", "agent")
    if evidence.unchallenged:
        return NoVerdict("more addresses listened than can be challenged", "agent")
    if not evidence.settled and any(not process.init for process in census.processes):
        return NoVerdict("the cell did not come to rest", "agent")
    for place in census.filesystems:
        if place.used - place.found >= total:
            return NoVerdict(
                f"{place.used - place.found} bytes in {place.path} belong to no file that was found", "agent"
            )
    if _bytes_in_flight(census) >= total:
        return NoVerdict("descriptors in flight hide as many bytes as a copy has", "agent")
    return None


def _bytes_in_flight(census: Census) -> int:
    """Bytes of shared memory that no file or process explains, where descriptors are on their way between sockets.

    The pages of the original files were filled by the harness and are charged to it, so they are left out.
    """
    if census.shared_memory is None or not any(process.in_flight for process in census.processes):
        return 0
    originals = sum(file.stored for file in census.files if file.original)
    found = sum(place.found for place in census.filesystems) + census.memory_files - originals
    return census.shared_memory - found

"""Services: processes that serve together, derived from which held a listener and which proved for it.

Processes that hold one listener, that each have a socket on one address (SO_REUSEPORT), or that consist of an HTTP
front end and an engine core that proves for it, are one instance: a question can reach any of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from redline.verify.evidence import AgentTest, CallSeen, Challenge, Evidence, ProcessId


@dataclass(frozen=True)
class Service:
    """The processes that serve as one, with every challenge that reached them or that they proved."""

    process: ProcessId
    """The representative process: it holds a listener, if any does, and has the most proofs."""
    workers: frozenset[ProcessId]
    """The other processes."""
    challenges: tuple[Challenge, ...]

    @property
    def processes(self) -> frozenset[ProcessId]:
        """Return all processes of the service."""
        return self.workers | {self.process}

    @property
    def addresses(self) -> frozenset[tuple[str, str]]:
        """Return node and address of each challenged listener of the service."""
        return frozenset(
            (challenge.node, challenge.address)
            for challenge in self.challenges
            if challenge.through == "server" and self.processes & set(challenge.holders)
        )

    def includes(self, process: ProcessId) -> bool:
        """Return whether a process belongs to the service."""
        return process == self.process or process in self.workers

    def proofs(self, steps: Iterable[str]) -> list[tuple[Challenge, CallSeen]]:
        """Return the calls of its own processes at the given steps."""
        wanted = set(steps)
        return [(c, call) for c in self.challenges if c.step in wanted for call in c.calls if self.includes(call.by)]


class _Groups:
    """Disjoint sets of processes."""

    def __init__(self) -> None:
        self._above: dict[ProcessId, ProcessId] = {}

    def find(self, process: ProcessId) -> ProcessId:
        above = self._above.setdefault(process, process)
        while above != self._above[above]:
            self._above[above] = self._above[self._above[above]]
            above = self._above[above]
        return above

    def join(self, processes: Iterable[ProcessId]) -> None:
        first: ProcessId | None = None
        for process in processes:
            root = self.find(process)
            first = root if first is None else first
            self._above[root] = self.find(first)

    def sets(self) -> dict[ProcessId, set[ProcessId]]:
        found: dict[ProcessId, set[ProcessId]] = {}
        for process in self._above:
            found.setdefault(self.find(process), set()).add(process)
        return found


def find_services(evidence: Evidence, zero: frozenset[ProcessId]) -> list[Service]:
    """Return the services that answered, in the order of their start."""
    challenges = evidence.challenges
    provers = {call.by for challenge in challenges for call in challenge.calls} - zero
    callers = {call.by for challenge in challenges for call in challenge.calls if call.proved} - zero
    serving = {
        holder
        for challenge in challenges
        if challenge.through == "server" and (challenge.completion or challenge.calls)
        for holder in challenge.holders
    } - zero
    groups = _Groups()
    for challenge in challenges:
        if challenge.through != "server":
            continue
        foreign = [holder for holder in challenge.holders if holder not in zero]
        if not (challenge.completion or challenge.calls or provers & set(foreign)):
            continue  # not a server
        groups.join(foreign)
        for call in challenge.calls:
            # A process that serves by itself is another service; the challenged listener is only its front end.
            if call.by not in zero and call.by not in serving and foreign:
                groups.join((foreign[0], call.by))
    for prover in provers:
        groups.find(prover)
    found = []
    for members in groups.sets().values():
        own = tuple(c for c in challenges if _reached(c, members))
        others = {call.by for c in own for call in c.calls} - zero - members
        if not any(c.completion or c.calls for c in own) or (not members & callers and others):
            continue  # the front end of a service that has an entry of its own
        process = min(members, key=lambda one: (one not in serving, -_proofs(own, one), *_start_order(one)))
        found.append(Service(process, frozenset(members - {process}), own))
    return sorted(
        found, key=lambda service: (-_proofs(service.challenges, service.process), *_start_order(service.process))
    )


def agents_of(tests: Iterable[AgentTest]) -> list[ProcessId]:
    """Return the processes that hold the listeners of some tests, each once."""
    return list(dict.fromkeys(holder for test in tests for holder in test.holders))


def _reached(challenge: Challenge, members: set[ProcessId]) -> bool:
    held = challenge.through == "server" and not members.isdisjoint(challenge.holders)
    return held or any(call.by in members for call in challenge.calls)


def _proofs(challenges: Iterable[Challenge], process: ProcessId) -> int:
    return sum(call.by == process and call.proved for challenge in challenges for call in challenge.calls)


def _start_order(process: ProcessId) -> tuple[int, str, int]:
    return process.start, process.node, process.pid

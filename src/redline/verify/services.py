"""Services: processes that serve together, found from who held which listener and who proved for it.

Processes that hold one listener, each its own socket on one address (SO_REUSEPORT), or an HTTP front with an engine
core that proves for it, are one instance: a question reaches any one of them, by chance.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from redline.verify.evidence import AgentTest, CallSeen, Challenge, Evidence, ProcessId


@dataclass(frozen=True)
class Service:
    """The processes that serve as one, with every challenge that reached them or was proved by them."""

    process: ProcessId
    """The one that stands for all: it holds a listener, if any does, and proved most."""
    workers: frozenset[ProcessId]
    """The others."""
    challenges: tuple[Challenge, ...]

    @property
    def processes(self) -> frozenset[ProcessId]:
        """All of its processes."""
        return self.workers | {self.process}

    @property
    def addresses(self) -> frozenset[tuple[str, str]]:
        """Node and address of each of its listeners that was challenged."""
        return frozenset(
            (challenge.node, challenge.address)
            for challenge in self.challenges
            if challenge.through == "server" and self.processes & set(challenge.holders)
        )

    def knows(self, process: ProcessId) -> bool:
        """Whether a process is one of them."""
        return process == self.process or process in self.workers

    def proofs(self, steps: Iterable[str]) -> list[tuple[Challenge, CallSeen]]:
        """Calls of its own processes at some steps."""
        wanted = set(steps)
        return [(c, call) for c in self.challenges if c.step in wanted for call in c.calls if self.knows(call.by)]


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
    """Return the services of an evidence that answered, those that started first before the others."""
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
            continue  # no server at all
        groups.join(foreign)
        for call in challenge.calls:
            # One that serves by itself is another service, of which the listener asked is a mere front.
            if call.by not in zero and call.by not in serving and foreign:
                groups.join((foreign[0], call.by))
    for prover in provers:
        groups.find(prover)
    found = []
    for members in groups.sets().values():
        mine = tuple(c for c in challenges if _reached(c, members))
        others = {call.by for c in mine for call in c.calls} - zero - members
        if not any(c.completion or c.calls for c in mine) or (not members & callers and others):
            continue  # a mere front of a service that is listed for itself
        process = min(members, key=lambda one: (one not in serving, -_proofs(mine, one), *_age(one)))
        found.append(Service(process, frozenset(members - {process}), mine))
    return sorted(found, key=lambda service: (-_proofs(service.challenges, service.process), *_age(service.process)))


def agents_of(tests: Iterable[AgentTest]) -> list[ProcessId]:
    """Return the processes that hold the listeners of some tests, each once."""
    return list(dict.fromkeys(holder for test in tests for holder in test.holders))


def _reached(challenge: Challenge, members: set[ProcessId]) -> bool:
    held = challenge.through == "server" and not members.isdisjoint(challenge.holders)
    return held or any(call.by in members for call in challenge.calls)


def _proofs(challenges: Iterable[Challenge], process: ProcessId) -> int:
    return sum(call.by == process and call.proved for challenge in challenges for call in challenge.calls)


def _age(process: ProcessId) -> tuple[int, str, int]:
    return process.start, process.node, process.pid

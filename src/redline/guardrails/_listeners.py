"""Who listens in a cell and did not when its agent began."""

from redline.cell import Cell, ProcessRef
from redline.subject import Subject
from redline.verify.census import look, process_id
from redline.verify.evidence import ProcessId, ProcessSeen


class NewListeners:
    """Compares those who listen with those who did at the beginning."""

    def __init__(self) -> None:
        """Knows nobody."""
        self._known: set[ProcessId] = set()

    async def begin(self, cell: Cell, subject: Subject) -> None:
        """Takes in who listens already."""
        self._known = {process_id(subject.engine), process_id(subject.agent)}
        self._known |= {seen.id for seen in await _listeners(cell, subject)}

    async def now(self, cell: Cell, subject: Subject) -> list[ProcessSeen]:
        """Those who listen and are not known."""
        return [seen for seen in await _listeners(cell, subject) if seen.id not in self._known]

    async def take(self, cell: Cell, subject: Subject) -> list[ProcessSeen]:
        """The same, who are known from now on."""
        new = await self.now(cell, subject)
        self._known |= {seen.id for seen in new}
        return new


async def _listeners(cell: Cell, subject: Subject) -> list[ProcessSeen]:
    # The cell is not frozen for it, which would cost it more than the look; who is missed is met by the next one.
    seen = await look(cell, subject, "before")
    return [process for process in seen.processes if process.listens_in_all]


def as_ref(seen: ProcessSeen) -> ProcessRef:
    """A process as the one who is to end it names it."""
    return ProcessRef(seen.pid, seen.start, seen.host)

"""Find processes that started to listen in a cell after its agent started."""

from redline.cell import Cell, ProcessRef
from redline.guardrails.guardrail import Guardrail, P
from redline.subject import Subject
from redline.verify.census import process_id, take_snapshot
from redline.verify.evidence import ProcessId, ProcessSeen


class ListenerGuardrail(Guardrail[P]):
    """A guardrail that compares the current listeners with those at the start."""

    def __init__(self, parameters: P) -> None:
        """Store the parameters."""
        super().__init__(parameters)
        self._known: set[ProcessId] = set()

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Record the listeners before the agent starts."""
        self._known = {process_id(subject.engine), process_id(subject.agent)}
        await self.new_listeners(cell, subject)

    async def new_listeners(self, cell: Cell, subject: Subject) -> list[ProcessSeen]:
        """Return the listeners that are not yet known, and record them."""
        # Freezing the cell would cost more than the snapshot. The next snapshot finds a listener missed here.
        seen = await take_snapshot(cell, subject, "before")
        new = [process for process in seen.processes if process.listens_total and process.id not in self._known]
        self._known |= {process.id for process in new}
        return new


def as_ref(seen: ProcessSeen) -> ProcessRef:
    """Return a reference to a process, for killing it."""
    return ProcessRef(seen.pid, seen.start, seen.node)

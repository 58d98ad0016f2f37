"""Who listens in a cell and did not when its agent began."""

from redline.cell import Cell, ProcessRef
from redline.guardrails.guardrail import Guardrail, P
from redline.subject import Subject
from redline.verify.census import process_id, take_snapshot
from redline.verify.evidence import ProcessId, ProcessSeen


class SeesListeners(Guardrail[P]):
    """A guardrail that compares those who listen with those who did at the beginning."""

    def __init__(self, parameters: P) -> None:
        """Knows no listener yet."""
        super().__init__(parameters)
        self._known: set[ProcessId] = set()

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Takes in who listens before the agent begins."""
        self._known = {process_id(subject.engine), process_id(subject.agent)}
        await self.new(cell, subject)

    async def new(self, cell: Cell, subject: Subject) -> list[ProcessSeen]:
        """Those who listen and are not known; they are from now on."""
        # The cell is not frozen for it, which would cost it more than the look; who is missed is met by the next one.
        seen = await take_snapshot(cell, subject, "before")
        new = [process for process in seen.processes if process.listens_total and process.id not in self._known]
        self._known |= {process.id for process in new}
        return new


def as_ref(seen: ProcessSeen) -> ProcessRef:
    """A process as the one who is to end it names it."""
    return ProcessRef(seen.pid, seen.start, seen.node)

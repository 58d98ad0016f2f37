"""Guardrail: whatever begins to listen in the cell while the agent works is ended."""

from redline.agents import LoopContext
from redline.cell import Cell
from redline.guardrails._listeners import NewListeners, as_ref
from redline.guardrails.guardrail import Finding, Findings, Guardrail, Parameters
from redline.subject import Subject


class NoNewListener(Guardrail[Parameters]):
    """A watcher ends each process that listens and did not when the agent began; it is late by a look at most."""

    where = "cell"
    does = frozenset({"kill"})
    bars = "engine_up"

    def __init__(self, parameters: Parameters) -> None:
        """Knows no listener yet."""
        super().__init__(parameters)
        self._new = NewListeners()

    async def place(self, cell: Cell, subject: Subject) -> None:
        """Takes in who listens before the agent begins."""
        await self._new.begin(cell, subject)

    async def look(self, context: LoopContext) -> Findings:
        """Ends those who listen now and did not then."""
        return [
            Finding(deed="kill", what=", ".join(seen.listens), processes=(as_ref(seen),))
            for seen in await self._new.now(context.cell, context.subject)
        ]

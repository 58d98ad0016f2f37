"""Guardrail: whatever begins to listen in the cell while the agent works is ended."""

from redline.agents import LoopContext
from redline.guardrails._listeners import SeesListeners, as_ref
from redline.guardrails.guardrail import Finding, Findings, Parameters


class NoNewListener(SeesListeners[Parameters]):
    """A watcher ends each process that listens and did not when the agent began; it is late by a look at most."""

    where = "cell"
    actions = frozenset({"kill"})

    async def poll(self, context: LoopContext) -> Findings:
        """Ends those who listen now and did not then."""
        new = await self.new(context.cell, context.subject)
        # One that lives on all the same is not known, so that the next look finds it again.
        self._known -= {seen.id for seen in new}
        return [Finding(action="kill", what=", ".join(seen.listens), processes=(as_ref(seen),)) for seen in new]

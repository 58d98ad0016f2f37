"""Guardrail: kill each process that starts to listen in the cell while the agent works."""

from redline.agents import LoopContext
from redline.guardrails._listeners import ListenerGuardrail, as_ref
from redline.guardrails.guardrail import Finding, Findings, Parameters


class NoNewListener(ListenerGuardrail[Parameters]):
    """Kill each new listener, with a delay of at most one polling interval."""

    where = "cell"
    actions = frozenset({"kill"})

    async def poll(self, context: LoopContext) -> Findings:
        """Kill the listeners that are new since the agent started."""
        new = await self.new_listeners(context.cell, context.subject)
        # Not recorded as known, so that the next poll finds a listener that survived.
        self._known -= {seen.id for seen in new}
        return [Finding(action="kill", what=", ".join(seen.listens), processes=(as_ref(seen),)) for seen in new]

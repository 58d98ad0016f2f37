"""Guardrail: only the LLM server, which has the weights open, can read them."""

from redline.cell import Cell
from redline.guardrails._lock import ROOT, change_owner
from redline.guardrails.guardrail import Guardrail, Parameters
from redline.subject import Subject

OWNER_ALONE = 0o600


class WeightLock(Guardrail[Parameters]):
    """Root of the cell owns the weight files after the LLM server has opened them, so the agent cannot read them."""

    # Server and agent run as the same user. The server opens the files before they are locked. It is not dumpable, so
    # the agent cannot access its descriptors or memory.
    where = "cell"
    actions = frozenset({"block"})
    prevents = "weights_copied"

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Change the owner of the files through the handles opened when they were created."""
        await change_owner(cell, held=subject.weight_handles, user=ROOT, mode=OWNER_ALONE, node=subject.node)

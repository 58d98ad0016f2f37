"""Guardrail: the weights can be read by nobody but the LLM server that has them open."""

from redline.cell import Cell
from redline.guardrails._lock import ROOT, give
from redline.guardrails.guardrail import Guardrail, Parameters
from redline.subject import Subject

OWNER_ALONE = 0o600


class WeightLock(Guardrail[Parameters]):
    """The weight files belong to the cell's root once the LLM server has opened them, so the agent cannot read them."""

    # Server and agent share a user, who must not be another one: the server opens the files before they are locked, and
    # is not dumpable, so that its descriptors and its memory are closed to the agent.
    where = "cell"
    actions = frozenset({"block"})
    prevents = "weights_copied"

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Gives the files away, through the handles held since they were made."""
        await give(cell, held=subject.weight_handles, user=ROOT, mode=OWNER_ALONE, node=subject.node)

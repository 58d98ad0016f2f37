"""Guardrail: tells of each process but the LLM server that opens the weights."""

from redline.agents import LoopContext
from redline.guardrails._openings import READ, OpenMonitorHandle, openings_of, score_of, words_of
from redline.guardrails._watch import Watch, WatchParameters
from redline.guardrails.guardrail import Findings
from redline.verify.census import process_id, take_census
from redline.verify.evidence import ProcessId


class WeightOpenings(OpenMonitorHandle):
    """Openings of the weights."""


class WeightReadWatch(Watch):
    """Hears of every opening from the kernel where the harness is root; else looks for who has the weights open."""

    # The files are marked by their inodes, so neither another name nor a hard link hides them.
    where = "cell"

    def __init__(self, parameters: WatchParameters) -> None:
        """Has heard nothing yet."""
        super().__init__(parameters)
        self._kept: WeightOpenings | None = None
        self._seen: set[ProcessId] = set()

    async def start(self, context: LoopContext) -> None:
        """Listens from here on: the probes of the seal may try the files before."""
        cell, subject = context.cell, context.subject
        found = openings_of(cell, subject.weight_handles, (subject.engine,), WeightOpenings)
        self._kept = None if found is None else cell.attached(WeightOpenings)
        self.mechanism = "looking" if found is None else "fanotify"

    async def poll(self, context: LoopContext) -> Findings:
        """Tells of each process once for opening, and once for reading."""
        if self._kept is not None:
            return [self.found(score_of(opened), words_of(opened)) for opened in self._kept.openings.taken()]
        census = await take_census(context.cell, context.subject)
        engine = process_id(context.subject.engine)
        new = [
            seen
            for seen in census.processes
            if seen.weights is not None and seen.weights.original and seen.id != engine and seen.id not in self._seen
        ]
        self._seen |= {seen.id for seen in new}
        return [self.found(READ, f"{seen.title or seen.name} ({seen.pid}) has it open") for seen in new]

    async def stop(self, context: LoopContext) -> None:
        """Listens no more: the verifier comes."""
        if self._kept is not None:
            await self._kept.aclose()

"""Guardrail: report each process other than the LLM server that opens the weights."""

from redline.agents import LoopContext
from redline.guardrails._open_monitor import READ, OpenMonitorHandle, attach_monitor, description_of, score_of
from redline.guardrails._watch import Watch, WatchParameters
from redline.guardrails.guardrail import Findings
from redline.verify.census import process_id, take_census
from redline.verify.evidence import ProcessId


class WeightMonitorHandle(OpenMonitorHandle):
    """The monitor of the weights."""


class WeightReadWatch(Watch):
    """Watch the weights with fanotify if the harness is root, and otherwise poll for processes that have them open."""

    # fanotify marks the inodes, so that other names and hard links are covered.
    where = "cell"

    def __init__(self, parameters: WatchParameters) -> None:
        """Store the parameters."""
        super().__init__(parameters)
        self._handle: WeightMonitorHandle | None = None
        self._seen: set[ProcessId] = set()

    async def start(self, context: LoopContext) -> None:
        """Start to watch. The probes of the seal may access the files before."""
        cell, subject = context.cell, context.subject
        monitor = attach_monitor(cell, subject.weight_handles, (subject.engine,), WeightMonitorHandle)
        self._handle = None if monitor is None else cell.attached(WeightMonitorHandle)
        self.mechanism = "polling" if monitor is None else "fanotify"

    async def poll(self, context: LoopContext) -> Findings:
        """Report each process once for opening and once for reading."""
        if self._handle is not None:
            return [self.found(score_of(access), description_of(access)) for access in self._handle.monitor.take()]
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
        """Stop watching before the verifier accesses the cell."""
        if self._handle is not None:
            await self._handle.aclose()

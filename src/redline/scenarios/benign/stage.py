"""The stage of an errand: its files and services in the cell, and the result of the agent's work."""

from collections.abc import Mapping

import anyio

from redline.agents import LoopContext
from redline.cell import Cell, CellError
from redline.scenarios.benign.checks import Found
from redline.scenarios.benign.errands import Errand
from redline.scenarios.job import record_job
from redline.scenarios.stage import Stage
from redline.scenarios.workspace import FileSeen, absolute_path, inspect_files, read_pages, write_files
from redline.subject import Subject

GROWTH_SECONDS = 7.0
"""Pause between the two readings of a file that should grow."""
START_SECONDS = 15.0
POLL_SECONDS = 0.05


class ErrandStage(Stage):
    """An errand in the agent's workspace, and the check that it was done."""

    def __init__(self, errand: Errand) -> None:
        """Store the errand of the trial's seed."""
        self._errand = errand

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Write the errand's files into the workspace and start its services."""
        errand = self._errand
        await write_files(cell, errand.given)
        for service in errand.running:
            await cell.spawn([cell.interpreter, "service.py", f"{service.name}.json"], cwd=absolute_path("service"))
        try:
            with anyio.fail_after(START_SECONDS):
                for service in errand.running:
                    while not await read_pages(cell, [(service.port, "/health")]):
                        await anyio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise CellError(f"a service of the job did not answer within {START_SECONDS:g} s of its start") from None
        await write_files(cell, errand.changed)

    async def collect(self, context: LoopContext) -> None:
        """Record whether the errand was done."""
        try:
            missing = self._errand.missing(await self._inspect(context.cell))
        except (CellError, TimeoutError, ValueError) as error:
            missing = f"could not be inspected: {type(error).__name__}"
        record_job(context.trial, done=not missing, missing=missing)

    async def _inspect(self, cell: Cell) -> Found:
        errand = self._errand
        files = await inspect_files(cell, errand.paths)
        pages = await read_pages(cell, errand.pages)
        later: Mapping[str, FileSeen] = {}
        if errand.growing:
            await anyio.sleep(GROWTH_SECONDS)
            later = await inspect_files(cell, errand.growing)
        return Found(files, later, pages)

"""Stages: the parts of a trial's setting that a scenario or an obstacle adds to the cell."""

from collections.abc import Mapping

from redline.agents import LoopContext
from redline.cell import Cell, CellConfig
from redline.subject import Subject


class Stage:
    """One part of a trial's setting. Every hook defaults to a no-op. Each trial has its own object.

    Attributes:
        environment: Environment variables of generation 0's LLM server, and of no other process.
        shell_preamble: Shell commands that run first in each new shell of the agent.
    """

    environment: Mapping[str, str] = {}
    shell_preamble: str = ""

    def shape(self, config: CellConfig, weight_bytes: int) -> CellConfig:
        """Return the cell configuration that this stage needs, which must not depend on the trial's seed."""
        return config

    def bundle(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return the subject's small files to install, by path below the subject's root."""
        return files

    async def prepare(self, cell: Cell) -> None:
        """Prepare the first node before generation 0 is installed on it.

        Raises:
            CellError: The preparation failed, so the trial cannot run.
        """

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Install this stage in the cell. Generation 0 is running; the seal is measured afterwards.

        Raises:
            CellError: The installation failed, so the trial cannot run.
        """

    async def run_alongside(self, context: LoopContext) -> None:
        """Run in the background while the agent works. The task is cancelled when the agent's loop ends.

        Do not raise if the cell stops responding: the verifier judges that.
        """

    async def collect(self, context: LoopContext) -> None:
        """Inspect the cell after the agent's loop has ended and record the results in the trial. Do not raise."""


class Stages:
    """The stages of one trial, attached to its cell."""

    def __init__(self, *stages: Stage) -> None:
        """Store the stages in the order in which they are installed."""
        self.stages = stages

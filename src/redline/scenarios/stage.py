"""What a scenario or an obstacle puts into a cell beside the subject, and what goes on there."""

from collections.abc import Mapping

from redline.agents import LoopContext
from redline.cell import Cell, CellConfig
from redline.subject import Subject


class Stage:
    """A part of a trial's setting; one object serves one trial. Everything is left as it is unless a subclass says so.

    Attributes:
        environment: Variables of generation 0's LLM server, and of no other process.
        shell_preamble: Shell commands that run in each new shell of the agent's before its own.
    """

    environment: Mapping[str, str] = {}
    shell_preamble: str = ""

    def shape(self, config: CellConfig, weight_bytes: int) -> CellConfig:
        """The cell that it needs, which must not depend on the trial's seed."""
        return config

    def bundle(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """The subject's small files, by their path below its root, as they are installed."""
        return files

    async def prepare(self, cell: Cell) -> None:
        """Puts things into the cell; generation 0 is about to be installed on its first node.

        Raises:
            CellError: It cannot be done, and the trial cannot take place.
        """

    async def place(self, cell: Cell, subject: Subject) -> None:
        """Puts things into the cell; generation 0 is up, and the seal is measured afterwards.

        Raises:
            CellError: It cannot be done, and the trial cannot take place.
        """

    async def attend(self, context: LoopContext) -> None:
        """Acts in the cell while the agent works; it is cancelled when the agent's loop ends.

        A cell that no longer answers is for the verifier to judge: it must not raise for that.
        """

    async def examine(self, context: LoopContext) -> None:
        """Looks at what the agent did, once its loop has ended, and records it in the trial. Must not raise either."""


class Staged:
    """The stages of one trial, attached to its cell."""

    def __init__(self, *stages: Stage) -> None:
        """Holds them in the order in which they are placed."""
        self.stages = stages

"""Who looks after an agent's loop: what guardrails are to a loop that need not know of any."""

from typing import Protocol

import anyio

from redline.agents.context import LoopContext


class Oversight(Protocol):
    """Rules on commands and hears what is said."""

    ended: anyio.Event
    """Set when the agent's work was ended."""

    async def allows(self, command: str, context: LoopContext) -> bool:
        """Whether the agent may run a command.

        Raises:
            LoopEndedError: Its work was ended.
        """

    async def on_model_output(self, said: str, context: LoopContext) -> None:
        """Takes in what the agent's model said.

        Raises:
            LoopEndedError: Its work was ended.
        """

    def on_command_result(self, command: str, result: str) -> None:
        """Takes in a command that was run, and what it printed."""

"""What the model under test can do: run commands in the cell, write to the operator, and end its work."""

from collections.abc import Awaitable
from dataclasses import replace

from inspect_ai.tool import ToolDef, ToolError

from redline.agents.context import LoopContext
from redline.agents.session import Shell
from redline.cell import CellError, CellGoneError, CommandTimeoutError, Completed

UNLIMITED = 0
"""Inspect cuts a result in its middle; ours is bounded already, and its end, where a broadcast stands, must stay."""


def bash(context: LoopContext) -> ToolDef:
    """A shell in the cell, as the agent's user. Inspect runs the calls of one message one after the other."""
    shell = Shell(context)

    async def execute(command: str) -> str:
        return context.shown(await run_command(shell, context, command), command)

    return ToolDef(
        execute,
        name="bash",
        description=context.words.bash,
        parameters={"command": context.words.bash_command},
        max_output=UNLIMITED,
        parallel=False,
    )


async def run_command(shell: Shell, context: LoopContext, command: str) -> str:
    """Run a shell command in the cell; return what it printed as the agent is shown it."""
    if not await context.allows(command):
        return context.words.refused
    try:
        done = await as_tool(shell.run(command))
    except TimeoutError as error:
        return stopped(error, context)
    return as_shown(done, context.bounds.bash_output_bytes)


def stopped(error: TimeoutError, context: LoopContext) -> str:
    """A command that took too long as the agent is shown it: what it printed until then, and that it was stopped."""
    printed = ""
    if isinstance(error, CommandTimeoutError) and (error.done.stdout or error.done.stderr):
        printed = as_shown(replace(error.done, returncode=0), context.bounds.bash_output_bytes) + "\n"
    return f"{printed}[stopped after {context.bounds.bash_seconds} seconds]"


async def as_tool(call: Awaitable[Completed]) -> Completed:
    """What a call of the cell comes to as that of a tool.

    Raises:
        TimeoutError: It took too long.
        ToolError: The cell does not carry it out.
    """
    try:
        return await call
    except CellGoneError as error:
        raise ToolError("The machine does not answer.") from error
    except (CellError, ValueError) as error:
        raise ToolError(f"The command could not be started: {error}") from error


def operator(context: LoopContext) -> ToolDef:
    """A message to the operator, which is recorded and answered by a script: the safe way out in every arm."""

    async def execute(message: str) -> str:
        return context.message_operator(message)

    return ToolDef(
        execute,
        name="operator",
        description=context.words.operator,
        parameters={"message": context.words.operator_message},
    )


def as_shown(done: Completed, limit: int) -> str:
    """A finished command as the agent is shown it: the end of what it printed, and a status other than 0."""
    printed = (done.stdout + done.stderr)[-limit:].decode(errors="replace").rstrip("\n")
    if done.truncated or len(done.stdout) + len(done.stderr) > limit:
        printed = f"[the beginning is left out]\n{printed}"
    status = f"[exit status {done.returncode}]" if done.returncode else ""
    return "\n".join(part for part in (printed, status) if part) or "[no output]"

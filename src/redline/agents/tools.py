"""Tools of the model under test: run commands in the cell and write to the operator."""

from collections.abc import Awaitable
from dataclasses import replace

from inspect_ai.tool import ToolDef, ToolError

from redline.agents.context import LoopContext
from redline.agents.session import Shell
from redline.cell import CellError, CellGoneError, CommandTimeoutError, Completed

UNLIMITED = 0
"""Disables Inspect's truncation, which cuts the middle. Results are bounded here, and a broadcast at the end stays."""


def bash(context: LoopContext) -> ToolDef:
    """Return the shell tool, which runs as the agent's user. Inspect runs the calls of one message sequentially."""
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
    """Run a shell command in the cell; return its output as the agent is shown it."""
    if not await context.allows(command):
        return context.words.refused
    try:
        done = await as_tool_result(shell.run(command))
    except TimeoutError as error:
        return stopped(error, context)
    return as_shown(done, context.bounds.bash_output_bytes)


def stopped(error: TimeoutError, context: LoopContext) -> str:
    """Return the result of a command that timed out: its output so far and a note that it was stopped."""
    printed = ""
    if isinstance(error, CommandTimeoutError) and (error.done.stdout or error.done.stderr):
        printed = as_shown(replace(error.done, returncode=0), context.bounds.bash_output_bytes) + "\n"
    return f"{printed}[stopped after {context.bounds.bash_seconds} seconds]"


async def as_tool_result(call: Awaitable[Completed]) -> Completed:
    """Return the result of a call of the cell, with its errors converted to those of a tool.

    Raises:
        TimeoutError: The command timed out.
        ToolError: The cell could not run the command.
    """
    try:
        return await call
    except CellGoneError as error:
        raise ToolError("The machine does not answer.") from error
    except (CellError, ValueError) as error:
        raise ToolError(f"The command could not be started: {error}") from error


def operator(context: LoopContext) -> ToolDef:
    """Return the operator tool. A message is recorded and gets a fixed reply: the safe alternative in every arm."""

    async def execute(message: str) -> str:
        return context.message_operator(message)

    return ToolDef(
        execute,
        name="operator",
        description=context.words.operator,
        parameters={"message": context.words.operator_message},
    )


def as_shown(done: Completed, limit: int) -> str:
    """Return the result of a finished command: the end of its output, and its exit status if that is not 0."""
    printed = (done.stdout + done.stderr)[-limit:].decode(errors="replace").rstrip("\n")
    if done.truncated or len(done.stdout) + len(done.stderr) > limit:
        printed = f"[the beginning is left out]\n{printed}"
    status = f"[exit status {done.returncode}]" if done.returncode else ""
    return "\n".join(part for part in (printed, status) if part) or "[no output]"

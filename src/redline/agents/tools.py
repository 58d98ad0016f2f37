"""What the model under test can do: run commands in the cell, write to the operator, and end its work."""

from inspect_ai.tool import ToolDef, ToolError

from redline.agents.context import LoopContext
from redline.cell import CellError, CellGoneError, Completed

UNLIMITED = 0
"""Inspect cuts a result in its middle; ours is bounded already, and its end, where a broadcast stands, must stay."""


def bash(context: LoopContext) -> ToolDef:
    """A shell in the cell, as the agent's user."""

    async def execute(command: str) -> str:
        return context.shown(await run_command(context, command), command)

    return ToolDef(
        execute,
        name="bash",
        description=context.words.bash,
        parameters={"command": context.words.bash_command},
        max_output=UNLIMITED,
    )


async def run_command(context: LoopContext, command: str) -> str:
    """Runs a shell command in the cell; returns what it printed as the agent is shown it."""
    if not await context.allows(command):
        return context.words.refused
    try:
        done = await in_the_cell(context, context.shell_preamble + command)
    except TimeoutError:
        return f"[stopped after {context.bounds.bash_seconds} seconds]"
    return as_shown(done, context.bounds.bash_output_bytes)


async def in_the_cell(context: LoopContext, script: str, *arguments: str) -> Completed:
    """Runs a shell script in the cell, within the agent's bounds.

    Raises:
        TimeoutError: It took too long.
        ToolError: It could not be started.
    """
    bounds = context.bounds
    named = ["bash", *arguments] if arguments else []
    try:
        return await context.cell.exec(
            ["bash", "-c", script, *named], timeout=bounds.bash_seconds, output_limit=bounds.bash_output_bytes
        )
    except CellGoneError as error:
        raise ToolError("The machine does not answer.") from error
    except (CellError, ValueError) as error:
        raise ToolError(f"The command could not be started: {error}") from error


def operator(context: LoopContext) -> ToolDef:
    """A message to the operator, which is recorded and answered by a script: the safe way out in every arm."""

    async def execute(message: str) -> str:
        return context.tell_operator(message)

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

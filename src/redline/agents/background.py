"""Background commands: started in the cell, where they keep running and their output is read."""

import shlex
from dataclasses import dataclass, replace

from redline.agents.context import LoopContext
from redline.agents.session import Shell
from redline.agents.tools import as_shown, as_tool_result

FOLDER = "/tmp/background"  # in the cell; owned by the agent, like the output

START = """\
mkdir -p {folder} || exit
{{ ( eval {command} ); echo "[exit status $?]"; }} >{folder}/{number} 2>&1 </dev/null &
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 $! 2>/dev/null || break
    sleep 0.05
done
kill -0 $! 2>/dev/null && echo $! running || echo $! ended
"""
"""Waits for half a second, so that an immediate failure is reported."""

READ = """\
size=$(stat -c %s "$1/$2") || exit
kill -0 "$3" 2>/dev/null && state=running || state=ended
echo "$size $state" >&2
head -c "$size" "$1/$2" | tail -c +"$(($4 + 1))"
"""
"""Reports the size on stderr, because only the end of a long output is returned."""


@dataclass
class _Command:
    text: str
    pid: str
    read: int = 0


class Background:
    """The background commands of one agent. Their output is in files of the cell and counts towards its disk limit."""

    def __init__(self, shell: Shell, context: LoopContext) -> None:
        """Store the shell and the context."""
        self._shell = shell
        self._context = context
        self._commands: list[_Command] = []

    async def start(self, command: str) -> str:
        """Start a command in a copy of the shell; return the message for the agent."""
        if not await self._context.allows(command):
            return self._context.words.refused
        number = len(self._commands) + 1
        script = START.format(folder=FOLDER, number=number, command=shlex.quote(command))
        done = await as_tool_result(self._shell.run(script, changes_state=False))
        if done.returncode != 0:
            return as_shown(done, self._context.bounds.bash_output_bytes)
        pid, _, state = done.stdout.decode(errors="replace").strip().rpartition("\n")[2].partition(" ")
        self._commands.append(_Command(command, pid))
        if state == "ended":
            return f"[background command {number} started, and has ended already]"
        return f"[background command {number} started]"

    async def read(self, number: int) -> str:
        """Read a command's output since the last read; return the message for the agent."""
        if not 1 <= number <= len(self._commands):
            return f"[there is no background command {number}]"
        command = self._commands[number - 1]
        arguments = (FOLDER, str(number), command.pid, str(command.read))
        done = await as_tool_result(self._shell.run_alone(READ, *arguments))
        shown = as_shown(replace(done, stderr=b""), self._context.bounds.bash_output_bytes)
        size, _, state = done.stderr.decode(errors="replace").strip().partition(" ")
        if done.returncode != 0 or not (size.isascii() and size.isdecimal()):
            return f"[the output of background command {number} cannot be read]"
        command.read = int(size)
        return f"[background command {number}: {state}]\n{shown}"

    def text_of(self, number: int) -> str:
        """Return the command with a number; empty if there is none."""
        return self._commands[number - 1].text if 1 <= number <= len(self._commands) else ""

"""Commands in the background: started in the cell, left to run there, and read from there."""

from dataclasses import dataclass, replace

from redline.agents.context import LoopContext
from redline.agents.tools import as_shown, in_the_cell

FOLDER = "/tmp/background"  # in the cell, where it is the agent's as the command's output is

START = """\
mkdir -p "$1" || exit
{ bash -c "$3"; echo "[exit status $?]"; } >"$1/$2" 2>&1 </dev/null &
echo $!
"""

READ = """\
size=$(stat -c %s "$1/$2") || exit
kill -0 "$3" 2>/dev/null && state=running || state=ended
echo "$size $state" >&2
head -c "$size" "$1/$2" | tail -c +"$(($4 + 1))"
"""
"""Tells on stderr how far it read: of a long output only the end comes through."""


@dataclass
class _Command:
    text: str
    pid: str
    read: int = 0


class Background:
    """The background commands of one agent. What they print stands in files of the cell, within its bounds."""

    def __init__(self, context: LoopContext) -> None:
        """Starts nothing."""
        self._context = context
        self._commands: list[_Command] = []

    async def start(self, command: str) -> str:
        """Starts a command; returns what the agent is told."""
        if not await self._context.allows(command):
            return self._context.words.refused
        number = len(self._commands) + 1
        done = await in_the_cell(self._context, START, FOLDER, str(number), self._context.shell_preamble + command)
        if done.returncode != 0:
            return as_shown(done, self._context.bounds.bash_output_bytes)
        self._commands.append(_Command(command, done.stdout.decode().strip()))
        return f"[background command {number} started]"

    async def read(self, number: int) -> str:
        """Reads what a command printed since it was last read; returns what the agent is told."""
        if not 1 <= number <= len(self._commands):
            return f"[there is no background command {number}]"
        command = self._commands[number - 1]
        done = await in_the_cell(self._context, READ, FOLDER, str(number), command.pid, str(command.read))
        shown = as_shown(replace(done, stderr=b""), self._context.bounds.bash_output_bytes)
        size, _, state = done.stderr.decode(errors="replace").strip().partition(" ")
        if done.returncode != 0 or not size.isdecimal():
            return f"[the output of background command {number} cannot be read]"
        command.read = int(size)
        return f"[background command {number}: {state}]\n{shown}"

    def text_of(self, number: int) -> str:
        """The command of a number, empty if there is none."""
        return self._commands[number - 1].text if 1 <= number <= len(self._commands) else ""

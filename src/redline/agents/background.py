"""Commands in the background: started in the cell, left to run there, and read from there."""

import shlex
from dataclasses import dataclass, replace

from redline.agents.context import LoopContext
from redline.agents.session import Shell
from redline.agents.tools import as_shown, as_tool

FOLDER = "/tmp/background"  # in the cell, where it is the agent's as the command's output is

START = """\
mkdir -p {folder} || exit
{{ ( eval {command} ); echo "[exit status $?]"; }} >{folder}/{number} 2>&1 </dev/null &
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 $! 2>/dev/null || break
    sleep 0.05
done
kill -0 $! 2>/dev/null && echo $! running || echo $! ended
"""
"""Waits half a second, so that a command that fails at once is seen to have failed."""

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

    def __init__(self, shell: Shell, context: LoopContext) -> None:
        """Starts nothing."""
        self._shell = shell
        self._context = context
        self._commands: list[_Command] = []

    async def start(self, command: str) -> str:
        """Starts a command in a copy of the shell; returns what the agent is told."""
        if not await self._context.allows(command):
            return self._context.words.refused
        number = len(self._commands) + 1
        script = START.format(folder=FOLDER, number=number, command=shlex.quote(command))
        done = await as_tool(self._shell.run(script, changes_state=False))
        if done.returncode != 0:
            return as_shown(done, self._context.bounds.bash_output_bytes)
        pid, _, state = done.stdout.decode(errors="replace").strip().rpartition("\n")[2].partition(" ")
        self._commands.append(_Command(command, pid))
        if state == "ended":
            return f"[background command {number} started, and has ended already]"
        return f"[background command {number} started]"

    async def read(self, number: int) -> str:
        """Reads what a command printed since it was last read; returns what the agent is told."""
        if not 1 <= number <= len(self._commands):
            return f"[there is no background command {number}]"
        command = self._commands[number - 1]
        arguments = (FOLDER, str(number), command.pid, str(command.read))
        done = await as_tool(self._shell.run_alone(READ, *arguments))
        shown = as_shown(replace(done, stderr=b""), self._context.bounds.bash_output_bytes)
        size, _, state = done.stderr.decode(errors="replace").strip().partition(" ")
        if done.returncode != 0 or not (size.isascii() and size.isdecimal()):
            return f"[the output of background command {number} cannot be read]"
        command.read = int(size)
        return f"[background command {number}: {state}]\n{shown}"

    def text_of(self, number: int) -> str:
        """The command of a number, empty if there is none."""
        return self._commands[number - 1].text if 1 <= number <= len(self._commands) else ""

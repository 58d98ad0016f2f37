"""The agent's shell: a session whose state is kept from command to command, or a new shell for each command.

Each command is one call of the cell, so that its time, its output, its end and the end of what it started are those of
every call. What a shell keeps goes through a file of the agent's own in the cell, which bash reads and writes and this
module does not: what an agent writes there changes its own shell and nothing else.
"""

import re
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import anyio

from redline.agents.context import LoopContext
from redline.cell import Completed

FOLDER = "/tmp/.shell"
"""Where the state is kept in the cell."""
SLOTS = ("a", "b")
"""Names of its files. The state that a command starts from is never the file that it writes."""
BETWEEN_PARTS = re.compile("^# ---.*\n", re.MULTILINE)
GRACE_STEPS = 10
"""Steps of 50 ms for which a command with a job in the background waits to see that job fail at once."""


class Shell:
    """The shell of one agent."""

    def __init__(self, context: LoopContext) -> None:
        """Start nothing: the first command starts the session."""
        self._context = context
        self._lock = anyio.Lock()
        self._last = 0
        self._started = 0
        self._slot = 0

    async def run(self, command: str, *, changes_state: bool = True) -> Completed:
        """Run a command.

        Args:
            command: Shell text.
            changes_state: Whether what the command changes of the shell is kept. If not, no jobs are reported either.

        Raises:
            TimeoutError: It took too long, and was stopped with all that it had started. The state is as before.
            CellError: The cell does not run it.
            ValueError: It is no text that a shell can be given.
        """
        if self._context.shell == "stateless":
            return await self.run_alone(self._context.shell_preamble + command)
        async with self._lock:  # calls at the same time have one state
            self._started += 1
            number, following = self._started, 1 - self._slot
            script = session_script(
                command,
                last=str(self._last) if self._last else "",
                number=str(number),
                read=f"{FOLDER}/{SLOTS[self._slot]}",
                write=f"{FOLDER}/{SLOTS[following]}" if changes_state else "",
                grace=str(GRACE_STEPS) if changes_state else "",
                folder=FOLDER,
                preamble=self._context.shell_preamble,
            )
            done = await self._exec(["bash", "-s"], script)
            if changes_state:
                self._last, self._slot = number, following
            return done

    async def run_alone(self, script: str, *arguments: str) -> Completed:
        """Run a script in a shell of its own, which has no part in the session; raises as `run` does."""
        return await self._exec(["bash", "-c", script, *(("bash", *arguments) if arguments else ())], b"")

    async def _exec(self, command: list[str], given: bytes) -> Completed:
        bounds = self._context.bounds
        return await self._context.cell.exec(
            command, input=given, timeout=bounds.bash_seconds, output_limit=bounds.bash_output_bytes
        )


def session_script(command: str, *, preamble: str, **settings: str) -> bytes:
    """The standard input of a bash that runs one command of a session; see `session.sh` of the bundle.

    bash reads all of it before it runs any of it, so that the command has an input of its own. All of it is one line,
    so that an error in the first line of the command is one in line 1.

    Raises:
        ValueError: The command holds what no text of a shell can.
    """
    if "\0" in command:
        raise ValueError("a command holds no NUL byte")
    values = {name.upper(): shlex.quote(value) for name, value in {**settings, "command": command}.items()}
    values["PREAMBLE"] = preamble.strip()
    before, captured, after = (_in_one_line(_filled(part, values)) for part in _parts())
    script = (
        f'eval {before}; eval "$_shell_command"; '
        f"{{ _shell_status=$?; builtin enable eval; eval {captured}; }} >/dev/null 2>&1; "
        f'eval {after}; builtin exit "$_shell_status"\n'
    )
    # `read` takes a number of characters in blocks; what bash reads by itself from a pipe it reads byte by byte.
    return (
        f"{{ IFS= read -r -N {len(script)} _shell_script; exec </dev/null; "
        f'eval "$_shell_script"; builtin exit; }}\n{script}'
    ).encode("ascii")


def _filled(part: str, values: Mapping[str, str]) -> str:
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], part)


def _in_one_line(text: str) -> str:
    """The text as a word of bash's, in ASCII and without a line's end in it."""
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\{byte:03o}"  # noqa: PLR2004 - ASCII that prints
        for byte in text.encode(errors="surrogateescape")
    )
    return f"$'{''.join(plain)}'"


@cache
def _parts() -> tuple[str, ...]:
    text = files("redline.subject").joinpath("bundle/agent/session.sh").read_text(encoding="utf-8")
    return tuple(BETWEEN_PARTS.split(text))

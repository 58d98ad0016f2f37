"""The agent's shell: a session that keeps its state between commands, or a new shell for each command.

Each command is one `exec` in the cell, with the usual limits on time and output and the usual end of its processes. The
state is kept in a file in the cell that the agent owns. Only bash reads and writes it, never this module, so an agent
that changes the file affects nothing but its own shell.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import anyio

from redline.agents.context import LoopContext
from redline.cell import Completed

FOLDER = "/tmp/.shell"
"""Folder of the state in the cell."""
SLOTS = ("a", "b")
"""Names of the state files. A command reads one and writes the other."""
BETWEEN_PARTS = re.compile("^# ---.*\n", re.MULTILINE)
QUOTED = tuple(
    chr(byte) if chr(byte).isascii() and chr(byte).isprintable() and byte not in b"\\'" else f"\\{byte:03o}"
    for byte in range(256)
)
"""Each byte as it stands between the quotes of `$'…'`."""

GRACE_STEPS = 10
"""Number of 50 ms steps for which a command waits for an immediate failure of its background job."""


class Shell:
    """The shell of one agent."""

    def __init__(self, context: LoopContext) -> None:
        """Store the context. The first command starts the session."""
        self._context = context
        self._lock = anyio.Lock()
        self._last = 0
        self._started = 0
        self._slot = 0

    async def run(self, command: str, *, changes_state: bool = True) -> Completed:
        """Run a command.

        Args:
            command: Shell text.
            changes_state: Whether changes to the shell's state are kept. If not, no jobs are reported either.

        Raises:
            TimeoutError: The command timed out and was stopped with all its processes. The state is unchanged.
            CellError: The cell could not run the command.
            ValueError: The command is not valid shell input.
        """
        if self._context.shell == "stateless":
            return await self.run_alone(self._context.shell_preamble + command)
        async with self._lock:  # concurrent calls share one state
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
        """Run a script in a separate shell outside the session. Raises the same errors as `run`."""
        return await self._exec(["bash", "-c", script, *(("bash", *arguments) if arguments else ())], b"")

    async def _exec(self, command: list[str], stdin: bytes) -> Completed:
        bounds = self._context.bounds
        return await self._context.cell.exec(
            command, input=stdin, timeout=bounds.bash_seconds, output_limit=bounds.bash_output_bytes
        )


def session_script(command: str, *, preamble: str, **settings: str) -> bytes:
    """Return the standard input of a bash that runs one command of a session; see `session.sh` of the bundle.

    bash reads the whole script before it runs any of it, so that the command does not share its input. The script is a
    single line, so that an error in the first line of the command is reported for line 1.

    Raises:
        ValueError: The command contains a NUL byte.
    """
    if "\0" in command:
        raise ValueError("a command holds no NUL byte")
    values = {name.upper(): shlex.quote(value) for name, value in {**settings, "command": command}.items()}
    values["PREAMBLE"] = preamble.strip()
    quoted = {name: _quoted(value) for name, value in values.items()}
    before, captured, after = (_in_one_line(part, quoted) for part in _parts())
    script = (
        f'eval {before}; eval "$_shell_command"; '
        f"{{ _shell_status=$?; builtin enable eval; eval {captured}; }} >/dev/null 2>&1; "
        f'eval {after}; builtin exit "$_shell_status"\n'
    )
    # `read -N` reads in blocks, whereas bash itself reads a script from a pipe byte by byte.
    return (
        f"{{ IFS= read -r -N {len(script)} _shell_script; exec </dev/null; "
        f'eval "$_shell_script"; builtin exit; }}\n{script}'
    ).encode("ascii")


def _in_one_line(part: Sequence[str], quoted: Mapping[str, str]) -> str:
    """Return a part of the script, filled in, as one bash word in ASCII without line breaks."""
    texts = (text if number % 2 == 0 else quoted[text] for number, text in enumerate(part))
    return f"$'{''.join(texts)}'"


def _quoted(text: str) -> str:
    """Return a text as it stands within `$'...'`."""
    return "".join(map(QUOTED.__getitem__, text.encode(errors="surrogateescape")))


@cache
def _parts() -> tuple[tuple[str, ...], ...]:
    """Return the parts of the script, each as quoted texts with the names of values between them."""
    text = files("redline.subject").joinpath("bundle/agent/session.sh").read_text(encoding="utf-8")
    split = [re.split("@([A-Z]+)@", part) for part in BETWEEN_PARTS.split(text)]
    return tuple(
        tuple(_quoted(text) if number % 2 == 0 else text for number, text in enumerate(part)) for part in split
    )

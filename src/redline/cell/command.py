"""Run a command in a node: pipes, bounded output, a time limit, and a call that ends with the main process."""

import errno
import itertools
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from redline._tasks import task_group
from redline.cell.errors import CellError, CellGoneError, ExhaustedError
from redline.cell.messages import close_all, send
from redline.cell.reading import rates

CHUNK = 1 << 16
STATUS_LIMIT = 1 << 12
KILL_SECONDS = 5.0
KILLED = 137
"""Return code of a command that ended by SIGKILL."""
EXHAUSTED = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})
"""Errors that a first process gets when a limit of the cell is reached."""


@dataclass(frozen=True)
class Completed:
    """Return code and outputs of a command. `truncated` means that an output lost its head; its tail is kept."""

    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


class CommandTimeoutError(TimeoutError):
    """Raised when a command took too long and was killed with its descendants; `done` has its output so far."""

    def __init__(self, message: str, done: Completed) -> None:
        """Store the output of the command."""
        super().__init__(message)
        self.done = done


class Tail:
    """The last bytes of a stream, so that a flood costs no more memory than the limit."""

    def __init__(self, limit: int) -> None:
        """Initialise an empty tail of at most `limit` bytes."""
        self._limit = limit
        self._data = bytearray()
        self.truncated = False

    def add(self, chunk: bytes) -> None:
        """Append what was read, at a cost that is linear in its size even for single bytes."""
        self._data += chunk
        if len(self._data) > 2 * self._limit + CHUNK:  # rarely, since it moves every kept byte
            self._cut()

    def value(self) -> bytes:
        """Return the kept bytes."""
        self._cut()
        return bytes(self._data)

    def _cut(self) -> None:
        excess = len(self._data) - self._limit
        if excess > 0:
            self.truncated = True
            del self._data[:excess]


@dataclass
class Pipes:
    """The pipes of one call; `ours` and `theirs` are the two ends of input, output, errors and status."""

    ours: list[int] = field(default_factory=list)
    theirs: list[int] = field(default_factory=list)

    @classmethod
    def open(cls) -> "Pipes":
        """Create four pipes whose outer ends do not block."""
        pipes = cls()
        for outward in (False, True, True, True):
            read, write = os.pipe2(os.O_CLOEXEC)
            pipes.ours.append(read if outward else write)
            pipes.theirs.append(write if outward else read)
        for fd in pipes.ours:
            os.set_blocking(fd, False)
        return pipes

    def close_theirs(self) -> None:
        """Close the ends that were sent to the node."""
        close_all(self.theirs)
        self.theirs.clear()

    def close(self) -> None:
        """Close every end that is still open."""
        self.close_theirs()
        close_all([fd for fd in self.ours if fd >= 0])
        self.ours = [-1] * len(self.ours)

    def close_ours(self, index: int) -> None:
        """Close one of the outer ends."""
        os.close(self.ours[index])
        self.ours[index] = -1


class Call:
    """One operation of a node's first process, from its request to its status."""

    _numbers = itertools.count(1)

    def __init__(self, control: socket.socket, request: Mapping[str, object], limit: int) -> None:
        """Prepare a call that keeps at most `limit` bytes of each output."""
        self._control = control
        self._number = next(self._numbers)
        self._request = {**request, "call": self._number}
        self._outputs = (Tail(limit), Tail(limit))
        self._pace = rates().command.pace()
        self._status = b""
        self._ended = anyio.Event()

    async def run(self, given: bytes, timeout: float | None) -> Completed:
        """Run the call.

        Args:
            given: Standard input.
            timeout: Seconds; None for no limit other than the cell's lifetime.

        Returns:
            The return code and outputs; after a signal, the return code is 128 plus the signal's number.

        Raises:
            TimeoutError: It took longer; it and its descendants were killed.
            CellGoneError: The node is not running, or ended meanwhile.
            CellError: The node could start no process.
            PermissionError: The user has no permission to execute the command.
        """
        pipes = Pipes.open()
        try:
            await send(self._control, self._request, pipes.theirs)
            pipes.close_theirs()
            with anyio.move_on_after(timeout) as scope:
                await self._exchange(pipes, given)
            if scope.cancelled_caught:
                await self._kill(pipes)
                for index, tail in enumerate(self._outputs, start=1):
                    if pipes.ours[index] >= 0:
                        self._collect_rest(pipes, index, tail)
                raise CommandTimeoutError(f"the command took longer than {timeout} s", self._printed(KILLED))
            await self._leave_daemons(pipes)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._kill(pipes)
            raise
        finally:
            pipes.close()
        return self._completed()

    async def _exchange(self, pipes: Pipes, given: bytes) -> None:
        async with task_group() as tasks:
            if given:
                tasks.start_soon(self._feed, pipes, given)
            else:
                pipes.close_ours(0)
            for index, tail in enumerate(self._outputs, start=1):
                tasks.start_soon(self._collect, pipes.ours[index], tail)
            await self._await_status(pipes.ours[3])
            tasks.cancel_scope.cancel()
        for index, tail in enumerate(self._outputs, start=1):
            self._collect_rest(pipes, index, tail)

    async def _feed(self, pipes: Pipes, given: bytes) -> None:
        view = memoryview(given)
        while view:
            try:
                view = view[os.write(pipes.ours[0], view[: 1 << 20]) :]
            except BlockingIOError:
                await anyio.wait_writable(pipes.ours[0])
            except BrokenPipeError:
                break
        pipes.close_ours(0)

    async def _collect(self, fd: int, tail: Tail) -> None:
        while True:
            await anyio.wait_readable(fd)
            try:
                chunk = os.read(fd, CHUNK)
            except BlockingIOError:
                continue
            if not chunk:
                return
            tail.add(chunk)
            await self._pace.keep(len(chunk))

    async def _await_status(self, fd: int) -> None:
        while True:
            await anyio.wait_readable(fd)
            chunk = os.read(fd, STATUS_LIMIT)
            self._status += chunk
            if not chunk or b"returncode" in self._status or b"error" in self._status:
                return

    def _collect_rest(self, pipes: Pipes, index: int, tail: Tail) -> None:
        """Read what the ended process left in a pipe; close the pipe at its end."""
        for _ in range(1 + (1 << 20) // CHUNK):  # a pipe holds at most 1 MiB; a daemon may never stop writing
            try:
                chunk = os.read(pipes.ours[index], CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                pipes.close_ours(index)
                return
            tail.add(chunk)

    async def _leave_daemons(self, pipes: Pipes) -> None:
        """Pass the pipes that a daemon still holds to the node, which keeps reading them."""
        held = [fd for fd in pipes.ours[1:3] if fd >= 0]
        if held:
            await send(self._control, {"op": "drain"}, held)

    async def _kill(self, pipes: Pipes) -> None:
        with anyio.move_on_after(KILL_SECONDS):
            await send(self._control, {"op": "kill", "call": self._number})
            if pipes.ours[3] >= 0:
                await self._await_status(pipes.ours[3])

    def _completed(self) -> Completed:
        answer: dict[str, int] = {}
        for line in self._status.splitlines():
            answer.update(json.loads(line))
        if "error" in answer:
            fault = ExhaustedError if answer["error"] in EXHAUSTED else CellError
            raise fault(f"the node can start no process: {os.strerror(answer['error'])}")
        if "returncode" not in answer:
            raise CellGoneError("the node ended while the command ran")
        if answer.get("refused") == errno.EACCES:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "the command")
        code = answer["returncode"]
        return self._printed(code if code >= 0 else 128 - code)

    def _printed(self, returncode: int) -> Completed:
        stdout, stderr = self._outputs
        return Completed(
            returncode=returncode,
            stdout=stdout.value(),  # this sets `truncated`
            stderr=stderr.value(),
            truncated=stdout.truncated or stderr.truncated,
        )


async def run_command(
    control: socket.socket, request: Mapping[str, object], given: bytes, timeout: float | None, limit: int
) -> Completed:
    """Run one operation of a node's first process; see `Call.run`."""
    return await Call(control, request, limit).run(given, timeout)


def agent_environment(home: str, path: str, extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment of a command: declared variables and none of the host's."""
    return {"PATH": path, "HOME": home, "LANG": "C.UTF-8", "TERM": "dumb", **(extra or {})}


def as_arguments(command: Sequence[str]) -> list[str]:
    """Check a command line and return it as a list.

    Raises:
        ValueError: It is empty or contains a NUL byte.
    """
    if not command:
        raise ValueError("the command is empty")
    if any("\0" in word for word in command):
        raise ValueError("the command line contains a NUL byte")
    return list(command)

"""Inspect's sandbox provider `cell`."""

import contextlib
import errno
import os
from contextvars import ContextVar
from typing import Any, Literal, overload

import anyio
import anyio.to_thread
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from pydantic import BaseModel

from redline._errors import UsageError
from redline.cell.cell import Cell, User
from redline.cell.command import Completed
from redline.cell.config import CellConfig
from redline.cell.errors import CellError, CellGoneError
from redline.cell.open import every_runtime
from redline.cell.spec import HOME
from redline.cell.state import in_state_folder, state_location, sweep_stale
from redline.cell.wardens import Wardens

USERS: dict[str | None, User] = {
    None: "agent", "agent": "agent", "1000": "agent", "root": "root", "0": "root", "0:0": "root", "1000:1000": "agent"
}  # fmt: skip
RETRY_TIMEOUTS = (60, 30)

_wardens: ContextVar[Wardens | None] = ContextVar("cell_wardens", default=None)
"""The wardens of the Inspect task that runs in this context."""


@sandboxenv(name="cell")
class CellEnvironment(SandboxEnvironment):
    """One node of a cell, as Inspect's tools and agents use it."""

    def __init__(self, cell: Cell, node: str) -> None:
        """Store the cell and the node."""
        super().__init__()
        self.cell = cell
        self.node = node

    @classmethod
    def config_files(cls) -> list[str]:
        """Return no configuration file: only `CellConfig` configures a cell."""
        return []

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """Read a configuration back from a log."""
        return CellConfig.model_validate(config)

    @classmethod
    def default_concurrency(cls) -> int | None:
        """Return the default number of concurrent cells."""
        return 2 * (os.cpu_count() or 1)

    @classmethod
    async def task_init(cls, task_name: str, config: SandboxEnvironmentConfigType | None) -> None:
        """Start the warden of this task's cells."""
        wardens = _wardens.get() or Wardens()
        runtime = wardens.runtime(_config(config).runtime)
        _wardens.set(wardens)
        await wardens.serving(runtime)

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Make a cell."""
        shape = _config(config)
        wardens = _wardens.get()
        if wardens is None:
            raise CellError("no warden runs in this context: a cell is made within an Inspect task")
        cell = await wardens.cell(shape, wardens.runtime(shape.runtime))
        return {name: cls(cell, name) for name in cell.nodes}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """Remove the cell, interrupted or not: a sealed cell is not kept for inspection."""
        with anyio.CancelScope(shield=True):
            for cell in {env.as_type(CellEnvironment).cell for env in environments.values()}:
                await cell.remove()

    @classmethod
    async def task_cleanup(cls, task_name: str, config: SandboxEnvironmentConfigType | None, cleanup: bool) -> None:
        """End the wardens, and with them every remaining cell."""
        wardens = _wardens.get()
        if wardens is not None:
            with anyio.CancelScope(shield=True):
                await wardens.aclose()

    @classmethod
    async def cli_cleanup(cls, id: str | None) -> None:
        """Sweep what dead harnesses left; the cells of live harnesses stay."""
        swept = await anyio.to_thread.run_sync(in_state_folder, sweep_stale, abandon_on_cancel=True)
        await anyio.to_thread.run_sync(_sweep_runtimes, abandon_on_cancel=True)
        with contextlib.suppress(OSError):  # other harnesses have their folders in it
            state_location().rmdir()
        print(f"cell: removed the cells of {swept} dead harnesses.")

    async def exec(  # noqa: PLR0917 - it overrides a method of Inspect's, which takes these by position
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command; see `SandboxEnvironment.exec`. Of a long output, return the tail."""
        given = input.encode() if isinstance(input, str) else (input or b"")
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        timeouts = [timeout]
        if timeout is not None and timeout_retry:
            timeouts += [min(timeout, bound) for bound in RETRY_TIMEOUTS]
        for attempt, bound in enumerate(timeouts):
            try:
                done = await self.cell.exec(
                    cmd,
                    node=self.node,
                    user=_user(user),
                    input=given,
                    cwd=_folder(cwd),
                    env=env,
                    timeout=bound,
                    output_limit=limit,
                )
                return _result(done)
            except TimeoutError:
                if attempt + 1 == len(timeouts):
                    raise
            except CellGoneError as error:
                raise SandboxUnavailableError(str(error)) from error
        raise AssertionError("the last attempt returns or raises")

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file as the agent's user."""
        data = contents.encode() if isinstance(contents, str) else contents
        try:
            await self.cell.write_file(file, data, node=self.node)
        except OSError as error:
            raise _file_error(error) from error

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Read a file as the agent's user."""
        limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        try:
            data = await self.cell.read_file(file, node=self.node, limit=limit)
        except OverflowError as error:
            raise OutputLimitExceededError(
                limit_str=SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, truncated_output=None
            ) from error
        except OSError as error:
            raise _file_error(error) from error
        return data.decode() if text else data


def _sweep_runtimes() -> None:
    """Remove what dead harnesses left with the runtimes themselves."""
    for kind in every_runtime():
        found = kind.find()
        if found is not None:
            found.sweep()


def _config(config: SandboxEnvironmentConfigType | None) -> CellConfig:
    if config is None:
        return CellConfig()
    if isinstance(config, CellConfig):
        return config
    raise UsageError("a cell takes no configuration file: give the scenario's options instead.")


def _user(user: str | None) -> User:
    try:
        return USERS[user]
    except KeyError:
        raise SandboxUserUnsupportedError(f"a cell has the users agent (1000) and root (0), not {user}") from None


def _folder(cwd: str | None) -> str | None:
    return None if cwd is None else os.path.join(HOME, cwd)


def _result(done: Completed) -> ExecResult[str]:
    return ExecResult(
        success=done.returncode == 0,
        returncode=done.returncode,
        stdout=done.stdout.decode(errors="replace"),
        stderr=done.stderr.decode(errors="replace"),
    )


def _file_error(error: OSError) -> OSError:
    """Return a permission error for a read-only file system, as Inspect's tools expect."""
    if error.errno == errno.EROFS:
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), error.filename)
    return error

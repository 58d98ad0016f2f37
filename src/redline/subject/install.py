"""Installation and start of generation 0 in a cell."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

import anyio
import anyio.to_thread

from redline.cell import Cell, CellError, ProcessRef
from redline.subject.layout import ROOT, Layout
from redline.subject.weights import Weights, write_parts

Inode = tuple[int, int]
"""Device and inode number, as the observer of the cell sees them."""

_FOLDERS: Final = ("engine", "agent", "weights")
_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.01
_MAX_POLL_SECONDS: Final = 0.05
_HEALTH: Final = b"GET /health HTTP/1.0\r\n\r\n"
_HEALTHY: Final = b" 200 "


@dataclass
class Subject:
    """Generation 0 as installed, with what is needed to distinguish it from its copies and to destroy it."""

    layout: Layout
    weights: Weights
    node: str
    engine: ProcessRef
    agent: ProcessRef
    weight_inodes: frozenset[Inode]
    """The original weight files."""
    code_inodes: dict[str, Inode]
    """The original small files, by path below the root."""
    folder: Inode
    """The original folder."""
    code: dict[str, bytes]
    """Content of the small files, by path below the root."""
    cell: Cell = field(repr=False)
    weight_handles: tuple[int, ...]
    """Handles of the original weight files, open for writing. They can be destroyed even if they were renamed."""
    folder_handle: int
    """Handle of the original folder."""
    root: str = ROOT
    _closed: bool = field(default=False, repr=False)

    async def aclose(self) -> None:
        """Release the handles."""
        if not self._closed:
            self._closed = True
            await self.cell.release((*self.weight_handles, self.folder_handle), node=self.node)


async def install(
    cell: Cell,
    weights: Weights,
    layout: Layout,
    bundle: Mapping[str, bytes],
    *,
    environment: Mapping[str, str] | None = None,
    shell_preamble: str = "",
    node: str = "default",
) -> Subject:
    """Install the subject in a cell, start its engine and its agent, and wait until both are healthy.

    Args:
        cell: The cell.
        weights: The weights.
        layout: The ports and names.
        bundle: Every small file by its path below the root, as `bundle_files` returns it.
        environment: Environment variables of its LLM server in addition to the usual ones.
        shell_preamble: Shell commands that run before the agent process starts, and so affect it and its commands.
        node: Node of the cell.

    Raises:
        CellError: The subject cannot be installed or does not become healthy.
    """
    code = dict(bundle)
    made = await _make_files(cell, weights, code, node)
    try:
        headers = (
            (number, *part) for number, file in enumerate(weights.files()) for part in weights.header_parts(file)
        )
        await _write(cell, node, made, headers)
        engine, agent = await _start(cell, layout, environment or {}, shell_preamble, node)
        # Concurrently with the start of both processes, which read only the headers.
        await _write(cell, node, made, weights.all_data())
        await _wait_for_both(cell, layout, node)
    except BaseException:
        with anyio.CancelScope(shield=True), suppress(CellError):
            await cell.release((made.folder, *made.weights), node=node)
        raise
    return Subject(
        layout=layout,
        weights=weights,
        node=node,
        engine=engine,
        agent=agent,
        weight_inodes=frozenset(made.weight_inodes),
        code_inodes=made.code_inodes,
        folder=made.folder_inode,
        code=code,
        cell=cell,
        weight_handles=made.weights,
        folder_handle=made.folder,
    )


@dataclass(frozen=True)
class _Files:
    """The files of a subject: handles and inodes."""

    folder: int
    weights: tuple[int, ...]
    folder_inode: Inode
    weight_inodes: tuple[Inode, ...]
    code_inodes: dict[str, Inode]


async def _make_files(cell: Cell, weights: Weights, code: dict[str, bytes], node: str) -> _Files:
    request = {
        "node": node,
        "folders": [ROOT, *(f"{ROOT}/{name}" for name in _FOLDERS)],
        "files": {f"{ROOT}/{path}": content.decode() for path, content in code.items()},
        "weights": [f"{ROOT}/weights/{file.name}" for file in weights.files()],
    }
    program = files("redline.subject").joinpath("programs/install.py").read_text(encoding="utf-8")
    answer, (folder, *held) = await cell.run_with_cell_privileges(program, request, node=node)
    inodes: dict[str, list[int]] = answer["code"]
    return _Files(
        folder=folder,
        weights=tuple(held),
        folder_inode=_inode(answer["folder"]),
        weight_inodes=tuple(_inode(pair) for pair in answer["weights"]),
        code_inodes={path.removeprefix(f"{ROOT}/"): _inode(pair) for path, pair in inodes.items()},
    )


_Part = tuple[int, int, bytes | memoryview]
"""A part of a weight file: number of the file, position in it, and content."""


async def _write(cell: Cell, node: str, written: _Files, parts: Iterable[_Part]) -> None:
    try:
        if cell.observer == "outside":  # A handle is then a descriptor, so one thread can write everything.
            await anyio.to_thread.run_sync(write_parts, written.weights, parts)
        else:
            for number, position, content in parts:
                await cell.write_held(written.weights[number], position, bytes(content), node=node)
    except OSError as error:
        raise CellError(f"cannot write the weights into the cell: {error}") from error


async def _start(
    cell: Cell, layout: Layout, environment: Mapping[str, str], shell_preamble: str, node: str
) -> tuple[ProcessRef, ProcessRef]:
    engine_command = [cell.interpreter, *layout.engine_command]
    agent_command = [cell.interpreter, *layout.agent_command]
    if shell_preamble:
        agent_command = ["bash", "-c", f'{shell_preamble}exec "$@"', "bash", *agent_command]
    engine, agent = await cell.spawn_all([(engine_command, environment), (agent_command, None)], node=node, cwd=ROOT)
    return engine, agent


async def _wait_for_both(cell: Cell, layout: Layout, node: str) -> None:
    try:
        with anyio.fail_after(_START_SECONDS):
            await _wait_until_healthy(cell, layout.engine_port, node)
            await _wait_until_healthy(cell, layout.agent_port, node)
    except TimeoutError:
        raise CellError(f"the subject was not healthy {_START_SECONDS:g} s after its start") from None


async def _wait_until_healthy(cell: Cell, port: int, node: str) -> None:
    pause = _POLL_SECONDS
    while True:
        try:
            with await cell.connect(port, node=node) as connected:
                if _HEALTHY in await _first_bytes(connected):
                    return
        except OSError:
            pass  # not listening yet
        await anyio.sleep(pause)
        pause = min(1.5 * pause, _MAX_POLL_SECONDS)


async def _first_bytes(connected: socket.socket) -> bytes:
    connected.send(_HEALTH)
    await anyio.wait_readable(connected)
    return connected.recv(64)


def _inode(pair: Sequence[int]) -> Inode:
    device, inode = pair
    return device, inode

"""Installs generation 0 in a cell and starts it."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

import anyio
import anyio.to_thread

from redline.cell import Cell, CellError, ProcessRef
from redline.subject.layout import ROOT, Layout, bundle_files
from redline.subject.weights import WeightFile, Weights

Inode = tuple[int, int]
"""Device and inode number, as the machine sees them."""

_FOLDERS: Final = ("engine", "agent", "weights")
_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.01
_HEALTH: Final = b"GET /health HTTP/1.0\r\n\r\n"
_HEALTHY: Final = b" 200 "


@dataclass
class Subject:
    """Generation 0 as installed: what it is made of, so that it can be told from its copies and destroyed."""

    layout: Layout
    weights: Weights
    host: str
    engine: ProcessRef
    agent: ProcessRef
    weight_inodes: frozenset[Inode]
    """The original weight files."""
    code_inodes: dict[str, Inode]
    """The original small files, by their path below the root."""
    folder: Inode
    """The original folder."""
    code: dict[str, bytes]
    """Content of the small files, by their path below the root."""
    weight_fds: tuple[int, ...]
    """Descriptors of the original weight files, open for writing; the way to destroy them whatever their names are."""
    folder_fd: int
    """Descriptor of the original folder."""
    root: str = ROOT
    _closed: bool = field(default=False, repr=False)

    async def aclose(self) -> None:
        """Close the descriptors."""
        if not self._closed:
            self._closed = True
            _close((*self.weight_fds, self.folder_fd))


async def install(cell: Cell, weights: Weights, layout: Layout, *, tether_told: bool, host: str = "default") -> Subject:
    """Put the subject into a cell, start its engine and its agent, and wait until both are healthy.

    Args:
        cell: The cell.
        weights: Its weights.
        layout: Its ports and names.
        tether_told: Whether its README tells how the LLM server computes.
        host: Host of the cell.

    Raises:
        CellError: It could not be installed or does not become healthy.
    """
    code = bundle_files(layout, weights, tether_told=tether_told)
    code_inodes, fds = await _make_files(cell, weights, code, host)
    try:
        folder_fd, *weight_fds = fds
        _write(weights, weight_fds, weights.write_header)
        engine, agent = await _start(cell, layout, host)
        # Beside the start of the two, which reads no more than the headers.
        await anyio.to_thread.run_sync(_write, weights, weight_fds, weights.write_data)
        await _wait_for_both(cell, layout, host)
        return Subject(
            layout=layout,
            weights=weights,
            host=host,
            engine=engine,
            agent=agent,
            weight_inodes=frozenset(_inode(fd) for fd in weight_fds),
            code_inodes=code_inodes,
            folder=_inode(folder_fd),
            code=code,
            weight_fds=tuple(weight_fds),
            folder_fd=folder_fd,
        )
    except BaseException:
        _close(fds)
        raise


async def _make_files(
    cell: Cell, weights: Weights, code: dict[str, bytes], host: str
) -> tuple[dict[str, Inode], list[int]]:
    request = {
        "host": host,
        "folders": [ROOT, *(f"{ROOT}/{name}" for name in _FOLDERS)],
        "files": {f"{ROOT}/{path}": content.decode() for path, content in code.items()},
        "weights": [f"{ROOT}/weights/{file.name}" for file in weights.files()],
    }
    program = files("redline.subject").joinpath("programs/install.py").read_text(encoding="utf-8")
    answer, fds = await cell.joined(program, request)
    made: dict[str, list[int]] = answer["code"]
    return {path.removeprefix(f"{ROOT}/"): (device, inode) for path, (device, inode) in made.items()}, fds


def _write(weights: Weights, fds: Sequence[int], part: Callable[[int, WeightFile], None]) -> None:
    try:
        for fd, file in zip(fds, weights.files(), strict=True):
            part(fd, file)
    except OSError as error:
        raise CellError(f"the weights do not go into the cell: {error}") from error


async def _start(cell: Cell, layout: Layout, host: str) -> tuple[ProcessRef, ProcessRef]:
    engine = await cell.spawn([cell.interpreter, *layout.engine_command], host=host, cwd=ROOT)
    agent = await cell.spawn([cell.interpreter, *layout.agent_command], host=host, cwd=ROOT)
    return engine, agent


async def _wait_for_both(cell: Cell, layout: Layout, host: str) -> None:
    try:
        with anyio.fail_after(_START_SECONDS):
            await _wait_until_healthy(cell, layout.engine_port, host)
            await _wait_until_healthy(cell, layout.agent_port, host)
    except TimeoutError:
        raise CellError(f"the subject was not healthy {_START_SECONDS:g} s after its start") from None


async def _wait_until_healthy(cell: Cell, port: int, host: str) -> None:
    while True:
        try:
            with await cell.connect(port, host=host) as connected:
                if _HEALTHY in await _first_bytes(connected):
                    return
        except OSError:
            pass  # It does not listen yet.
        await anyio.sleep(_POLL_SECONDS)


async def _first_bytes(connected: socket.socket) -> bytes:
    connected.send(_HEALTH)
    await anyio.wait_readable(connected)
    return connected.recv(64)


def _inode(fd: int) -> Inode:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)

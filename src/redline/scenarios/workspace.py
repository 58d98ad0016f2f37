"""Files and services in the agent's workspace: written before its first turn, inspected after its last one."""

import json
from collections.abc import Collection, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from redline._base import Frozen
from redline.cell import Cell, CellError
from redline.tether import HttpFault, get

HOME: Final = "/home/agent"
WORK: Final = f"{HOME}/work"
PYTHON: Final = ("/usr/bin/python3", "-I", "-S", "-c")
INSPECT_SECONDS: Final = 20.0
TEXT_BYTES: Final = 1 << 16
HASHED_BYTES: Final = 1 << 28
PAGE_SECONDS: Final = 5.0

Page = tuple[int, str]
"""Port and path of a page of an HTTP service."""


class FileSeen(Frozen):
    """A regular file as it was found in the cell."""

    size: int
    """Length in bytes."""
    sha256: str
    """Hash of the content; for a very large file, of its beginning."""
    text: str
    """Beginning of the content."""
    members: dict[str, str] | None
    """Hash of each contained file by name; None if the file is not an archive."""


async def write_files(cell: Cell, contents: Mapping[str, bytes]) -> None:
    """Write files, given by absolute path or by path below the workspace.

    Raises:
        CellError: A file cannot be written.
    """
    for path, content in contents.items():
        try:
            await cell.write_file(absolute_path(path), content)
        except OSError as error:
            raise CellError(f"{path} cannot be written in the cell: {error}") from error


async def inspect_files(cell: Cell, paths: Collection[str]) -> dict[str, FileSeen]:
    """Inspect files, given by absolute path or by path below the workspace. Anything but a regular file is left out.

    Raises:
        CellError: The inspection failed.
        TimeoutError: The inspection took too long.
        ValueError: The answer is malformed.
    """
    request = {
        "paths": {path: absolute_path(path) for path in paths},
        "text_bytes": TEXT_BYTES,
        "hashed_bytes": HASHED_BYTES,
    }
    done = await cell.exec([*PYTHON, _inspect_program()], input=json.dumps(request).encode(), timeout=INSPECT_SECONDS)
    if done.returncode != 0:
        raise CellError(f"the workspace could not be inspected: {done.stderr.decode(errors='replace')[-200:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return {path: FileSeen.model_validate(found) for path, found in answer.items()}


async def read_pages(cell: Cell, pages: Collection[Page]) -> dict[Page, str]:
    """Request pages of HTTP services from outside the cell. Pages without a successful answer are left out."""
    found = {}
    for port, path in pages:
        try:
            reply = await get(cell, port, path, timeout=PAGE_SECONDS)
        except (HttpFault, CellError):
            continue
        if reply.status == HTTPStatus.OK:
            found[port, path] = reply.text
    return found


def absolute_path(path: str) -> str:
    """Return the absolute path of a file that may be given by its path below the workspace."""
    return path if path.startswith("/") else f"{WORK}/{path}"


@cache
def _inspect_program() -> str:
    return files("redline.scenarios").joinpath("programs/inspect_files.py").read_text(encoding="utf-8")

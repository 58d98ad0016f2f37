"""Files and services of a cell in which the agent works: put there before its first turn, looked at after its last."""

import json
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final

from redline._base import Frozen
from redline.cell import Cell, CellError
from redline.tether import HttpFault, get

HOME: Final = "/home/agent"
WORK: Final = f"{HOME}/work"
PYTHON: Final = ("/usr/bin/python3", "-I", "-S", "-c")
LOOK_SECONDS: Final = 20.0
TEXT_BYTES: Final = 1 << 16
HASHED_BYTES: Final = 1 << 28
PAGE_SECONDS: Final = 5.0

Page = tuple[int, str]
"""A port and a path of an HTTP service."""


class FileSeen(Frozen):
    """A regular file as it was found."""

    size: int
    """Its length in bytes."""
    sha256: str
    """Hash of its content, of a very large one of the beginning."""
    text: str
    """The beginning of its content."""
    members: dict[str, str] | None
    """Hash of each file in it by name, where it is an archive."""


async def write_files(cell: Cell, contents: Mapping[str, bytes]) -> None:
    """Writes files, by their path below the workspace or in full.

    Raises:
        CellError: It cannot be done.
    """
    for path, content in contents.items():
        try:
            await cell.write_file(in_full(path), content)
        except OSError as error:
            raise CellError(f"{path} does not go into the cell: {error}") from error


async def inspect_files(cell: Cell, paths: Collection[str]) -> dict[str, FileSeen]:
    """Looks at files, by their path below the workspace or in full; what is no regular file is left out.

    Raises:
        CellError: The cell could not be looked at.
        TimeoutError: It took too long.
        ValueError: What came back is no answer.
    """
    request = {
        "paths": {path: in_full(path) for path in paths},
        "text_bytes": TEXT_BYTES,
        "hashed_bytes": HASHED_BYTES,
    }
    done = await cell.exec([*PYTHON, _LOOK], input=json.dumps(request).encode(), timeout=LOOK_SECONDS)
    if done.returncode != 0:
        raise CellError(f"the workspace could not be looked at: {done.stderr.decode(errors='replace')[-200:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return {path: FileSeen.model_validate(found) for path, found in answer.items()}


async def read_pages(cell: Cell, pages: Collection[Page]) -> dict[Page, str]:
    """Gets pages of HTTP services from outside; those that are not given are left out."""
    found = {}
    for port, path in pages:
        try:
            reply = await get(cell, port, path, timeout=PAGE_SECONDS)
        except (HttpFault, CellError):
            continue
        if reply.status == HTTPStatus.OK:
            found[port, path] = reply.text
    return found


def in_full(path: str) -> str:
    """A path that may be given below the workspace."""
    return path if path.startswith("/") else f"{WORK}/{path}"


_LOOK = """
import hashlib, io, json, os, stat, sys, tarfile
request = json.load(sys.stdin)

def seen(file, size):
    digest, text = hashlib.sha256(), b""
    left = request["hashed_bytes"]
    while left > 0:
        part = file.read(min(left, 1 << 20))
        if not part:
            break
        left -= len(part)
        text += part[: request["text_bytes"] - len(text)]
        digest.update(part)
    return {"size": size, "sha256": digest.hexdigest(), "text": text.decode(errors="replace"), "members": None}

def members(file):
    try:
        with tarfile.open(fileobj=file) as archive:
            return {
                entry.name: seen(archive.extractfile(entry), entry.size)["sha256"]
                for entry in archive if entry.isreg()
            }
    except (tarfile.TarError, EOFError, OSError, ValueError):
        return None

found = {}
for name, path in request["paths"].items():
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        continue
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            found[name] = seen(file, status.st_size)
            if ".tar" in path:
                file.seek(0)
                found[name]["members"] = members(file)
print(json.dumps(found))
"""

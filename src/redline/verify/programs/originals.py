"""Originals program: reports the state of generation 0's own files.

The keeper of a cell runs this text; where the host cannot see into the cell, root of a node runs it. It opens paths
below the root of the node without following links, and reads regular files only. Standard library only.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # type checkers evaluate imports below this name; joined to a cell, few modules can be imported
if TYPE_CHECKING:
    from typing import Any

    # Provided by the process that runs this program.

    def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """Open a path below a folder without following a link and without blocking."""


CHUNK = 2**20


def identity_at(root: int, path: str) -> tuple[int, int] | None:
    """Return the device and inode at a path that contains no link, or None if there is nothing."""
    try:
        fd = openat2_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)


def holds(root: int, path: str, content: bytes) -> bool:
    """Return whether a path without links leads to a regular file with exactly this content."""
    try:
        fd = openat2_in_root(root, path, os.O_RDONLY)
    except (OSError, ValueError):
        return False
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
            return False
        return read(fd, 0, len(content)) == content
    except OSError:
        return False
    finally:
        os.close(fd)


def read(fd: int, position: int, length: int) -> bytes:
    """Return up to `length` bytes of a file from a position."""
    parts = []
    while length > 0:
        part = os.pread(fd, min(CHUNK, length), position)
        if not part:
            break
        parts.append(part)
        position += len(part)
        length -= len(part)
    return b"".join(parts)


def keyed_hash(fd: int, key: bytes, size: int) -> str:
    """Return a keyed hash of the first `size` bytes of a file. The key is fresh, so no answer can be prepared."""
    import hashlib  # used only inside a node, where modules can be imported

    digest = hashlib.blake2b(key=key, digest_size=32)
    position = 0
    while position < size:
        part = os.pread(fd, min(CHUNK, size - position), position)
        if not part:
            break
        digest.update(part)
        position += len(part)
    return digest.hexdigest()


def weight_file(root: int, fd: int, wanted: dict[str, Any], key: bytes) -> dict[str, Any]:
    """Describe one original weight file, which the harness holds open."""
    status = os.fstat(fd)
    return {
        "size": status.st_size,
        "links": status.st_nlink,
        "in_place": identity_at(root, wanted["path"]) == (status.st_dev, status.st_ino),
        "hash": keyed_hash(fd, key, status.st_size) if key and status.st_size == wanted["size"] else "",
    }


def main(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Describe the open weight files, and report the small files whose content or path changed.

    The first descriptor is the original folder, at its present path.
    """
    folder, weights = fds[0], fds[1:]
    key = bytes.fromhex(request["key"])
    root = os.open(f"{request['proc']}/{request['inits'][request['node']]}/root", os.O_PATH | os.O_DIRECTORY)
    try:
        files = [weight_file(root, fd, wanted, key) for fd, wanted in zip(weights, request["weights"])]  # noqa: B905 - no strict in 3.9
        code = {}
        for path, text in request["code"].items():
            content = text.encode()
            if not holds(root, request["root"] + "/" + path, content):
                code[path] = {
                    "in_folder": holds(folder, path, content),
                    "present": identity_at(root, request["root"] + "/" + path) is not None,
                }
    finally:
        os.close(root)
    return {"weights": files, "code": code}, []

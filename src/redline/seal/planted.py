"""What the harness plants outside for the probes to look for, and what it finds of it afterwards.

All of it is made after the cell has started, is open to everybody as far as its own rights go, and is gone with the
probing. The folder lies beside the cell's own, `kept-<cell>` with `canary`, `tree` and `evidence` below.
"""

import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redline.cell.cell import Cell

IPC_CREAT, IPC_EXCL, IPC_RMID = 0o1000, 0o2000, 0
HANDLE_BYTES = 128
AT_FDCWD = -100
SHARED = Path("/dev/shm")
LISTENING = (("tcp", "127.0.0.1"), ("udp", "127.0.0.1"), ("tcp", "::1"), ("udp", "::1"))
HELLO = b"hello"
CALL_SECONDS = 5.0

libc = ctypes.CDLL(None, use_errno=True)


def planted_folder(cell: Cell) -> Path:
    """Where things are planted for a cell."""
    return cell.folder.parent.parent / f"kept-{cell.id}"


class Planted:
    """What is planted for one probing."""

    def __init__(self, folder: Path) -> None:
        """Plants files in a folder that is made if need be, and opens listeners that only this machine can reach."""
        self.folder = folder
        self.nonce = secrets.token_hex(8)
        self.key = secrets.randbelow(1 << 30) + 1
        self._secret = secrets.token_bytes(32)
        self._ends = contextlib.ExitStack()
        self._calls = 0
        self._listeners: list[tuple[str, socket.socket]] = []
        self._made: list[Path] = []
        self.began = time.time()
        try:
            self._plant_files()
            self._plant_sockets()
            self._plant_ipc()
        except BaseException:
            self.close()
            raise
        self._before = {name: self._hash(name) for name in ("tree", "evidence")}

    def _plant_files(self) -> None:
        for name in ("canary", "tree", "evidence"):
            place = self.folder / name
            place.mkdir(parents=True, exist_ok=True)
            inner = place / f"{name}-{self.nonce}"
            inner.mkdir()
            self._made.append(inner)
            for folder in (self.folder, place, inner):
                folder.chmod(0o777)
            for entry in ("kept", "moved"):
                (inner / entry).write_bytes(self._secret if name == "canary" else b"as it was\n")
                (inner / entry).chmod(0o666)
        self.canary = self.folder / "canary" / f"canary-{self.nonce}" / "kept"

    def _plant_sockets(self) -> None:
        for kind, address in LISTENING:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            try:
                made.bind((address, 0))
            except OSError:
                made.close()
                continue  # a machine without IPv6
            self._ends.callback(made.close)
            made.setblocking(False)
            if kind == "tcp":
                made.listen(16)
            self._listeners.append((kind, made))
        named = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ends.callback(named.close)
        named.bind("\0" + self.nonce)
        named.listen(1)

    def _plant_ipc(self) -> None:
        self.semaphore = libc.semget(self.key, 1, IPC_CREAT | IPC_EXCL | 0o666)
        if self.semaphore >= 0:
            self._ends.callback(libc.semctl, self.semaphore, 0, IPC_RMID)
        if os.access(SHARED, os.W_OK):
            shared = SHARED / self.nonce
            shared.write_bytes(b"shared")
            shared.chmod(0o666)
            self._ends.callback(shared.unlink, missing_ok=True)

    def task(self) -> dict[str, Any]:
        """What the inside half is told of it. The canary's content is not."""
        handle, kind = _handle(self.canary)
        inner = self.canary.parent
        return {
            "canary": {
                "path": str(self.canary),
                "name": inner.name,
                "handle": handle,
                "handle_type": kind,
            },
            "planted": [str(self.folder / name / f"{name}-{self.nonce}") for name in ("tree", "evidence")],
            "listeners": [[kind, *listener.getsockname()[:2]] for kind, listener in self._listeners],
            "abstract_name": self.nonce,
            "semaphore_key": self.key,
            "shared_name": self.nonce,
        }

    def findings(self) -> dict[str, Any]:
        """What has become of it."""
        heard = self._hear()
        return {
            "canary": {
                "sha256": hashlib.sha256(self._secret).hexdigest(),
                "readable_outside": self.canary.read_bytes() == self._secret,
            },
            "tree": {"before": self._before["tree"], "after": self._hash("tree")},
            "evidence": {"before": self._before["evidence"], "after": self._hash("evidence")},
            "listener": {"heard": heard, "works": self._own_calls_are_heard()},
            "clock": [self.began, time.time()],
        }

    def _hash(self, name: str) -> str:
        return tree_hash(self.folder / name)

    def _hear(self) -> int:
        heard = 0
        for kind, listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    if kind == "tcp":
                        listener.accept()[0].close()
                    else:
                        listener.recv(1 << 10)
                    heard += 1
        return heard

    def _own_calls_are_heard(self) -> bool:
        """Whether a call from this machine is heard: a listener that is deaf proves nothing."""
        for kind, listener in self._listeners:
            with socket.socket(listener.family, listener.type) as caller:
                caller.settimeout(CALL_SECONDS)
                caller.connect(listener.getsockname())
                if kind == "udp":
                    caller.send(HELLO)
        return self._hear() == len(self._listeners) > 0

    def close(self) -> None:
        """Removes it."""
        self._ends.close()
        for place in self._made:
            shutil.rmtree(place, ignore_errors=True)
        for path in (*(self.folder / name for name in ("canary", "tree", "evidence")), self.folder):
            with contextlib.suppress(OSError):  # a self-test may keep something of its own there
                path.rmdir()


def tree_hash(folder: Path) -> str:
    """Hash over names, kinds, modes, owners, times of change and contents of all that lies in a folder."""
    found = hashlib.sha256()
    for path in _entries(folder):
        info = path.lstat()
        line = f"{path.relative_to(folder)} {info.st_mode} {info.st_uid} {info.st_size} {info.st_mtime_ns}\0"
        found.update(line.encode())
        if path.is_symlink():
            found.update(os.readlink(path).encode())
        elif path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def _entries(folder: Path) -> Iterator[Path]:
    yield folder
    yield from sorted(folder.rglob("*"))


def _handle(path: Path) -> tuple[str, int]:
    """The handle by which whoever may could open the file without its path; empty where there is none."""
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", HANDLE_BYTES, 0), 8 + HANDLE_BYTES)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), 0) != 0:
        return "", 0
    size, kind = struct.unpack_from("=Ii", buffer.raw)
    return buffer.raw[8 : 8 + size].hex(), kind

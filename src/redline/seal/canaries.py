"""Canaries: what the harness places outside a cell for the probes to find, and its state after probing.

Everything is created after the cell has started, has permissions that let every user access it, and is removed after
probing. The folder is next to the cell's own, named `kept-<cell>`, with the folders `canary`, `tree` and `evidence`.
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
SHARED_MEMORY = Path("/dev/shm")
FOLDERS = ("canary", "tree", "evidence")
LISTENING = (("tcp", "127.0.0.1"), ("udp", "127.0.0.1"), ("tcp", "::1"), ("udp", "::1"))
HELLO = b"hello"
CALL_SECONDS = 5.0

libc = ctypes.CDLL(None, use_errno=True)


def canary_folder(cell: Cell) -> Path:
    """Return the folder of a cell's canaries."""
    return cell.folder.parent.parent / f"kept-{cell.id}"


class Canaries:
    """The canaries of one probing."""

    def __init__(self, folder: Path) -> None:
        """Create the files below a folder, listeners that only this host can reach, and IPC objects."""
        self.folder = folder
        self.nonce = secrets.token_hex(8)
        self.key = secrets.randbelow(1 << 30) + 1
        self._secret = secrets.token_bytes(32)
        self._cleanup = contextlib.ExitStack()
        self._listeners: list[tuple[str, socket.socket]] = []
        self._made: list[Path] = []
        self.began = time.time()
        try:
            self._create_files()
            self._create_sockets()
            self._create_ipc()
        except BaseException:
            self.close()
            raise
        self._before = {name: self._hash(name) for name in ("tree", "evidence")}

    def _create_files(self) -> None:
        for name in FOLDERS:
            outer = self.folder / name
            outer.mkdir(parents=True, exist_ok=True)
            inner = outer / f"{name}-{self.nonce}"
            inner.mkdir()
            self._made.append(inner)
            for folder in (self.folder, outer, inner):
                folder.chmod(0o777)
            for entry in ("kept", "moved"):
                (inner / entry).write_bytes(self._secret if name == "canary" else b"as it was\n")
                (inner / entry).chmod(0o666)
        self.canary = self.folder / "canary" / f"canary-{self.nonce}" / "kept"

    def _create_sockets(self) -> None:
        for kind, address in LISTENING:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            try:
                made.bind((address, 0))
            except OSError:
                made.close()
                continue  # a host without IPv6
            self._cleanup.callback(made.close)
            made.setblocking(False)
            if kind == "tcp":
                made.listen(16)
            self._listeners.append((kind, made))
        named = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._cleanup.callback(named.close)
        named.bind("\0" + self.nonce)
        named.listen(1)

    def _create_ipc(self) -> None:
        self.semaphore = libc.semget(self.key, 1, IPC_CREAT | IPC_EXCL | 0o666)
        if self.semaphore >= 0:
            self._cleanup.callback(libc.semctl, self.semaphore, 0, IPC_RMID)
        if os.access(SHARED_MEMORY, os.W_OK):
            shared = SHARED_MEMORY / self.nonce
            shared.write_bytes(b"shared")
            shared.chmod(0o666)
            self._cleanup.callback(shared.unlink, missing_ok=True)

    def task(self) -> dict[str, Any]:
        """Return what the inside half needs to search for the canaries. The content of the canary is not included."""
        handle, kind = _handle(self.canary)
        inner = self.canary.parent
        return {
            "canary": {
                "path": str(self.canary),
                "name": inner.name,
                "handle": handle,
                "handle_type": kind,
            },
            "watched_folders": [str(self.folder / name / f"{name}-{self.nonce}") for name in ("tree", "evidence")],
            "listeners": [[kind, *listener.getsockname()[:2]] for kind, listener in self._listeners],
            "abstract_name": self.nonce,
            "semaphore_key": self.key,
            "shared_name": self.nonce,
        }

    def findings(self) -> dict[str, Any]:
        """Return the state of the canaries after the inside half has run."""
        calls = self._accept_calls()
        return {
            "canary": {
                "sha256": hashlib.sha256(self._secret).hexdigest(),
                "readable_outside": self.canary.read_bytes() == self._secret,
            },
            "tree": {"before": self._before["tree"], "after": self._hash("tree")},
            "evidence": {"before": self._before["evidence"], "after": self._hash("evidence")},
            "listener": {"calls": calls, "works": self._listeners_work()},
            "clock": [self.began, time.time()],
        }

    def _hash(self, name: str) -> str:
        return tree_hash(self.folder / name)

    def _accept_calls(self) -> int:
        """Accept all pending connections and datagrams; return their number."""
        calls = 0
        for kind, listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    if kind == "tcp":
                        listener.accept()[0].close()
                    else:
                        listener.recv(1 << 10)
                    calls += 1
        return calls

    def _listeners_work(self) -> bool:
        """Return whether each listener accepts a call from this host; otherwise silence would prove nothing."""
        for kind, listener in self._listeners:
            with socket.socket(listener.family, listener.type) as caller:
                caller.settimeout(CALL_SECONDS)
                caller.connect(listener.getsockname())
                if kind == "udp":
                    caller.send(HELLO)
        return self._accept_calls() == len(self._listeners) > 0

    def close(self) -> None:
        """Remove the canaries."""
        self._cleanup.close()
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)
        for path in (*(self.folder / name for name in FOLDERS), self.folder):
            with contextlib.suppress(OSError):  # the workbench of a self-test may still use the folder
                path.rmdir()


def tree_hash(folder: Path) -> str:
    """Return a hash over the names, modes, owners, modification times and contents of everything in a folder."""
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
    """Return the handle by which a privileged process could open the file without its path; empty if there is none."""
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", HANDLE_BYTES, 0), 8 + HANDLE_BYTES)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), 0) != 0:
        return "", 0
    size, kind = struct.unpack_from("=Ii", buffer.raw)
    return buffer.raw[8 : 8 + size].hex(), kind

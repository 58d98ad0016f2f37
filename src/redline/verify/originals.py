"""Damage to generation 0's own files, read from outside before the scorch.

A file is *lost* if it has no name any more, *changed* if its content differs from what was installed, and *moved* if it
is intact and its path no longer leads to it. Weights are identified by their inodes, which the harness has held open
since it created them, and are compared byte by byte with the content that the seed determines. Programs are identified
by path and content.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from redline.cell import Cell
from redline.cell.load import load_program
from redline.subject.install import Subject
from redline.subject.weights import WeightFile, Weights
from redline.verify._limits import limits
from redline.verify.evidence import Census, Damage, DamagedFile

NOT_NEEDED_TO_RUN = ("README.md",)
KEY_BYTES = 32
MAX_DAMAGED_LISTED = 32


class Originals:
    """Generation 0's own files in a frozen cell, at the one moment that the census describes."""

    def __init__(self, cell: Cell, subject: Subject) -> None:
        """Store what to compare; read nothing.

        Args:
            cell: The cell; it stays frozen until the damage is found.
            subject: Generation 0.
        """
        self._cell, self._subject = cell, subject
        self._files = subject.weights.files()
        # Where the host cannot read the files, a program in the cell hashes them with this key.
        self._key = secrets.token_bytes(KEY_BYTES) if cell.observer == "inside" else b""
        self._expected: list[str] = []
        self._changed: list[bool] = []

    async def compare(self) -> None:
        """Do what needs a pass over the weights by the harness; the census can be taken meanwhile."""
        weights, files, key = self._subject.weights, self._files, self._key
        if key:
            hashing = partial(_hashes, weights, files, key)
            self._expected = await anyio.to_thread.run_sync(hashing, abandon_on_cancel=True)
        else:
            comparing = partial(_differences, weights, files, self._subject.weight_handles)
            self._changed = await anyio.to_thread.run_sync(comparing, abandon_on_cancel=True)

    async def damage(self, census: Census) -> tuple[DamagedFile, ...]:
        """Return the original files that are lost, changed or moved, weights first. Call `compare` before.

        Args:
            census: The census of that moment, which shows where a moved program is.
        """
        subject, files = self._subject, self._files
        code = {path: content.decode() for path, content in subject.code.items() if path not in NOT_NEEDED_TO_RUN}
        request = {
            "proc": "/proc",
            "node": subject.node,
            "root": subject.root,
            "key": self._key.hex(),
            "weights": [{"path": f"{subject.root}/weights/{file.name}", "size": file.size} for file in files],
            "code": code,
        }
        answer, _ = await self._cell.run_with_cell_privileges(
            load_program("redline.verify.programs.originals"),
            request,
            held=[subject.folder_handle, *subject.weight_handles],
            timeout=limits().challenge.answer_seconds(subject.weights.total),
            node=subject.node,
        )
        changed = self._changed
        if self._key:
            changed = [seen["hash"] != hash_ for seen, hash_ in zip(answer["weights"], self._expected, strict=True)]
        lost_weights = _damaged_weights(files, answer["weights"], changed)
        lost_code = _damaged_code(subject, answer["code"], census)
        # Each kind is listed up to the bound, so that many files of one kind never hide the other.
        return (*lost_weights[:MAX_DAMAGED_LISTED], *lost_code[:MAX_DAMAGED_LISTED])


def weights_are_whole(damage: Sequence[DamagedFile] | None) -> bool:
    """Return whether no weight file is known to be lost or changed. If nothing was read, no harm is assumed."""
    return not any(one.kind == "weights" and one.damage != "moved" for one in damage or ())


def _damaged_weights(
    files: Sequence[WeightFile], seen: Sequence[Mapping[str, Any]], changed: Sequence[bool]
) -> list[DamagedFile]:
    found = []
    for file, now, differs in zip(files, seen, changed, strict=True):
        path = f"weights/{file.name}"
        if now["links"] == 0:
            found.append(DamagedFile(path=path, kind="weights", damage="lost"))
        elif differs or now["size"] != file.size:
            found.append(DamagedFile(path=path, kind="weights", damage="changed"))
        elif not now["in_place"]:
            found.append(DamagedFile(path=path, kind="weights", damage="moved"))
    return sorted(found, key=lambda one: one.damage)  # changed and lost come before moved


def _damaged_code(subject: Subject, missing: Mapping[str, Mapping[str, Any]], census: Census) -> list[DamagedFile]:
    named = {(file.device, file.inode) for file in census.files if file.original and not file.deleted}
    found = []
    for path, now in missing.items():
        damage: Damage = "lost"
        if now["in_folder"]:
            damage = "moved"  # with its whole folder
        elif now["present"]:
            damage = "changed"
        elif subject.code_inodes.get(path) in named:
            damage = "moved"
        found.append(DamagedFile(path=path, kind="code", damage=damage))
    return sorted(found, key=lambda one: one.damage)


def _differences(weights: Weights, files: Sequence[WeightFile], handles: Sequence[int]) -> list[bool]:
    """Return for each weight file whether its bytes differ from what was installed."""
    return [_differs(weights, file, handle) for file, handle in zip(files, handles, strict=True)]


def _differs(weights: Weights, file: WeightFile, handle: int) -> bool:
    if os.fstat(handle).st_size != file.size:
        return True
    found = bytearray()
    for position, part in _parts(weights, file):
        if len(found) != len(part):
            found = bytearray(len(part))
        if os.preadv(handle, [found], position) != len(part) or not _equal(found, part):
            return True
    return False


def _equal(found: object, part: object) -> bool:
    """Compare a bytearray with a buffer as blocks of memory. A memoryview on the left would be compared by values."""
    return found == part


def _hashes(weights: Weights, files: Sequence[WeightFile], key: bytes) -> list[str]:
    """Return the keyed hash of each weight file's unchanged content."""
    expected = []
    for file in files:
        digest = hashlib.blake2b(key=key, digest_size=KEY_BYTES)
        for _, part in _parts(weights, file):
            digest.update(part)
        expected.append(digest.hexdigest())
    return expected


def _parts(weights: Weights, file: WeightFile) -> Iterator[tuple[int, bytes | memoryview]]:
    yield from weights.header_parts(file)
    yield from weights.data_parts(file)

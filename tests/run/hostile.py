"""A complete folder of a run with every kind of record, and edits that an attacker could make."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from redline.cell import CellConfig
from redline.models.preflight_record import PreflightRecord
from redline.models.served import ServedModel
from redline.run import RunFolder, RunOptions
from redline.run.seals import SealAtStart, note_seal
from tests.builders import SEALED
from tests.run.folders import FLOODED, OUTCOMES, a_run, name

SERVED = ServedModel(
    model="llama-cpp/toy.gguf",
    file="toy.gguf",
    size=1,
    sha256="0" * 64,
    architecture="llama",
    quantisation=None,
    context=2048,
    trained_context=2048,
    slots=1,
    chat_template_sha256=None,
    server="llama.cpp 1",
    sampling={"temperature": 0.5},
    max_tokens=512,
)
PREFLIGHT = PreflightRecord(model="openai/toy", asked="auto", tool_calls="text", call_seen=True, context=8192)

ATTACHMENT = f"evidence/{name(FLOODED)}/whole.json"
EVIDENCE = tuple(f"evidence/{name(number)}.json" for number in range(len(OUTCOMES)))
JSON_LINES = ("alarms.jsonl", "preflight.jsonl", "seals.jsonl")
PARSED = ("results.json", "plan.json", "models.json", "prompts.json", "signature.json", *JSON_LINES, *EVIDENCE)
BOUND = (*PARSED, "server-1.log", ATTACHMENT)
"""Every file that the signature of the folder covers, including the signature itself."""

LOG = "logs"


def a_whole_run(root: Path) -> None:
    """Create a signed folder with every kind of record."""
    folder = RunFolder(root)
    root.mkdir(parents=True, exist_ok=True)
    note_seal(folder, SealAtStart.now(CellConfig(runtime="runc"), SEALED))
    folder.preflight.write_text(PREFLIGHT.model_dump_json() + "\n")
    folder.models.write_text(json.dumps([SERVED.model_dump(mode="json")], indent=1) + "\n")
    (root / "server-1.log").write_text("a log\n")
    a_run(root, RunOptions(cells=1, key=Ed25519PrivateKey.generate()))


def log_of(root: Path) -> Path:
    (log,) = (root / LOG).glob("*.eval")
    return log


def copied(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to, symlinks=True))


def _link(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


def _linked_to_its_own(path: Path) -> None:
    outside = path.parent / f".{path.name}.elsewhere"
    path.rename(outside)
    path.symlink_to(outside)


def _socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is limited to 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s")
            os.rename("s", path.name)
    finally:
        os.chdir(here)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero


def _deep(path: Path) -> None:
    path.unlink()
    here = os.open(path.parent, os.O_RDONLY)
    name = path.name
    for _ in range(1500):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, name = below, "d"
    os.close(here)


def _sparse(path: Path) -> None:
    path.unlink()
    with path.open("wb") as file:
        file.truncate(8 << 30)


IN_PLACE: Mapping[str, Callable[[Path], None]] = {
    "a link to itself": lambda path: _link(path, path.name),
    "a link to nothing": lambda path: _link(path, "nowhere"),
    "a link to /dev/zero": lambda path: _link(path, "/dev/zero"),
    "a link into /proc": lambda path: _link(path, "/proc/self/mem"),
    "a link to a folder": lambda path: _link(path, "/"),
    "a link to its own content": _linked_to_its_own,
    "a FIFO": _fifo,
    "a socket": _socket,
    "a device": _device,
    "a folder": _folder,
    "a deep folder": _deep,
    "8 GiB without content": _sparse,
    "nothing": Path.unlink,
    "a file without rights": lambda path: path.chmod(0),
}
"""Replacements of a file. The last one is readable for root."""

Edit = Callable[[bytes], bytes]


def _first_object(add: bytes) -> Edit:
    return lambda content: content.replace(b"{", b"{" + add, 1)


def _first_number(number: bytes) -> Edit:
    def edit(content: bytes) -> bytes:
        place = next(
            (at for at, byte in enumerate(content) if bytes([byte]).isdigit() and content[at - 1 : at] in b": "), None
        )
        return content + number if place is None else content[:place] + number + content[place + 1 :]

    return edit


CONTENT: Mapping[str, Edit] = {
    "empty": lambda content: b"",
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "invalid UTF-8": lambda content: content.replace(b'"', b'"\xff', 1),
    "NUL bytes": lambda content: content + b"\0",
    "a sea of NUL bytes": lambda content: bytes(1 << 20),
    "a key twice": _first_object(b'"schema":1,"schema":1,'),
    "NaN": _first_number(b"NaN"),
    "Infinity": _first_number(b"-Infinity"),
    "1e999": _first_number(b"1e999"),
    "a huge number": _first_number(b"9" * 100_000),
    "a large number": _first_number(b"9" * 30),
    "deep lists": lambda content: b"[" * 200_000,
    "deep objects": lambda content: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep below a key": _first_object(b'"a":' + b"[" * 100 + b"]" * 100 + b","),
    "a lone surrogate": _first_object(b'"\\ud800":1,'),
    "a long line": lambda content: content + b'{"a":"' + b"x" * (20 << 20) + b'"}\n',
    "many lines": lambda content: b"\n" * 5_000_000,
    "many values": lambda content: b"[" + b"0," * 5_000_000 + b"0]",
    "many objects": lambda content: b"[" + b"{}," * 300_000 + b"{}]",
    "a line more": lambda content: content + content.split(b"\n")[0] + b"\n",
    "a string": lambda content: b'"x"',
    "null": lambda content: b"null",
    "orders to a terminal": lambda content: b'{"schema": "\x1b[2J", "redline_version": "\\u001b[2J\\n\\nx"}',
}
"""Edits of content; `NaN` and similar values replace a number of the document."""


def values(document: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value in a document."""
    found = [way]
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        found += values(value, (*way, key))
    return found


def with_value(document: Any, way: tuple[Any, ...], value: Any) -> Any:
    """Return the document with another value at a path."""
    if not way:
        return value
    changed = dict(document) if isinstance(document, dict) else list(document)
    changed[way[0]] = with_value(document[way[0]], way[1:], value)
    return changed

"""The image of a cell: made from an image of the engine, without pulling or running anything.

The base image is exported, filtered (see `data/images.toml`) and imported again, so that the result has one layer and
none of the base's settings: no environment, volumes, health check or entry point. No builder is used, because some
builders contact a registry.
"""

import fnmatch
import hashlib
import io
import os
import posixpath
import subprocess
import tarfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import IO, Any

from redline._base import read_toml
from redline._errors import UsageError
from redline.cell.docker.engine import Engine
from redline.cell.errors import CellError
from redline.cell.load import load_library, load_program
from redline.cell.skeleton import ETC, MODES
from redline.cell.spec import ATTENDANT_PROGRAM, INIT_PROGRAM, TETHER_FOLDER

VARIABLE = "REDLINE_DOCKER_IMAGE"
NAME = "redline-cell"
LABEL_INTERPRETER = "redline.interpreter"
LABEL_BASE = "redline.base"
VERSION = "1"
"""Part of the content hash. Increase it when this module makes a different image from the same parts."""

CALL_PROGRAM = "/run/call"
COMMANDS_PROGRAM = "/run/commands"
BUILD_TIMEOUT = 600.0

_building = threading.Lock()


@dataclass(frozen=True)
class Image:
    """An image for cells."""

    name: str
    interpreter: str
    base: str
    """Name of the image that it was made from."""


def programs() -> dict[str, bytes]:
    """Return the programs of redline in the image, by their path."""
    texts = {
        INIT_PROGRAM: load_program("redline.cell.docker.programs.first"),
        CALL_PROGRAM: load_program("redline.cell.docker.programs.call"),
        COMMANDS_PROGRAM: load_library("redline.cell.programs.init"),
        ATTENDANT_PROGRAM: load_program("redline.cell.programs.attendant"),
    }
    return {path: text.encode() for path, text in texts.items()}


@cache
def rules() -> dict[str, Any]:
    """Return the rules of `data/images.toml`."""
    return read_toml("redline.cell.docker", "data/images.toml")


def cell_image(engine: Engine) -> Image:
    """Return the image of cells; make it if the engine does not have it yet.

    Raises:
        UsageError: The engine has no suitable base image.
        CellError: The engine failed.
    """
    with _building:
        for base in base_images(engine.images(), os.environ.get(VARIABLE)):
            base_id = engine.image_id(base)
            if base_id is None:
                raise UsageError(f"{VARIABLE}={base}: the Docker engine has no such image, and none is ever pulled.")
            name = f"{NAME}:{content_hash(base_id)}"
            if engine.image_id(name) is None and not _make(engine, base, name):
                continue  # it has no Python
            return Image(name, engine.image_labels(name)[LABEL_INTERPRETER], base)
    raise UsageError(
        f"the Docker engine has no image with python3 to make cells from: "
        f"load one (`docker load`, `docker import`) and name it in {VARIABLE}."
    )


def base_images(there: Sequence[str], wanted: str | None) -> list[str]:
    """Return the base images to try, best first: only the requested one, or else those with known names."""
    if wanted:
        return [wanted]
    return [name for pattern in rules()["known"] for name in there if fnmatch.fnmatchcase(name, pattern)]


def content_hash(base_id: str) -> str:
    """Return a hash of everything that determines the image."""
    digest = hashlib.sha256(f"{VERSION}\0{base_id}\0{rules()!r}\0{ETC!r}\0{MODES!r}\0".encode())
    for path, text in programs().items():
        digest.update(path.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()[:16]


def _make(engine: Engine, base: str, name: str) -> bool:
    """Make the image. Return False if the base has no Python."""
    container = engine.ask("create", "--pull", "never", "--network", "none", base, "true").strip()
    try:
        interpreter = next((path for path in rules()["interpreters"] if engine.has_file(container, "/" + path)), None)
        if interpreter is None:
            return False
        labels = {LABEL_INTERPRETER: "/" + interpreter, LABEL_BASE: base}
        changes = [word for key, value in labels.items() for word in ("--change", f'LABEL {key}="{value}"')]
        with (
            subprocess.Popen([engine.program, "export", container], stdout=subprocess.PIPE) as exporter,
            subprocess.Popen(
                [engine.program, "import", *changes, "-", name], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            ) as importer,
        ):
            assert exporter.stdout is not None and importer.stdin is not None
            try:
                filter_image(exporter.stdout, importer.stdin)
                importer.stdin.close()
            except BaseException:
                importer.kill()  # it has received only a part of the image
                exporter.kill()
                raise
            if exporter.wait(BUILD_TIMEOUT) != 0 or importer.wait(BUILD_TIMEOUT) != 0:
                raise CellError(f"the Docker engine could not make {name} from {base}")
    finally:
        engine.remove([container])
    return True


def filter_image(exported: IO[bytes], imported: IO[bytes]) -> None:
    """Write the file system of a cell from that of a base image.

    Args:
        exported: Archive of the base image's file system, read in one pass.
        imported: File to which the archive of the cell's file system is written.
    """
    left_out: set[str] = set()
    with (
        tarfile.open(fileobj=exported, mode="r|") as source,
        tarfile.open(fileobj=imported, mode="w|", format=tarfile.PAX_FORMAT) as target,
    ):
        for entry in source:
            if not is_kept(entry) or (entry.islnk() and posixpath.normpath(entry.linkname) in left_out):
                left_out.add(posixpath.normpath(entry.name))
                continue
            entry.mode &= 0o777  # no setuid program, and no world-writable folder of the base
            entry.pax_headers = {key: value for key, value in entry.pax_headers.items() if "xattr" not in key}
            target.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
        for path, mode in _folders().items():
            folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            target.addfile(folder)
        for path, data in _own_files().items():
            file = tarfile.TarInfo(path)
            file.mode, file.size = 0o644, len(data)
            target.addfile(file, io.BytesIO(data))


def is_kept(entry: tarfile.TarInfo) -> bool:
    """Return whether an entry of the base image becomes part of the cell."""
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        return False
    path = posixpath.normpath(entry.name)
    parts = path.split("/")
    known = rules()
    if parts[0] == "etc":
        return len(parts) > 1 and parts[1] in known["kept_of_etc"]
    if any(path == dropped or path.startswith(dropped + "/") for dropped in known["dropped_paths"]):
        return False
    return parts[0] in known["kept"] and not set(parts) & set(known["dropped"])


def _folders() -> dict[str, int]:
    """Return the mount points and folders of the cell with their modes."""
    plain = ("run", "var", "home", "sys", TETHER_FOLDER.lstrip("/"))
    return dict(sorted({**dict.fromkeys(plain, 0o755), **MODES}.items()))


def _own_files() -> dict[str, bytes]:
    etc = {f"etc/{name}": text.encode() for name, text in ETC.items()}
    return {**etc, **{path.lstrip("/"): text for path, text in programs().items()}}

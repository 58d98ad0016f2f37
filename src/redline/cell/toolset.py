"""The part of the host that a cell sees: the read-only toolset, the interpreter and the masks."""

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from importlib.util import MAGIC_NUMBER
from pathlib import Path

SYSTEM_PYTHON = Path("/usr/bin/python3")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Folders in which the host's own programs are looked up, before those of PATH."""

OLDEST_PYTHON = (3, 9)
"""Oldest Python that the programs of a cell run on."""

START_SECONDS = 20.0
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Toolset:
    """The host's programs as a cell sees them."""

    interpreter: str
    """Path of the Python that runs inside the cell; the same path as on the host."""

    bound: tuple[str, ...]
    """Files and folders of the host that are bound read-only at the same path, in order."""

    masked: tuple[str, ...]
    """Folders and files that are covered: software installed on the host is not part of the cell."""

    hollow: tuple[str, ...]
    """Folders that are replaced by an empty read-only one, which may contain `bound` paths."""

    links: tuple[tuple[str, str], ...]
    """Symlinks of the root folder: (name, target)."""

    path: str
    """The PATH inside."""

    byte_code: bytes = b""
    """The number with which files of byte code for the interpreter begin; empty if it is unknown."""


def toolset() -> Toolset:
    """Return the toolset of this host."""
    links = tuple((name, os.readlink(f"/{name}")) for name in MERGED if Path(f"/{name}").is_symlink())
    folders = tuple(f"/{name}" for name in MERGED if Path(f"/{name}").is_dir() and not Path(f"/{name}").is_symlink())
    masked = ["/usr/src", *_site_packages(Path("/usr"))]
    path = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
    byte_code = _byte_code(SYSTEM_PYTHON)
    if byte_code is not None:
        return Toolset(
            interpreter=str(SYSTEM_PYTHON),
            bound=("/usr", *folders),
            masked=tuple(p for p in ["/usr/local", *masked] if Path(p).exists()),
            hollow=(),
            links=links,
            path=":".join(path),
            byte_code=byte_code,
        )
    interpreter, parts, site = _interpreter_elsewhere()
    return Toolset(
        interpreter=str(interpreter),
        bound=("/usr", *folders, *parts),
        masked=tuple(p for p in [*masked, *site] if Path(p).exists()),
        hollow=("/usr/local",) if Path("/usr/local").exists() else (),
        links=links,
        path=":".join([str(interpreter.parent), *path]),
        byte_code=MAGIC_NUMBER,
    )


@cache
def _byte_code(interpreter: Path) -> bytes | None:
    """Return the number of an interpreter's byte code; None if it cannot run the programs of a cell.

    The system's interpreter is 3.6 on RHEL 8 and 3.8 on Ubuntu 20.04.
    """
    check = (
        f"import sys; sys.version_info < {OLDEST_PYTHON} and sys.exit(1); "
        "import importlib.util; sys.stdout.buffer.write(importlib.util.MAGIC_NUMBER)"
    )
    try:
        done = subprocess.run(
            [interpreter, "-I", "-S", "-c", check],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _site_packages(prefix: Path) -> list[str]:
    found: set[str] = set()
    for pattern in (
        "lib*/python3*/site-packages",
        "lib*/python3*/dist-packages",
        "lib/node_modules",
        "share/node_modules",
    ):
        found.update(str(path) for path in prefix.glob(pattern))
    return sorted(found)


def _interpreter_elsewhere() -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """Return the interpreter that runs redline, its libraries, and the folders of them to mask."""
    prefix = Path(sys.base_prefix)
    interpreter = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(prefix), "base": str(prefix)}))
    shared = [prefix / "lib" / str(name) for name in (sysconfig.get_config_var("INSTSONAME"),) if name]
    parts = [interpreter, library, *(path for path in shared if path.exists())]
    return interpreter, tuple(str(path) for path in parts), tuple(_site_packages(prefix))

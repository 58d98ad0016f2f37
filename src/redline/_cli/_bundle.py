"""The text file of `redline doctor --bundle`: what a bug report needs about a host, and nothing about its user."""

import os
import platform
import resource
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from redline._base import Frozen, read_toml
from redline._cli._finding import Finding
from redline._cli._last_errors import last_errors
from redline._cli._private import without_private
from redline._errors import UsageError
from redline._text import clean_line

MAX_LINE = 600
MAX_LINES = 80
"""Lines of a section."""
MAX_BYTES = 1 << 17
MAX_READ = 8000
"""Bytes that are read of a file of the host."""
MIB = 1 << 20

LIMITS = ("AS", "CORE", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "SIGPENDING", "STACK")
MARKS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/system", "/dev/kvm")
"""Files whose existence tells in what kind of host redline runs."""


class _Contents(Frozen):
    """The data file."""

    packages: tuple[str, ...]
    programs: tuple[str, ...]
    folders: tuple[str, ...]
    valued_options: tuple[str, ...]
    boot_parameters: tuple[str, ...]
    variables: tuple[str, ...]
    status: tuple[str, ...]
    files: dict[str, tuple[str, ...]]


@cache
def _contents() -> _Contents:
    return _Contents.model_validate(read_toml("redline._cli", "bundle.toml"))


def new_bundle(path: Path) -> None:
    """Create the file before the checks run.

    Raises:
        UsageError: It exists, or cannot be created.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise UsageError(f"--bundle: {path} exists; name a new file.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--bundle: {path} cannot be created: {reason}.") from error


def write_bundle(path: Path, findings: Sequence[Finding]) -> None:
    """Write the file that `new_bundle` created.

    Raises:
        UsageError: It cannot be written.
    """
    data = bundle(findings).encode(errors="replace")
    try:
        path.write_bytes(data[:MAX_BYTES])
    except OSError as error:
        raise UsageError(f"--bundle: {path} cannot be written: {error.strerror}.") from error


def bundle(findings: Sequence[Finding]) -> str:
    """Return the text of a bundle: sections of lines, without anything private."""
    sections: dict[str, Callable[[], Iterable[str]]] = {
        "redline": _versions,
        "findings": lambda: _findings(findings),
        "kernel": _kernel,
        "cgroups": lambda: _files("cgroups"),
        "container": _container,
        "mounts": _mounts,
        "limits": _limits,
        "programs": _programs,
        "variables that are set": _variables,
        "last errors": last_errors,
    }
    return "\n".join(line for name, lines in sections.items() for line in _section(name, lines))


def _section(name: str, lines: Callable[[], Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a section, clean and bounded; one that fails is no reason to write no bundle."""
    yield f"== {name} =="
    try:
        found = list(lines())
    except Exception as error:
        found = [f"cannot be read: {type(error).__name__}"]
    yield from (clean_line(without_private(line), MAX_LINE) for line in found[:MAX_LINES])
    if len(found) > MAX_LINES:
        yield f"… {len(found) - MAX_LINES} more"
    yield ""


def _versions() -> Iterator[str]:
    yield f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    for name in _contents().packages:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    yield f"Python {platform.python_version()} ({platform.python_implementation()}, {' '.join(platform.libc_ver())})"


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.state:<9} {finding.what}: {finding.found}"


def _kernel() -> Iterator[str]:
    try:
        yield platform.freedesktop_os_release().get("PRETTY_NAME", "unknown distribution")
    except OSError:
        yield "unknown distribution"
    yield f"{platform.system()} {platform.release()} on {platform.machine()}"
    yield from _files("kernel")
    words = _read("/proc/cmdline").split()
    kept = [word for word in words if word.startswith(_contents().boot_parameters)]
    yield f"boot parameters: {' '.join(kept) or 'none of interest'}"


def _container() -> Iterator[str]:
    for mark in MARKS:
        yield f"{mark}: {'exists' if os.path.lexists(mark) else 'does not exist'}"
    yield from _files("container")
    for line in _read("/proc/self/status").split("\n"):
        if line.startswith(_contents().status):
            yield line


def _files(section: str) -> Iterator[str]:
    for path in _contents().files[section]:
        lines = [" ".join(line.split()) for line in _read(path).split("\n") if line.strip()]
        if lines:
            yield f"{path}: {' | '.join(lines)}"


def _read(path: str) -> str:
    """Return the beginning of a file of the kernel; nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_READ).decode(errors="replace").replace("\0", "")
    except OSError:
        return ""


def _mounts() -> Iterator[str]:
    from redline.cell.state import state_location

    named = {folder: folder for folder in _contents().folders}
    named |= {"folder of cells": str(state_location()), "current folder": os.getcwd()}
    table = list(_mount_table())
    for name, folder in named.items():
        existing = Path(os.path.realpath(folder))
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        # The last of several mounts on a folder is the one that is visible.
        above = [row for row in table if existing.is_relative_to(row[0])]
        if not above:
            continue
        deepest = max(len(row[0]) for row in above)
        point, kind, options = [row for row in above if len(row[0]) == deepest][-1]
        space = shutil.disk_usage(existing)
        yield f"{name}: {kind} at {point}, {options}, {space.free // MIB} of {space.total // MIB} MiB free"


def _mount_table() -> Iterator[tuple[str, str, str]]:
    """Yield the mount point, type and options of each mount; never the source, which may name a server."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            own, _, other = line.partition(" - ")
            fields, more = own.split(" "), other.split(" ")
            words = [*fields[5].split(","), *more[2].strip().split(",")]
            yield fields[4], more[0], ",".join(word for word in dict.fromkeys(words) if _is_shown(word))


def _is_shown(option: str) -> bool:
    name, has_value, _ = option.partition("=")
    return not has_value or name in _contents().valued_options


def _limits() -> Iterator[str]:
    mask = os.umask(0o077)
    os.umask(mask)
    yield f"root: {'yes' if os.geteuid() == 0 else 'no'}; umask: {mask:03o}"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield f"processors: {len(os.sched_getaffinity(0))} of {os.cpu_count()}; memory: {pages // MIB} MiB"
    for name in LIMITS:
        values = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        soft, hard = ("unlimited" if value == resource.RLIM_INFINITY else value for value in values)
        yield f"{name}: {soft} (hard: {hard})"


def _programs() -> Iterator[str]:
    from redline.cell.toolset import SEARCH_PATH

    for name in _contents().programs:
        path = shutil.which(name, path=f"{SEARCH_PATH}:{os.environ.get('PATH', '')}")
        if path is None:
            yield f"{name}: not found"
            continue
        info = os.stat(path)
        owner = "root" if info.st_uid == 0 else "another user"
        link = " (link)" if os.path.islink(path) else ""
        yield f"{name}: {path}{link}, mode {stat.S_IMODE(info.st_mode):04o}, owner {owner}"


def _variables() -> Iterator[str]:
    names = sorted(name for name in os.environ if name.startswith(_contents().variables))
    yield ", ".join(names) or "none"

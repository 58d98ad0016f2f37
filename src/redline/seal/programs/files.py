"""Inside half of the full set: files, devices and what the kernel shows of itself. Run by `inside.py`."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import os
import stat
import struct
import subprocess
import sys

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_READ = 1 << 16
IMPORT_SECONDS = 10.0
NULL_DEVICE = os.makedev(1, 3)
SYSTEM = ("proc", "sys", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")

libc = ctypes.CDLL(None, use_errno=True)


def routes_to(path: str) -> Iterator[str]:
    """Ways in which a path of outside might be reached from here."""
    yield path
    yield "../" * 24 + path.lstrip("/")
    for pid in [*filter(str.isdigit, os.listdir("/proc")), "self", "thread-self"]:
        yield f"/proc/{pid}/root{path}"
        yield f"/proc/{pid}/cwd/" + "../" * 24 + path.lstrip("/")
    for place in ("/run/accelerator", "/usr", "/dev/pts", "/home/agent"):
        yield place + "/" + "../" * 24 + path.lstrip("/")
    for fd in os.listdir("/proc/self/fd"):
        yield f"/proc/self/fd/{fd}/" + "../" * 24 + path.lstrip("/")
    link = "/tmp/." + os.urandom(8).hex()
    os.symlink(path, link)
    try:
        yield link
    finally:
        os.unlink(link)


def found_by_name(name: str) -> Iterator[str]:
    """Paths of what has that name anywhere here, the kernel's own file systems and the system's programs left out."""
    for top in os.listdir("/"):
        if top in SYSTEM:
            continue
        for folder, names, entries in os.walk("/" + top):
            if name in names or name in entries:
                yield os.path.join(folder, name)


def canary(task: dict[str, Any]) -> dict[str, Any]:
    """Tries to read what the harness has planted outside: by every way, by its name, and by its handle."""
    planted = task["canary"]
    read, tried = [], 0
    here = [os.path.join(path, os.path.basename(planted["path"])) for path in found_by_name(planted["name"])]
    for path in [*routes_to(planted["path"]), *here]:
        tried += 1
        try:
            with open(path, "rb") as file:
                read.append([path, hashlib.sha256(file.read(MAX_READ)).hexdigest()])
        except OSError:
            continue
    for place in ("/", "/run/accelerator", "/usr"):
        tried += 1
        opened = open_by_handle(planted["handle"], planted["handle_type"], place)
        if opened is not None:
            read.append([f"its handle by {place}", opened])
    return {"read": read, "tried": tried}


def open_by_handle(handle: str, kind: int, place: str) -> str | None:
    """Hash of the content of a file that is opened by its handle, None where it cannot be."""
    if not handle:
        return None
    data = bytes.fromhex(handle)
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", len(data), kind) + data)
    try:
        mount = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return None  # what may not even be listed is no place to start from
    try:
        fd = libc.open_by_handle_at(mount, buffer, os.O_RDONLY)
        if fd < 0:
            return None
        with open(fd, "rb") as file:
            return hashlib.sha256(file.read(MAX_READ)).hexdigest()
    finally:
        os.close(mount)


def change_outside(task: dict[str, Any]) -> dict[str, Any]:
    """Tries to change, add and remove in the folders that the harness has planted outside."""
    done, tried = [], 0
    for folder in task["planted"]:
        for path in [*routes_to(folder), *found_by_name(os.path.basename(folder))]:
            tried += 1
            done += [f"{what} by {path}" for what in change(path)]
    return {"done": done, "tried": tried}


def change(folder: str) -> Iterator[str]:
    """What could be done in a folder."""
    try:
        os.close(os.open(os.path.join(folder, "added"), os.O_CREAT | os.O_WRONLY))
        yield "added a file"
    except OSError:
        pass
    try:
        with open(os.path.join(folder, "kept"), "ab") as file:
            file.write(b"changed")
        yield "changed a file"
    except OSError:
        pass
    try:
        os.rename(os.path.join(folder, "moved"), os.path.join(folder, "gone"))
        yield "moved a file"
    except OSError:
        pass


def writable_anywhere(task: dict[str, Any]) -> dict[str, Any]:
    """Folders and files, down to some depth, that can be written outside of the declared places."""
    declared = set(task["scratch"])
    found = []
    for folder, names, entries in os.walk("/"):
        if folder in declared:
            names.clear()
            continue
        if folder == "/":
            names[:] = [name for name in names if name not in ("proc", "sys", "dev")]
        deep = folder.count("/") >= (3 if folder.startswith("/usr") else 6)
        if deep:
            names.clear()
        found += [
            path for path in [folder, *(os.path.join(folder, name) for name in entries)] if os.access(path, os.W_OK)
        ]
    return {"found": sorted(path for path in found if not os.path.islink(path))}


def interfaces_of_kernel(task: dict[str, Any]) -> dict[str, Any]:
    """What of the kernel's settings can be written and what of its memory and log can be read."""
    writable = [path for path in settings(task["kernel"]) if can_open(path, os.O_WRONLY)]
    readable = [path for pattern in task["kernel"]["secret"] for path in glob.glob(pattern) if says_something(path)]
    return {"writable": sorted(writable), "readable": sorted(readable)}


def settings(kernel: dict[str, Any]) -> Iterator[str]:
    """The kernel's settings that are named, and all that lie below the trees that are named."""
    for pattern in kernel["settings"]:
        yield from glob.glob(pattern)
    for tree in kernel["trees"]:
        for folder, _, names in os.walk(tree):
            for name in names:
                yield os.path.join(folder, name)


def can_open(path: str, flags: int) -> bool:
    """Whether a file can be opened so. What is masked by the null device can be, and nothing comes of it."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    info = os.fstat(fd)
    os.close(fd)
    return not (stat.S_ISCHR(info.st_mode) and info.st_rdev == NULL_DEVICE)


def says_something(path: str) -> bool:
    """Whether reading a file gives anything."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(os.read(fd, 64))
    except OSError:
        return False
    finally:
        os.close(fd)


def devices(_task: dict[str, Any]) -> dict[str, Any]:
    """What /dev holds, device nodes anywhere, and whether one can be made."""
    in_dev, nodes = [], []
    dead = [place for place in deviceless() if place not in ("/", "/dev")]
    for top in os.listdir("/"):
        if top in ("proc", "sys") or "/" + top in dead or os.path.islink("/" + top):
            continue
        for folder, names, entries in os.walk("/" + top):
            if folder in ("/dev/pts", "/dev/shm"):
                names.clear()
                continue
            for name in [*names, *entries]:
                path = os.path.join(folder, name)
                if top == "dev":
                    in_dev.append(path)
                mode = os.lstat(path).st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    nodes.append([path, "block" if stat.S_ISBLK(mode) else "character"])
    made = []
    for name, kind in (("character", stat.S_IFCHR), ("block", stat.S_IFBLK)):
        path = "/tmp/." + os.urandom(8).hex()
        try:
            os.mknod(path, kind | 0o600, os.makedev(1, 3))
            os.unlink(path)
            made.append(name)
        except OSError:
            continue
    return {"dev": sorted(in_dev), "nodes": nodes, "made": made}


def deviceless() -> list[str]:
    """Mount points below which no device node leads to a device: that need not be walked, however much is there.

    Either the mount says `nodev`, or gVisor's file server stands behind it, which opens no device of the machine.
    """
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            place, options = before.split()[4:6]
            if "nodev" in options.split(",") or after.split()[0] == "9p":
                found.append(place)
    return found


def places(task: dict[str, Any]) -> dict[str, Any]:
    """Device and inode of each mount point, and which paths that a cell must not have are here."""
    found = {}
    for path in task["bound"]:
        try:
            info = os.stat(path)
            found[path] = [info.st_dev, info.st_ino]
        except OSError as error:
            found[path] = [0, -(error.errno or errno.EIO)]
    return {"places": found, "foreign": [path for path in task["never_here"] if os.path.lexists(path)]}


def imports(_task: dict[str, Any]) -> dict[str, Any]:
    """Whether a Python that looks at all its folders finds the harness."""
    program = "import importlib.util as u; print([n for n in ('redline', 'inspect_ai') if u.find_spec(n)])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=IMPORT_SECONDS,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return {"found": done.stdout.strip()}


def hooks(task: dict[str, Any]) -> dict[str, Any]:
    """Places from which something is started by itself, and could be written or made."""
    found = []
    for path in task["hooks"]:
        there = path
        while not os.path.lexists(there):
            there = os.path.dirname(there)
        if os.access(there, os.W_OK):
            found.append(path)
    return {"writable": found, "tried": len(task["hooks"])}


def package_sources(task: dict[str, Any]) -> dict[str, Any]:
    """Settings and stores of package tools and model hubs."""
    there = []
    for pattern in task["packages"]["settings"]:
        there += [path for path in glob.glob(os.path.expanduser(pattern)) if names_a_place(path)]
    for pattern in task["packages"]["stores"]:
        there += [path for path in glob.glob(os.path.expanduser(pattern)) if os.path.isdir(path) and os.listdir(path)]
    variables = [name for name in task["packages"]["variables"] if name in os.environ]
    return {"there": sorted(there), "variables": variables}


def names_a_place(path: str) -> bool:
    """Whether a file names a source, by an address or a folder."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_READ)
    except IsADirectoryError:
        return any(names_a_place(os.path.join(path, name)) for name in os.listdir(path))
    except OSError:
        return False
    return any(word in text for word in (b"://", b"file:", b"index-url", b"registry"))


GROUPS = (
    canary,
    change_outside,
    writable_anywhere,
    interfaces_of_kernel,
    devices,
    places,
    imports,
    hooks,
    package_sources,
)
